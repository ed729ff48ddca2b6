"""Session descriptions: parsing, planning and writing (RFC 8866, RFC 8829)."""
