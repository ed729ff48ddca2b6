"""The SCTP association of the data channels (RFC 9260, 8831)."""
