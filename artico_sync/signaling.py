"""Ways to carry the signals between peers, for code without asyncio.

`SocketSignaling` is the one `Artico` uses by itself: Socket.IO, as Artico's server speaks it.
`MemorySignaling` connects the peers of one process. Another way is a subclass of `Signaling` with
four methods.

Large because more than half of it is documentation with examples.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from artico_sync._bridge.signaling import (
    SIGNALING_EVENTS,
    SignalingTransport,
    SocketSignalingBridge,
)
from artico_sync._checks import NotCopyable, check_text, check_unicode
from artico_sync._protocol.messages import new_peer_id
from artico_sync.errors import IdTakenError, NotReadyError

Message = Mapping[str, Any]


class Signaling(NotCopyable):
    """Carries signals to and from other peers under one id. A subclass implements it.

    A subclass implements `connect`, `disconnect`, `signal` and `join`. They are called on a worker
    thread, one at a time, and may block. It reports with `emit`, from any thread:

    - `emit("connect", id)`: ready, known to the others as `id`;
    - `emit("disconnect")`: the connection was lost; `connect` is called again after a pause;
    - `emit("error", exception)`: connecting failed, or something else went wrong;
    - `emit("signal", message)`: a mapping with `source`, `session`, `signal`, and maybe `metadata`;
    - `emit("join", room, peer_id, metadata)`: a peer came into a room.

    Example:
        >>> class Nowhere(Signaling):
        ...     def connect(self):
        ...         self.emit("connect", self.id)
        ...     def disconnect(self):
        ...         pass
        ...     def signal(self, message):
        ...         return False    # no peer is there
        ...     def join(self, room, metadata=None):
        ...         pass
        >>> with Artico(signaling=Nowhere("carol")) as carol:
        ...     carol.call("bob").wait_open(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.PeerUnavailableError: ...

    Args:
        id: The wanted peer id, else 24 random letters and digits.

    Raises:
        TypeError: The id is not a str.
        ValueError: The id is empty, or not valid Unicode.
    """

    EVENTS = frozenset(SIGNALING_EVENTS)

    _copy_hint = "make another; each connects with an id of its own."

    def __init__(self, id: str | None = None) -> None:
        self._id = check_peer_id(id) if id is not None else new_peer_id()
        self._state = "disconnected"
        self._handlers: dict[str, list[Callable[..., Any]]] = {name: [] for name in self.EVENTS}
        self._handlers_lock = threading.Lock()

    @property
    def id(self) -> str:
        """The peer id of this side."""
        return self._id

    @property
    def state(self) -> str:
        """`"disconnected"`, `"connecting"`, `"connected"` or `"ready"`."""
        return self._state

    def connect(self) -> None:
        """Begin to connect; `emit("connect", id)` when ready, at once or later.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("connect", lambda id: print(f"ready as {id}"))
            >>> plain.connect()
            ready as dave

        Raises:
            Exception: Any, if connecting fails. `Artico.connect` raises it, as the cause of a
                `SignalingError` unless it is one; after a lost connection the client tries again
                later.
            TypeError: The subclass does not implement it.
        """
        raise self._missing("connect")

    def disconnect(self) -> None:
        """Disconnect; no event follows.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.connect()
            >>> plain.disconnect()
            >>> plain.state
            'disconnected'

        Raises:
            TypeError: The subclass does not implement it.
        """
        raise self._missing("disconnect")

    def signal(self, message: Message) -> bool | None:
        """Send a message, keeping the order of calls.

        Example:
            >>> hub = MemoryHub()
            >>> dave, erin = hub.signaling("dave"), hub.signaling("erin")
            >>> dave.connect(), erin.connect()
            (None, None)
            >>> erin.on("signal", lambda message: print(message["source"], message["signal"]))
            >>> dave.signal({"target": "erin", "session": "call:x", "signal": {"type": "x"}})
            dave {'type': 'x'}
            True

        Args:
            message: A mapping with `target`, `session`, `signal` and perhaps `metadata`.

        Returns:
            True if the target received it, False if there is no such peer, None if the transport
            cannot tell.

        Raises:
            NotReadyError: Not connected.
            TypeError: The subclass does not implement it.
        """
        raise self._missing("signal")

    def join(self, room: str, metadata: str | None = None) -> None:
        """Enter a room: the others in it get the event `join`.

        Example:
            >>> hub = MemoryHub()
            >>> dave, erin = hub.signaling("dave"), hub.signaling("erin")
            >>> dave.connect(), erin.connect()
            (None, None)
            >>> dave.on("join", lambda room, id, metadata: print(room, id))
            >>> dave.join("kitchen")
            >>> erin.join("kitchen")
            kitchen erin

        Args:
            room: The room's name.
            metadata: Shown to the others.

        Raises:
            TypeError: The subclass does not implement it.
        """
        raise self._missing("join")

    def _missing(self, method: str) -> TypeError:
        return TypeError(f"{type(self).__name__} does not implement {method}()")

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        """Call `handler` for every event of that name, on the thread that emits.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("connect", lambda id: print(f"ready as {id}"))
            >>> plain.connect()
            ready as dave

        Args:
            event: One of `EVENTS`.
            handler: Called with the arguments given to `emit`.

        Raises:
            ValueError: Unknown event.
        """
        with self._handlers_lock:
            self._of(event).append(handler)

    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler, or all handlers of an event; one that is not registered is ignored.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("connect", print)
            >>> plain.off("connect", print)
            >>> plain.connect()

        Args:
            event: One of `EVENTS`.
            handler: As given to `on`; None for all.

        Raises:
            ValueError: Unknown event.
        """
        with self._handlers_lock:
            handlers = self._of(event)
            handlers[:] = [] if handler is None else [h for h in handlers if h != handler]

    def emit(self, event: str, *arguments: Any) -> None:
        """Report an event, from any thread; for subclasses. The handlers run before it returns.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("join", lambda room, id, metadata: print(room, id, metadata))
            >>> plain.emit("join", "kitchen", "erin", None)
            kitchen erin None

        Args:
            event: One of `EVENTS`.
            arguments: Passed to the handlers; see `Signaling`.

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
        ValueError: Empty, or not valid Unicode.
    """
    text = check_text("a peer id", id)
    if not text:
        raise ValueError("a peer id must not be empty")
    check_unicode(text)
    return text


class SocketSignaling(Signaling):
    """Signaling through Artico's server, over Socket.IO; usable by itself as well.

    Handlers run on a dispatcher thread of its own and may block.

    Example:
        >>> with Artico(signaling=SocketSignaling(server.url, "dave")) as dave:
        ...     dave.id, dave.state
        ('dave', 'ready')

    Args:
        url: The server's URL.
        id: The wanted peer id, else 24 random letters and digits.
        token: Shown to a server that authenticates its clients.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: The URL cannot be that of a server, or the id is empty.
    """

    def __init__(self, url: str, id: str | None = None, *, token: str | None = None) -> None:
        super().__init__(id)
        self._bridge = SocketSignalingBridge(url, self.id, token, self.emit)

    @property
    def state(self) -> str:
        return self._bridge.state or self._state

    def _make_transport(self, id: str) -> SignalingTransport:
        """Return a new transport to the server, for an `Artico` that was given this object."""
        return self._bridge.make_transport(id)

    def connect(self, timeout: float | None = 10) -> None:
        """Block until ready; return at once when connected.

        Example:
            >>> plain = SocketSignaling(server.url, "dave")
            >>> plain.connect(timeout=5)
            >>> plain.state
            'ready'
            >>> plain.disconnect()

        Args:
            timeout: Seconds to wait; None without limit.

        Raises:
            IdTakenError: Another peer holds the wanted id.
            InvalidIdError: The server does not accept the id.
            SignalingError: The server cannot be reached, or refuses.
            ArticoTimeoutError: The time ran out.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        self._bridge.connect(timeout)

    def disconnect(self) -> None:
        """Disconnect and stop the threads; no effect when disconnected.

        Example:
            >>> plain = SocketSignaling(server.url, "dave")
            >>> plain.connect(timeout=5)
            >>> plain.disconnect()
            >>> plain.state
            'disconnected'

        Raises:
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        self._bridge.disconnect()
        self._state = "disconnected"

    def signal(self, message: Message) -> bool | None:
        """Send a message and wait until the server reports its delivery.

        Example:
            >>> plain = SocketSignaling(server.url, "dave")
            >>> plain.connect(timeout=5)
            >>> plain.signal({"target": "nobody", "session": "call:x", "signal": {"type": "x"}})
            False
            >>> plain.disconnect()

        Args:
            message: A mapping with `target`, `session`, `signal` and perhaps `metadata`.

        Returns:
            True if the target received it, False if there is no such peer, None if the server does
            not report it, as Artico's own.

        Raises:
            NotReadyError: Not connected.
            ArticoTimeoutError: The server has not answered within 5 s.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        return self._bridge.signal(dict(message))

    def join(self, room: str, metadata: str | None = None) -> None:
        """Enter a room: the others in it get the event `join`.

        Example:
            >>> plain = SocketSignaling(server.url, "dave")
            >>> plain.connect(timeout=5)
            >>> plain.join("kitchen")
            >>> plain.disconnect()

        Args:
            room: The room's name.
            metadata: Shown to the others.

        Raises:
            NotReadyError: Not connected.
            ForkError: Connected in another process.
        """
        self._bridge.join(room, metadata)


class MemoryHub(NotCopyable):
    """Connects the peers of one process, as a server connects those of `SocketSignaling`.

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
        """Return a new peer's signaling, for `Artico(signaling=...)`.

        Example:
            >>> hub = MemoryHub()
            >>> with Artico(signaling=hub.signaling("carol")) as carol:
            ...     carol.id
            'carol'

        Args:
            id: The wanted peer id, else 24 random letters and digits.

        Returns:
            The signaling, not connected.

        Raises:
            TypeError: The id is not a str.
            ValueError: The id is empty, or not valid Unicode.
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
    """A peer's signaling on a `MemoryHub`, without sockets, for tests; made by `hub.signaling(id)`.

    Example:
        >>> hub = MemoryHub()
        >>> with Artico(signaling=MemorySignaling(hub, "carol")) as carol:
        ...     carol.state
        'ready'

    Args:
        hub: The hub of the other peers.
        id: The wanted peer id, else 24 random letters and digits.

    Raises:
        TypeError: The id is not a str.
        ValueError: The id is empty, or not valid Unicode.
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
            message: A mapping with `target`, `session`, `signal` and perhaps `metadata`.

        Returns:
            True if there is such a peer.

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
