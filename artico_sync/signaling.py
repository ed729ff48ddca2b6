"""Ways to carry the signals between peers, for code without asyncio; user threads.

`SocketSignaling` is what `Artico` uses by itself: Socket.IO, as Artico's server speaks it.
`MemorySignaling` joins peers
of one process, for tests. Another way is a subclass of `Signaling` with four methods.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from artico_sync.bridge.socket_port import SIGNALING_EVENTS, SocketPort
from artico_sync.engine.wire import new_peer_id
from artico_sync.errors import IdTakenError, NotReadyError
from artico_sync.unique import Unique

if TYPE_CHECKING:
    from artico_sync.engine.signaling.transport import SignalingTransport

Message = Mapping[str, Any]


class Signaling(Unique):
    """Carries signals to and from other peers under one id; a subclass says how.

    A subclass implements `connect`, `disconnect`, `signal` and `join`. They are called on a worker
    thread, one at a
    time, and may block. It reports with `emit`, from any thread:

    - `emit("connect", id)`: ready, known to the others as `id`;
    - `emit("disconnect")`: the connection was lost; `connect` is called again after a pause;
    - `emit("error", exception)`: connecting failed, or something else went wrong;
    - `emit("signal", message)`: a mapping with `source`, `session`, `signal`, maybe `metadata`;
    - `emit("join", room, peer_id, metadata)`: a peer came into a room.

    Args:
        id: The wanted peer id, else 24 random letters and digits.
    """

    EVENTS = frozenset(SIGNALING_EVENTS)

    _INSTEAD = "make another; each connects with an id of its own."

    def __init__(self, id: str | None = None) -> None:
        self._id = check_peer_id(id) if id is not None else new_peer_id()
        self._state = "disconnected"
        self._handlers: dict[str, list[Callable[..., Any]]] = {name: [] for name in self.EVENTS}
        self._handlers_lock = threading.Lock()

    @property
    def id(self) -> str:
        """The own peer id."""
        return self._id

    @property
    def state(self) -> str:
        """`"disconnected"`, `"connecting"`, `"connected"` or `"ready"`."""
        return self._state

    def connect(self) -> None:
        """Begin to connect; `emit("connect", id)` when ready, now or later."""
        raise self._missing("connect")

    def disconnect(self) -> None:
        """Disconnect; no event follows."""
        raise self._missing("disconnect")

    def signal(self, message: Message) -> bool | None:
        """Send a message with `target`, `session`, `signal` and maybe `metadata`, keeping the
        order of calls.

        Returns:
            False where the target is known to be unknown, True where it got it, None where nobody
            says.
        """
        raise self._missing("signal")

    def join(self, room: str, metadata: str | None = None) -> None:
        """Enter a room."""
        raise self._missing("join")

    def _missing(self, method: str) -> TypeError:
        return TypeError(f"{type(self).__name__} does not implement {method}()")

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        """Have `handler` called, on the thread that emits.

        Raises:
            ValueError: Unknown event.
        """
        with self._handlers_lock:
            self._of(event).append(handler)

    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler, or all of an event.

        Raises:
            ValueError: Unknown event.
        """
        with self._handlers_lock:
            handlers = self._of(event)
            handlers[:] = [] if handler is None else [h for h in handlers if h != handler]

    def emit(self, event: str, *arguments: Any) -> None:
        """Report an event, from any thread.

        Raises:
            ValueError: Unknown event.
        """
        with self._handlers_lock:
            handlers = list(self._of(event))
        if event == "connect":
            self._state = "ready"
            if arguments:
                self._id = arguments[0]
        elif event == "disconnect":
            self._state = "disconnected"
        for handler in handlers:
            handler(*arguments)

    def _of(self, event: str) -> list[Callable[..., Any]]:
        if event not in self._handlers:
            raise ValueError(
                f"unknown event {event!r}; the events are {', '.join(sorted(self.EVENTS))}"
            )
        return self._handlers[event]


def check_peer_id(id: object) -> str:
    """Return a peer id after checking it.

    Raises:
        TypeError: Not a str.
        ValueError: Empty, or no valid Unicode.
    """
    if not isinstance(id, str):
        raise TypeError(f"a peer id must be a str, not {type(id).__name__}")
    if not id:
        raise ValueError("a peer id must not be empty")
    # Surrogates that stand alone cannot be sent.
    id.encode()
    return id


class SocketSignaling(Signaling):
    """Artico's signalling server over Socket.IO; usable by itself as well.

    Handlers run on a dispatcher thread of its own and may block.

    Example:
        >>> plain = SocketSignaling(server.url, "dave")
        >>> plain.connect()
        >>> plain.signal({"target": "nobody", "session": "call:x", "signal": {"type": "x"}})
        False
        >>> plain.disconnect()

    Args:
        url: The server's URL.
        id: The wanted peer id, else 24 random letters and digits.
        token: Shown to a server that wants to know who connects.

    Raises:
        ValueError: The URL cannot be one of a server.
    """

    def __init__(self, url: str, id: str | None = None, *, token: str | None = None) -> None:
        super().__init__(id)
        self._port = SocketPort(url, self.id, token, self.emit)

    @property
    def state(self) -> str:
        return self._port.state or self._state

    def make_transport(self, id: str) -> SignalingTransport:
        """The engine's side of it, for an `Artico` that takes it over."""
        return self._port.make_transport(id)

    def connect(self, timeout: float | None = 10) -> None:
        """Block until ready.

        Args:
            timeout: Seconds to wait; None for ever.

        Raises:
            IdTakenError, InvalidIdError, SignalingError: As the server says.
            ArticoTimeoutError: The time ran out.
        """
        self._port.connect(timeout)

    def disconnect(self) -> None:
        """Disconnect and stop the threads."""
        self._port.disconnect()
        self._state = "disconnected"

    def signal(self, message: Message) -> bool | None:
        """Send a message and wait for the server to say whether it was delivered; None where it
        does not.

        Raises:
            NotReadyError: Not connected.
        """
        return self._port.signal(dict(message))

    def join(self, room: str, metadata: str | None = None) -> None:
        """Enter a room.

        Raises:
            NotReadyError: Not connected.
        """
        self._port.join(room, metadata)


class MemoryHub(Unique):
    """Joins the peers of one process; what a server is to `SocketSignaling`.

    Example:
        >>> hub = MemoryHub()
        >>> with Artico(signaling=hub.signaling("carol")) as carol:
        ...     hub.peers
        ('carol',)
    """

    _INSTEAD = "the peers to meet must share one hub; between processes they need a server."

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
        """A new peer's signalling, for `Artico(signaling=...)`."""
        return MemorySignaling(self, id)

    def disconnect(self, id: str) -> None:
        """Cut a peer's connection, as a network fault would."""
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
    """A peer's signalling on a `MemoryHub`: no sockets, for tests.

    Args:
        hub: Where the other peers are.
        id: The wanted peer id, else 24 random letters and digits.
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
        """Hand the message to its target; returns whether there is one.

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
