"""Two peers with an open call between them; user threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.testing.hub import Hub


@dataclass(frozen=True)
class ConnectedPair:
    """Two peers and the open call between them; `connected_pair` makes it.

    Example:
        >>> with connected_pair("hi") as pair:
        ...     pair.call.initiator, pair.call.target == pair.callee.id, pair.incoming.metadata
        (True, True, 'hi')

    Attributes:
        caller: The peer that placed the call.
        callee: The peer that answered it.
        call: The caller's end of the call.
        incoming: The callee's end of the same call.
    """

    caller: Artico
    callee: Artico
    call: Call
    incoming: Call


@contextmanager
def connected_pair(
    metadata: str | None = None, *, timeout: float = 10, **options: Any
) -> Iterator[ConnectedPair]:
    """Two peers with an open call between them, signalling in memory; closed at the end.

    Example:
        >>> with connected_pair() as pair:
        ...     pair.call.send("how are you?")
        ...     pair.incoming.recv(timeout=5)
        'how are you?'

    Args:
        metadata: Given with the call.
        timeout: Seconds the call may take to open.
        options: As for `Artico`, for both peers.

    Returns:
        For `with`: the `ConnectedPair`.

    Raises:
        ArticoTimeoutError: The call did not open in time.
    """
    with Hub() as hub:
        caller, callee = hub.make_artico(**options), hub.make_artico(**options)
        yield connect_pair(caller, callee, metadata, timeout)


def connect_pair(
    caller: Artico, callee: Artico, metadata: str | None, timeout: float
) -> ConnectedPair:
    """Open a call between two connected peers."""
    deadline = Deadline(timeout)
    call = caller.call(callee.id, metadata)
    incoming: Call = callee.wait_for("call", deadline.remaining())
    incoming.answer().wait_open(deadline.remaining())
    call.wait_open(deadline.remaining())
    return ConnectedPair(caller, callee, call, incoming)
