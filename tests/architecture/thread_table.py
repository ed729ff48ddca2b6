"""The table of README.rst that says which folder runs on which thread and imports which others."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from tests.architecture.source_tree import ROOT

HEADER = "   * - Where\n     - Runs on\n     - May import\n"
#: Any other module or package at the top of the library.
PUBLIC = "public modules"


@dataclass(frozen=True)
class Row:
    """One row: the folders or modules, the thread, and the folders that they may import."""

    places: tuple[str, ...]
    thread: str
    may_import: tuple[str, ...]


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return the rows of the table, in order."""
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    assert text.count(HEADER) == 1, "README.rst has no table of threads"
    body = text.split(HEADER)[1]
    body = body[: re.search(r"\n\n\S", body).start()]  # type: ignore[union-attr]
    cells = [" ".join(cell.split()) for cell in re.split(r"^   [* ] - ", body, flags=re.MULTILINE)]
    cells = [cell for cell in cells if cell]
    assert len(cells) % 3 == 0, cells
    return tuple(
        Row(_names(cells[i]), cells[i + 1], _names(cells[i + 2])) for i in range(0, len(cells), 3)
    )


def _names(cell: str) -> tuple[str, ...]:
    named = tuple(re.findall(r"``([\w./]+)``", cell))
    return (*named, PUBLIC) if PUBLIC in cell else named


@functools.cache
def place_of(path: str) -> str:
    """Return the place of the table a module belongs to: the longest that fits."""
    places = [place for row in rows() for place in row.places if place != PUBLIC]
    fits = [
        place
        for place in places
        if path == place or (place.endswith("/") and path.startswith(place))
    ]
    return max(fits, key=len, default=PUBLIC)


def row_of(path: str) -> Row:
    """Return the row of the table a module belongs to."""
    place = place_of(path)
    return next(row for row in rows() if place in row.places)
