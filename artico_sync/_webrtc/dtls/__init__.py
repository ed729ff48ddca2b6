"""The DTLS transport of a connection (RFC 8842)."""
