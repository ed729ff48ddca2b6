"""Sizes of messages, on the wire and in buffers."""

from __future__ import annotations

#: Bytes a message counts for in buffers beyond its content, so that a bound on bytes is a bound
#: on the number of empty messages too.
OVERHEAD = 128


def message_size(data: str | bytes) -> int:
    """Return the size of a message's content in bytes.

    Raises:
        UnicodeEncodeError: The text has unpaired surrogates.
    """
    if isinstance(data, str) and not data.isascii():
        return len(data.encode())
    return len(data)


def footprint(data: str | bytes) -> int:
    """Return the bytes a message counts for in buffers: its content and the overhead."""
    if isinstance(data, str) and not data.isascii():
        return len(data.encode()) + OVERHEAD
    return len(data) + OVERHEAD
