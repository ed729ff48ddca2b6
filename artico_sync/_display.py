"""HTML tables of objects, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

_STYLE = "border-collapse:collapse;font-family:monospace"


def html_table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    """Return an HTML table with a title and a row for each name and value, all escaped."""
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(_text(value))}</td></tr>"
        for name, value in rows
    )
    return (
        f"<table style='{_STYLE}'><caption style='text-align:left'><b>{html.escape(title)}</b>"
        f"</caption>{body}</table>"
    )


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(inner) for inner in value) or "none"
    return str(value)


class Stats(dict[str, Any]):
    """A plain dict of numbers, shown as a table in a notebook."""

    def _repr_html_(self) -> str:
        return html_table("Statistics", self.items())
