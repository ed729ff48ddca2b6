"""ICE: the network path to the peer (RFC 8445)."""
