"""Where private names of aiortc and aioice are used."""
