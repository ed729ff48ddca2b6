"""What a type checker knows of the events: which handler fits which name; nothing at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from artico_sync.call import Call
    from artico_sync.media.remote import RemoteMediaStream, RemoteTrack

Metadata = str | None
Data = str | bytes

Nothing = Callable[[], object]
NothingT = TypeVar("NothingT", bound=Callable[[], object])

ErrorHandler = Callable[[Exception], object]
DataHandler = Callable[[Data], object]
# For those who know that their peer sends only the one or the other.
TextHandler = Callable[[str], object]
BytesHandler = Callable[[bytes], object]
StatsHandler = Callable[[dict[str, Any]], object]
IdHandler = Callable[[str], object]
StreamHandler = Callable[["RemoteMediaStream", Metadata], object]
ShortStreamHandler = Callable[["RemoteMediaStream"], object]
TrackHandler = Callable[["RemoteTrack", "RemoteMediaStream", Metadata], object]
ShortTrackHandler = Callable[["RemoteTrack", "RemoteMediaStream"], object]
ShorterTrackHandler = Callable[["RemoteTrack"], object]
CallHandler = Callable[["Call", Metadata], object]
ShortCallHandler = Callable[["Call"], object]

ErrorT = TypeVar("ErrorT", bound=ErrorHandler | Nothing)
DataT = TypeVar("DataT", bound=DataHandler | TextHandler | BytesHandler | Nothing)
StatsT = TypeVar("StatsT", bound=StatsHandler | Nothing)
IdT = TypeVar("IdT", bound=IdHandler | Nothing)
StreamT = TypeVar("StreamT", bound=StreamHandler | ShortStreamHandler | Nothing)
TrackT = TypeVar("TrackT", bound=TrackHandler | ShortTrackHandler | ShorterTrackHandler | Nothing)
CallT = TypeVar("CallT", bound=CallHandler | ShortCallHandler | Nothing)

StreamEvent = Literal["stream", "removestream"]
TrackEvent = Literal["track", "removetrack"]


class CallRegister(Protocol):
    """`Call.on` and `Call.once`."""

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
    """`Call.wait_for`."""

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


class ClientRegister(Protocol):
    """`Artico.on` and `Artico.once`."""

    @overload
    def __call__(self, event: Literal["close", "reconnecting"], handler: Nothing) -> Nothing: ...
    @overload
    def __call__(
        self, event: Literal["close", "reconnecting"], handler: None = None
    ) -> Callable[[NothingT], NothingT]: ...
    @overload
    def __call__(self, event: Literal["open"], handler: IdHandler) -> IdHandler: ...
    @overload
    def __call__(self, event: Literal["error"], handler: ErrorHandler) -> ErrorHandler: ...
    @overload
    def __call__(self, event: Literal["call"], handler: CallHandler) -> CallHandler: ...
    @overload
    def __call__(self, event: Literal["call"], handler: ShortCallHandler) -> ShortCallHandler: ...
    @overload
    def __call__(self, event: Literal["open", "error", "call"], handler: Nothing) -> Nothing: ...
    @overload
    def __call__(self, event: Literal["open"], handler: None = None) -> Callable[[IdT], IdT]: ...
    @overload
    def __call__(
        self, event: Literal["error"], handler: None = None
    ) -> Callable[[ErrorT], ErrorT]: ...
    @overload
    def __call__(
        self, event: Literal["call"], handler: None = None
    ) -> Callable[[CallT], CallT]: ...


class ClientWait(Protocol):
    """`Artico.wait_for`."""

    @overload
    def __call__(
        self, event: Literal["close", "reconnecting"], timeout: float | None = None
    ) -> None: ...
    @overload
    def __call__(self, event: Literal["open"], timeout: float | None = None) -> str: ...
    @overload
    def __call__(self, event: Literal["error"], timeout: float | None = None) -> Exception: ...
    @overload
    def __call__(self, event: Literal["call"], timeout: float | None = None) -> Call: ...
