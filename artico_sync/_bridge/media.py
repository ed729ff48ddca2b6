"""The peer's streams on their way to the user: the loop tells, `streams` and the events show.

Lock order: `_lock` alone; the mailbox is told after it was released.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from artico_sync._bridge.events.mailbox import Mailbox

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack

Post = Callable[..., None]


class RemoteFactory(Protocol):
    """Makes the user's objects of what a peer shares; loop thread."""

    def stream(self, stream_id: str, metadata: str | None) -> Any: ...
    def describe(self, stream: Any, metadata: str | None) -> None: ...
    def track(self, track: MediaStreamTrack, stream: Any, post: Post) -> Any: ...
    def add(self, stream: Any, track: Any) -> None: ...
    def remove(self, stream: Any, track: Any) -> None: ...


class MediaBridge:
    """Keeps the user's objects of the peer's streams; the loop calls the `on_...` methods."""

    def __init__(self, mailbox: Mailbox, post: Post, factory: RemoteFactory) -> None:
        self._mailbox = mailbox
        self._post = post
        self._factory = factory
        self._lock = threading.Lock()
        self._streams: dict[str, Any] = {}
        self._tracks: dict[MediaStreamTrack, Any] = {}

    @property
    def streams(self) -> tuple[Any, ...]:
        """The streams shared with us now."""
        with self._lock:
            return tuple(self._streams.values())

    def on_stream(
        self, stream_id: str, metadata: str | None, tracks: list[MediaStreamTrack]
    ) -> None:
        stream = self._factory.stream(stream_id, metadata)
        for track in tracks:
            self._add(stream, track)
        with self._lock:
            self._streams[stream_id] = stream
        self._mailbox.emit("stream", stream, metadata)

    def on_stream_described(self, stream_id: str, metadata: str | None) -> None:
        self._factory.describe(self._streams[stream_id], metadata)

    def _add(self, stream: Any, track: MediaStreamTrack) -> Any:
        made = self._tracks[track] = self._factory.track(track, stream, self._post)
        self._factory.add(stream, made)
        return made

    def on_track(self, stream_id: str, track: MediaStreamTrack, metadata: str | None) -> None:
        stream = self._streams[stream_id]
        made = self._tracks.get(track) or self._add(stream, track)
        self._mailbox.emit("track", made, stream, metadata)

    def on_track_removed(
        self, stream_id: str, track: MediaStreamTrack, metadata: str | None
    ) -> None:
        stream = self._streams[stream_id]
        made = self._tracks.pop(track)
        self._factory.remove(stream, made)
        self._mailbox.emit("removetrack", made, stream, metadata)

    def on_stream_removed(self, stream_id: str, metadata: str | None) -> None:
        with self._lock:
            stream = self._streams.pop(stream_id)
        # It may have been described for the next time already.
        self._factory.describe(stream, metadata)
        self._mailbox.emit("removestream", stream, metadata)

    def close(self) -> None:
        """The call is over."""
        with self._lock:
            self._streams.clear()
        self._tracks.clear()
