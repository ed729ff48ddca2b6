"""RTP senders and receivers (RFC 3550)."""
