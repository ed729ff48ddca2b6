"""What a message weighs on the wire; any thread."""

from __future__ import annotations


def message_size(data: str | bytes) -> int:
    """Bytes a message takes; an empty one takes one (RFC 8831 section 6.6).

    Raises:
        UnicodeEncodeError: Text with surrogates that stand alone.
    """
    if isinstance(data, str) and not data.isascii():
        return len(data.encode())
    return len(data) or 1
