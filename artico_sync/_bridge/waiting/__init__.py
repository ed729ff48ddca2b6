"""Waits of user threads, with deadlines, and the ways to wake them."""
