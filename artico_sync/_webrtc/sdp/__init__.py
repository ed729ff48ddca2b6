"""Session descriptions, parsed, planned and written (RFC 8829)."""
