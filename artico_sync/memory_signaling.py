"""Signals between the peers of one process, without sockets, for tests; user threads."""

from __future__ import annotations

import threading

from artico_sync._not_copyable import NotCopyable
from artico_sync.errors import IdTakenError, NotReadyError
from artico_sync.signaling import Message, Signaling


class MemoryHub(NotCopyable):
    """Joins the peers of one process; what a server is to `SocketSignaling`. Any thread.

    Example:
        >>> hub = MemoryHub()
        >>> with Artico(signaling=hub.signaling("carol")) as carol:
        ...     hub.peers
        ('carol',)
    """

    _copy_hint = "the peers to meet must share one hub; between processes they need a server."

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._peers: dict[str, MemorySignaling] = {}
        self._rooms: dict[str, list[str]] = {}

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the connected peers."""
        with self._lock:
            return tuple(self._peers)

    def signaling(self, id: str | None = None) -> MemorySignaling:
        """A new peer's signalling, for `Artico(signaling=...)`.

        Example:
            >>> hub = MemoryHub()
            >>> with Artico(signaling=hub.signaling("carol")) as carol:
            ...     carol.id
            'carol'

        Args:
            id: The wanted peer id, else 24 random letters and digits.

        Returns:
            The signalling, not connected.

        Raises:
            TypeError: An id that is not a str.
            ValueError: An empty id, or one that is no valid Unicode.
        """
        return MemorySignaling(self, id)

    def disconnect(self, id: str) -> None:
        """Cut a peer's connection, as a network fault would; it comes back by itself.

        Example:
            >>> hub = MemoryHub()
            >>> with Artico(signaling=hub.signaling("carol")) as carol:
            ...     hub.disconnect("carol")
            ...     carol.wait_for("reconnecting", timeout=5)

        Args:
            id: The peer's; one that is not connected is ignored.
        """
        with self._lock:
            peer = self._peers.pop(id, None)
        if peer is not None:
            peer.emit("disconnect")

    def _enter(self, peer: MemorySignaling) -> bool:
        with self._lock:
            return self._peers.setdefault(peer.id, peer) is peer

    def _leave(self, peer: MemorySignaling) -> None:
        with self._lock:
            if self._peers.get(peer.id) is peer:
                del self._peers[peer.id]
            for members in self._rooms.values():
                if peer.id in members:
                    members.remove(peer.id)

    def _find(self, id: object) -> MemorySignaling | None:
        with self._lock:
            return self._peers.get(id) if isinstance(id, str) else None

    def _join(self, peer: MemorySignaling, room: str) -> list[MemorySignaling]:
        with self._lock:
            members = self._rooms.setdefault(room, [])
            others = [
                self._peers[member]
                for member in members
                if member in self._peers and member != peer.id
            ]
            if peer.id not in members:
                members.append(peer.id)
            return others


class MemorySignaling(Signaling):
    """A peer's signalling on a `MemoryHub`: no sockets, for tests. `hub.signaling(id)` makes it.

    Example:
        >>> hub = MemoryHub()
        >>> with Artico(signaling=MemorySignaling(hub, "carol")) as carol:
        ...     carol.state
        'ready'

    Args:
        hub: Where the other peers are.
        id: The wanted peer id, else 24 random letters and digits.

    Raises:
        TypeError: An id that is not a str.
        ValueError: An empty id, or one that is no valid Unicode.
    """

    def __init__(self, hub: MemoryHub, id: str | None = None) -> None:
        super().__init__(id)
        self._hub = hub

    def connect(self) -> None:
        if self._hub._enter(self):
            self.emit("connect", self.id)
        else:
            self.emit(
                "error", IdTakenError("Another client is connected with this id.", peer=self.id)
            )

    def disconnect(self) -> None:
        self._hub._leave(self)
        self._state = "disconnected"

    def signal(self, message: Message) -> bool | None:
        """Hand the message to its target, whose handlers run before this returns.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.connect()
            >>> plain.signal({"target": "nobody", "session": "call:x", "signal": {"type": "x"}})
            False

        Args:
            message: A mapping with `target`, `session`, `signal` and maybe `metadata`.

        Returns:
            Whether there is such a peer.

        Raises:
            NotReadyError: Not connected.
        """
        if self._hub._find(self.id) is not self:
            raise NotReadyError("Not connected to the hub: connect() first.")
        target = self._hub._find(message.get("target"))
        if target is None:
            return False
        target.emit("signal", {**message, "source": self.id})
        return True

    def join(self, room: str, metadata: str | None = None) -> None:
        for other in self._hub._join(self, room):
            other.emit("join", room, self.id, metadata)
