"""Artico's logic: the client, its calls, their signaling, negotiation and media."""
