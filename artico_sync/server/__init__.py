"""Artico's signaling server."""
