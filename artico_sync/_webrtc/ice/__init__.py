"""ICE: finding and keeping a path to the peer (RFC 8445)."""
