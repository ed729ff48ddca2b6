"""aiortc and aioice with what they lack; the only package that touches their private names."""
