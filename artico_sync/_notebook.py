"""What is different in a notebook: a cell that connects is run again and again; user threads."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.waiting.deadline import Deadline

if TYPE_CHECKING:
    from artico_sync._bridge.client import ClientBridge
    from artico_sync.artico import Artico

logger = logging.getLogger("artico_sync._notebook")

# Seconds the calls of a client that a cell made earlier get to deliver what was sent.
CLOSE_TIMEOUT = 2.0


@dataclass(frozen=True)
class _Connection:
    """A client connected from a cell. The client itself is not kept alive by it: where no variable
    holds it any more, nobody else can close it."""

    client: weakref.ref[Artico]
    bridge: ClientBridge
    address: str | None
    id: str
    cell: str
    run: int

    @property
    def live(self) -> bool:
        return self.bridge.state != "disconnected"

    def gives_way(self, new: _Connection) -> bool:
        """Whether `new` is what this one was, after its cell has been run again."""
        if self.bridge is new.bridge:
            return False
        same_id = self.id == new.id and self.address == new.address is not None
        return same_id or (self.cell == new.cell and self.run != new.run)


# Of the kernel's whole life; those that are no longer connected are dropped at the next connect.
_connections: list[_Connection] = []
_lock = threading.Lock()


def _forget_after_fork() -> None:
    # They are the parent's to close; the lock may have been held by another thread.
    global _lock
    _lock = threading.Lock()
    _connections.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def close_former(rtco: Artico) -> None:
    """Close the client an earlier run of this cell left behind, and any that holds the id wanted.

    Only clients that a variable of the notebook holds, or nothing at all any more, are closed;
    outside IPython nothing happens.

    Args:
        rtco: The client about to connect.
    """
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    if shell is None:
        return
    new = _Connection(
        weakref.ref(rtco), rtco._bridge, rtco._address, rtco.id, _cell(shell), shell.execution_count
    )
    with _lock:
        # Those of this run may be about to connect, on other threads.
        kept = [each for each in _connections if each.live or each.run == new.run]
        _connections[:] = [each for each in kept if each.bridge is not new.bridge]
        former = [each for each in _connections if each.gives_way(new)]
        _connections.append(new)
    if former:
        gc.collect()
    for each in former:
        client = each.client()
        if client is None or any(value is client for value in list(shell.user_ns.values())):
            logger.info("closing the client %s, connected by an earlier run", each.id)
            each.bridge.close(Deadline(CLOSE_TIMEOUT))


def _cell(shell: Any) -> str:
    """What tells the running cell from others: the id its editor gives it, else its text."""
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    return str(cell if cell is not None else shell.user_ns.get("In", [""])[-1])
