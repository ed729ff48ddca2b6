"""What a message weighs, on the wire and in the buffers; any thread."""

from __future__ import annotations

#: Bytes a message counts in buffers beyond its own, so that empty ones cannot pile up without
# bound.
OVERHEAD = 128


def message_size(data: str | bytes) -> int:
    """Bytes of a message's content.

    Raises:
        UnicodeEncodeError: Text with surrogates that stand alone.
    """
    if isinstance(data, str) and not data.isascii():
        return len(data.encode())
    return len(data)


def footprint(data: str | bytes) -> int:
    """Return the bytes a message counts for in buffers: its content and the overhead."""
    return message_size(data) + OVERHEAD
