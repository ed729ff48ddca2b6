"""Artico's messages, limits and settings, shared by client and server."""
