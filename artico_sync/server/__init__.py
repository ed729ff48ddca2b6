"""Artico's signalling server; runs on whatever loop serves it."""
