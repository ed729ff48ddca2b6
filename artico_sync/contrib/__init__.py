"""Integrations with web frameworks: Flask and Django."""
