"""Tables for notebooks, and the take-over of a client by the cell that connects it again."""

from __future__ import annotations

import gc
import html
import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from artico_sync._bridge.waiting.deadline import Deadline

logger = logging.getLogger(__name__)

# Seconds the calls of a former client get to deliver what was sent.
CLOSE_SECONDS = 2.0
_STYLE = "border-collapse:collapse;font-family:monospace"


class ClosableClient(Protocol):
    """The half of a client that can be closed when no variable holds the client any more."""

    @property
    def state(self) -> str: ...
    def close(self, deadline: Deadline) -> None: ...


@dataclass(frozen=True)
class _Connection:
    """A client connected from a cell.

    The client itself is not kept alive by it; its bridge is, so that it can be closed after the
    last variable that held the client is gone.
    """

    client: weakref.ref[object]
    bridge: ClosableClient
    address: str | None
    id: str
    cell: str
    run: int

    @property
    def live(self) -> bool:
        return self.bridge.state != "disconnected"

    def is_replaced_by(self, new: _Connection) -> bool:
        """Return True if `new` connects the same id, or is from a later run of the same cell."""
        if self.bridge is new.bridge:
            return False
        same_id = self.id == new.id and self.address == new.address is not None
        return same_id or (self.cell == new.cell and self.run != new.run)


# Since the start of the kernel; those no longer connected are dropped at the next connect.
_connections: list[_Connection] = []
_lock = threading.Lock()


def _forget_after_fork() -> None:
    # The parent closes them; another thread may have held the lock.
    global _lock
    _lock = threading.Lock()
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def close_former(client: object, bridge: ClosableClient, id: str, address: str | None) -> None:
    """Close the client an earlier run of this cell left behind, and any that holds the wanted id.

    A former client is closed only if a variable of the notebook refers to it, or nothing does any
    more; one that a list or another object holds goes on. Outside IPython nothing happens.

    Args:
        client: The client about to connect.
        bridge: Its bridge.
        id: The id it wants.
        address: The server's URL; None if it signals in another way.
    """
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is None:
        return
    new = _Connection(weakref.ref(client), bridge, address, id, _cell(shell), shell.execution_count)
    with _lock:
        # Those of this run may be about to connect, on other threads.
        known = [each for each in _connections if each.live or each.run == new.run]
        _connections[:] = [each for each in known if each.bridge is not new.bridge]
        former = [each for each in _connections if each.is_replaced_by(new)]
        _connections.append(new)
    if former:
        gc.collect()
    for each in former:
        held = each.client()
        if held is None or any(value is held for value in list(shell.user_ns.values())):
            logger.info("closing the client %s, connected by an earlier run", each.id)
            each.bridge.close(Deadline(CLOSE_SECONDS))


def _cell(shell: Any) -> str:
    """Return the id the editor gives the running cell, or its text."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    return str(cell if cell is not None else shell.user_ns.get("In", [""])[-1])


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
