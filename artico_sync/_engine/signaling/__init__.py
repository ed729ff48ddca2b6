"""Transports that carry signals between a client and a signaling server."""
