"""Places this library feels at home in: Flask and Django."""
