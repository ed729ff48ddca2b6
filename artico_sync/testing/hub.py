"""Signalling in memory for the peers of one test; user threads."""

from __future__ import annotations

from typing import Any

from artico_sync.artico import Artico
from artico_sync.signaling import MemoryHub
from artico_sync.testing.peers import Peers, TestClient


class Hub(MemoryHub):
    """Joins the peers of one test: no server and no sockets for signalling, real WebRTC between
    the peers.

    Leaving its `with` closes the peers. `hub.signaling(id)` gives what `Artico(signaling=...)`
    takes, for code that makes its own; `hub.disconnect(id)` cuts a peer's signalling as a network
    fault would.

    Example:
        >>> with Hub() as hub:
        ...     alice, carol = hub.make_artico("alice"), hub.make_artico("carol")
        ...     call = alice.call("carol")
        ...     carol.wait_for("call", timeout=5).answer().wait_open(timeout=5).open
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._made = Peers()

    def make_artico(self, id: str | None = None, *, connect: bool = True, **options: Any) -> Artico:
        """A peer on this hub, closed with it.

        Example:
            >>> with Hub() as hub:
            ...     hub.make_artico("alice", ring_timeout=5).state
            'ready'

        Args:
            id: The wanted peer id, else a random one.
            connect: Connect it.
            options: As for `Artico`; no STUN servers unless `rtc_config` names some.

        Returns:
            The peer.

        Raises:
            TypeError, ValueError: As `Artico`.
            IdTakenError: There is a peer with that id.
        """
        rtco = TestClient(signaling=self.signaling(id), **options)
        self._made.add(rtco)
        return rtco.connect() if connect else rtco

    def close(self) -> None:
        """Close the peers made here; twice is harmless.

        Example:
            >>> hub = Hub()
            >>> alice = hub.make_artico("alice")
            >>> hub.close()
            >>> alice.state
            'disconnected'
        """
        self._made.close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
