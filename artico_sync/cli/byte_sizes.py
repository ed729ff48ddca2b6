"""Numbers of bytes as people write and read them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]?)(i?b)?", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes from `500M`, `1.5 GiB` (of 1024) or `2GB` (of 1000); ValueError for what is none."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    number, unit, suffix = match.groups(default="")
    base = 1000 if suffix.lower() == "b" else 1024
    return int(float(number) * base ** " kmgt".index(unit.lower() or " "))


def format_size(number: float) -> str:
    """Bytes in the unit that makes the number short."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
