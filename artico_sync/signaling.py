"""Ways to carry the signals between peers, for code without asyncio; user threads.

`SocketSignaling` is what `Artico` uses by itself: Socket.IO, as Artico's server speaks it. Another
way is a subclass of `Signaling` with four methods, as `MemorySignaling` is.
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
from artico_sync._not_copyable import NotCopyable
from artico_sync._protocol.messages import new_peer_id

Message = Mapping[str, Any]


class Signaling(NotCopyable):
    """Carries signals to and from other peers under one id; a subclass says how.

    A subclass implements `connect`, `disconnect`, `signal` and `join`. They are called on a worker
    thread, one at a time, and may block. It reports with `emit`, from any thread:

    - `emit("connect", id)`: ready, known to the others as `id`;
    - `emit("disconnect")`: the connection was lost; `connect` is called again after a pause;
    - `emit("error", exception)`: connecting failed, or something else went wrong;
    - `emit("signal", message)`: a mapping with `source`, `session`, `signal`, maybe `metadata`;
    - `emit("join", room, peer_id, metadata)`: a peer came into a room.

    Example:
        >>> class Nowhere(Signaling):
        ...     def connect(self):
        ...         self.emit("connect", self.id)
        ...     def disconnect(self):
        ...         pass
        ...     def signal(self, message):
        ...         return False    # there is nobody to hear it
        ...     def join(self, room, metadata=None):
        ...         pass
        >>> with Artico(signaling=Nowhere("carol")) as carol:
        ...     carol.call("bob").wait_open(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.PeerUnavailableError: ...

    Args:
        id: The wanted peer id, else 24 random letters and digits.

    Raises:
        TypeError: An id that is not a str.
        ValueError: An empty id, or one that is no valid Unicode.
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
        """The own peer id."""
        return self._id

    @property
    def state(self) -> str:
        """`"disconnected"`, `"connecting"`, `"connected"` or `"ready"`."""
        return self._state

    def connect(self) -> None:
        """Begin to connect; `emit("connect", id)` when ready, now or later.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("connect", lambda id: print(f"ready as {id}"))
            >>> plain.connect()
            ready as dave

        Raises:
            Exception: Whatever is wrong; `Artico.connect` raises it, as a `SignalingError` where it
                is none, and tries again later where the connection had been lost.
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
            message: A mapping with `target`, `session`, `signal` and maybe `metadata`.

        Returns:
            False where the target is known to be unknown, True where it got it, None where nobody
            says.

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
        """Have `handler` called, on the thread that emits.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("connect", lambda id: print(f"ready as {id}"))
            >>> plain.connect()
            ready as dave

        Args:
            event: One of `EVENTS`.
            handler: Called with what `emit` was given.

        Raises:
            ValueError: Unknown event.
        """
        with self._handlers_lock:
            self._of(event).append(handler)

    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler, or all of an event; what is not registered is ignored.

        Example:
            >>> plain = MemoryHub().signaling("dave")
            >>> plain.on("connect", print)
            >>> plain.off("connect", print)
            >>> plain.connect()

        Args:
            event: One of `EVENTS`.
            handler: What `on` was given; None for all.

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
            arguments: What the handlers are called with; see `Signaling`.

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
        >>> with Artico(signaling=SocketSignaling(server.url, "dave")) as dave:
        ...     dave.id, dave.state
        ('dave', 'ready')

    Args:
        url: The server's URL.
        id: The wanted peer id, else 24 random letters and digits.
        token: Shown to a server that wants to know who connects.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: The URL cannot be one of a server, or the id is empty.
    """

    def __init__(self, url: str, id: str | None = None, *, token: str | None = None) -> None:
        super().__init__(id)
        self._bridge = SocketSignalingBridge(url, self.id, token, self.emit)

    @property
    def state(self) -> str:
        return self._bridge.state or self._state

    def _make_transport(self, id: str) -> SignalingTransport:
        """The engine's side of it, for an `Artico` that takes it over."""
        return self._bridge.make_transport(id)

    def connect(self, timeout: float | None = 10) -> None:
        """Block until ready; harmless when connected, any thread.

        Example:
            >>> plain = SocketSignaling(server.url, "dave")
            >>> plain.connect(timeout=5)
            >>> plain.state
            'ready'
            >>> plain.disconnect()

        Args:
            timeout: Seconds to wait; None for ever.

        Raises:
            IdTakenError, InvalidIdError, SignalingError: As the server says.
            ArticoTimeoutError: The time ran out.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        self._bridge.connect(timeout)

    def disconnect(self) -> None:
        """Disconnect and stop the threads; harmless when disconnected.

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
        """Send a message and wait for the server to say whether it was delivered.

        Example:
            >>> plain = SocketSignaling(server.url, "dave")
            >>> plain.connect(timeout=5)
            >>> plain.signal({"target": "nobody", "session": "call:x", "signal": {"type": "x"}})
            False
            >>> plain.disconnect()

        Args:
            message: A mapping with `target`, `session`, `signal` and maybe `metadata`.

        Returns:
            Whether the target got it; None where the server does not say, as Artico's own.

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
