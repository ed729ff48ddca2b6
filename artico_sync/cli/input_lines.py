"""Lines of standard input, as they come; the thread that sends them."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator

CHUNK = 64 * 1024


def input_lines() -> Iterator[str]:
    """The lines of stdin without their ends, each at once; what is no text becomes U+FFFD."""
    if sys.stdin is None:
        return
    # Not through sys.stdin: a daemon thread blocked in its reader would hold a lock that the
    # interpreter needs to exit.
    descriptor = sys.stdin.fileno()
    decoder = codecs.getincrementaldecoder(sys.stdin.encoding)(errors="replace")
    unfinished: list[str] = []
    while chunk := os.read(descriptor, CHUNK):
        first, *rest = decoder.decode(chunk).split("\n")
        unfinished.append(first)
        for text in rest:
            yield "".join(unfinished).removesuffix("\r")
            unfinished = [text]
    last = "".join(unfinished) + decoder.decode(b"", final=True)
    if last:
        yield last
