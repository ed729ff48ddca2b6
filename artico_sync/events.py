"""Events as users see them: `on`, `once`, `off` and `wait_for`, and the types of their handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._checks import NotCopyable, check_text

if TYPE_CHECKING:
    from artico_sync.media.remote import RemoteMediaStream, RemoteTrack

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class EventEmitter(NotCopyable):
    """Base of the objects that emit events; every method may be called from any thread."""

    _EVENTS: dict[str, int] = {}

    def _mailbox_of(self) -> Mailbox:
        raise AssertionError("a subclass returns the mailbox of its events")

    def _check_process(self) -> None:
        """Refuse any use in a forked child of the process that connected."""

    def _check_wait(self) -> None:
        """Refuse a blocking call that cannot work on this thread or in this process."""

    def _check_event(self, event: str) -> str:
        check_text("the event name", event)
        if event not in self._EVENTS:
            raise ValueError(
                f"unknown event {event!r}; the events are {', '.join(sorted(self._EVENTS))}"
            )
        return event

    @overload
    def on(self, event: str, handler: None = None) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def on(self, event: str, handler: HandlerT) -> HandlerT: ...

    def on(self, event: str, handler: HandlerT | None = None) -> Any:
        """Call `handler` for every event of that name, those that wait included.

        Handlers run on one dispatcher thread per client, one at a time and in the order of the
        events; they may block and call anything here. A handler may take fewer arguments than the
        event has. An exception in one is logged and has no other effect.

        Example:
            >>> @call.on("data")
            ... def answer(text):
            ...     call.send(text.upper())
            >>> incoming.send("hello")
            >>> incoming.recv(timeout=5)
            'HELLO'

        Args:
            event: The event's name.
            handler: Called with the event's arguments. Left out, `on` works as a decorator.

        Returns:
            The handler, or the decorator.

        Raises:
            ValueError: Unknown event; the message lists the valid ones.
            ForkError: Connected in another process.
            TypeError: The handler is not callable, is a coroutine function, or needs more
                arguments.
        """
        return self._register(event, handler, once=False)

    @overload
    def once(self, event: str, handler: None = None) -> Callable[[HandlerT], HandlerT]: ...

    @overload
    def once(self, event: str, handler: HandlerT) -> HandlerT: ...

    def once(self, event: str, handler: HandlerT | None = None) -> Any:
        """Call `handler` for the next event of that name only.

        Example:
            >>> @call.once("data")
            ... def first(text):
            ...     call.send(f"first: {text}")
            >>> incoming.send("one")
            >>> incoming.send("two")
            >>> incoming.recv(timeout=5), call.recv(timeout=5)
            ('first: one', 'two')

        Args:
            event: The event's name.
            handler: Called with the event's arguments. Left out, `once` works as a decorator.

        Returns:
            The handler, or the decorator.

        Raises:
            ValueError: Unknown event; the message lists the valid ones.
            ForkError: Connected in another process.
            TypeError: The handler is not callable, is a coroutine function, or needs more
                arguments.
        """
        return self._register(event, handler, once=True)

    def _register(self, event: str, handler: HandlerT | None, *, once: bool) -> Any:
        self._check_event(event)
        self._check_process()
        if handler is not None:
            self._mailbox_of().on(event, handler, once=once)
            return handler

        def decorate(function: HandlerT) -> HandlerT:
            self._mailbox_of().on(event, function, once=once)
            return function

        return decorate

    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None:
        """Remove a handler, or all handlers of the event; one that is not registered is ignored.

        Example:
            >>> heard = []
            >>> handler = call.on("data", heard.append)
            >>> call.off("data", handler)
            >>> incoming.send("hello")
            >>> call.recv(timeout=5), heard
            ('hello', [])

        Args:
            event: The event's name.
            handler: As given to `on`; None for all.

        Raises:
            TypeError: The event's name is not a str.
            ValueError: Unknown event.
            ForkError: Connected in another process.
        """
        self._check_event(event)
        self._check_process()
        self._mailbox_of().off(event, handler)

    def wait_for(self, event: str, timeout: float | None = None) -> Any:
        """Block for the next event of a name: the oldest that waits, else the next to come.

        Example:
            >>> carol = Artico(server.url, id="carol").connect()
            >>> ringing = rtco.call("carol", metadata="about lunch")
            >>> carol.wait_for("call", timeout=5).metadata
            'about lunch'

        Args:
            event: The event's name.
            timeout: Seconds to wait; None without limit, 0 polls.

        Returns:
            The event's first argument, or None if it has none.

        Raises:
            ArticoTimeoutError: The time ran out.
            CallClosedError: The event is one of a call that is over (`NotReadyError` for a client
                that is closed).
            ValueError: Unknown event.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        self._check_event(event)
        deadline = Deadline(timeout)
        self._check_wait()
        arguments = self._mailbox_of().get(event, deadline, f"the event {event!r}", observe=True)
        return arguments[0] if arguments else None


# Types of handlers by event, for type checkers.

Metadata = str | None
Data = str | bytes

# A handler may have fewer parameters than the event.
Nothing = Callable[[], object]
NothingT = TypeVar("NothingT", bound=Callable[[], object])

ErrorHandler = Callable[[Exception], object]
DataHandler = Callable[[Data], object]
# For a program whose peer sends only text, or only bytes.
TextHandler = Callable[[str], object]
BytesHandler = Callable[[bytes], object]
StatsHandler = Callable[[dict[str, Any]], object]
StreamHandler = Callable[["RemoteMediaStream", Metadata], object]
ShortStreamHandler = Callable[["RemoteMediaStream"], object]
TrackHandler = Callable[["RemoteTrack", "RemoteMediaStream", Metadata], object]
ShortTrackHandler = Callable[["RemoteTrack", "RemoteMediaStream"], object]
ShorterTrackHandler = Callable[["RemoteTrack"], object]

ErrorT = TypeVar("ErrorT", bound=ErrorHandler | Nothing)
DataT = TypeVar("DataT", bound=DataHandler | TextHandler | BytesHandler | Nothing)
StatsT = TypeVar("StatsT", bound=StatsHandler | Nothing)
StreamT = TypeVar("StreamT", bound=StreamHandler | ShortStreamHandler | Nothing)
TrackT = TypeVar("TrackT", bound=TrackHandler | ShortTrackHandler | ShorterTrackHandler | Nothing)

StreamEvent = Literal["stream", "removestream"]
TrackEvent = Literal["track", "removetrack"]


class CallRegister(Protocol):
    """Type of `Call.on` and `Call.once`."""

    @overload
    def __call__(self, event: Literal["open", "close"], handler: Nothing) -> Nothing: ...
    @overload
    def __call__(
        self, event: Literal["open", "close"], handler: None = None
    ) -> Callable[[NothingT], NothingT]: ...
    @overload
    def __call__(self, event: Literal["error"], handler: ErrorHandler) -> ErrorHandler: ...
    @overload
    def __call__(self, event: Literal["data"], handler: DataHandler) -> DataHandler: ...
    @overload
    def __call__(self, event: Literal["data"], handler: TextHandler) -> TextHandler: ...
    @overload
    def __call__(self, event: Literal["data"], handler: BytesHandler) -> BytesHandler: ...
    @overload
    def __call__(self, event: Literal["stats"], handler: StatsHandler) -> StatsHandler: ...
    @overload
    def __call__(self, event: StreamEvent, handler: StreamHandler) -> StreamHandler: ...
    @overload
    def __call__(self, event: StreamEvent, handler: ShortStreamHandler) -> ShortStreamHandler: ...
    @overload
    def __call__(self, event: TrackEvent, handler: TrackHandler) -> TrackHandler: ...
    @overload
    def __call__(self, event: TrackEvent, handler: ShortTrackHandler) -> ShortTrackHandler: ...
    @overload
    def __call__(self, event: TrackEvent, handler: ShorterTrackHandler) -> ShorterTrackHandler: ...
    @overload
    def __call__(
        self, event: Literal["error", "data", "stats"] | StreamEvent | TrackEvent, handler: Nothing
    ) -> Nothing: ...
    @overload
    def __call__(
        self, event: Literal["error"], handler: None = None
    ) -> Callable[[ErrorT], ErrorT]: ...
    @overload
    def __call__(
        self, event: Literal["data"], handler: None = None
    ) -> Callable[[DataT], DataT]: ...
    @overload
    def __call__(
        self, event: Literal["stats"], handler: None = None
    ) -> Callable[[StatsT], StatsT]: ...
    @overload
    def __call__(
        self, event: StreamEvent, handler: None = None
    ) -> Callable[[StreamT], StreamT]: ...
    @overload
    def __call__(self, event: TrackEvent, handler: None = None) -> Callable[[TrackT], TrackT]: ...


class CallWait(Protocol):
    """Type of `Call.wait_for`."""

    @overload
    def __call__(self, event: Literal["open", "close"], timeout: float | None = None) -> None: ...
    @overload
    def __call__(self, event: Literal["error"], timeout: float | None = None) -> Exception: ...
    @overload
    def __call__(self, event: Literal["data"], timeout: float | None = None) -> str | bytes: ...
    @overload
    def __call__(self, event: Literal["stats"], timeout: float | None = None) -> dict[str, Any]: ...
    @overload
    def __call__(self, event: StreamEvent, timeout: float | None = None) -> RemoteMediaStream: ...
    @overload
    def __call__(self, event: TrackEvent, timeout: float | None = None) -> RemoteTrack: ...
