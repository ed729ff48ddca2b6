"""The media of a call at its crossing: the peer's streams, their decoded frames, and the tracks
this side shares.

Lock order: each lock here is taken alone, but that of `SharedTracks`, held while posting to the
loop; none is held while an event is emitted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import assert_not_loop_thread
from artico_sync._bridge.threads import ForkGuard
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync.errors import InvalidStateError, MediaError

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack
    from av.frame import Frame

    from artico_sync._engine.local_media import LocalMedia
    from artico_sync._webrtc.media.remote_track import ReceivedTrack

Post = Callable[..., None]

# Frames buffered for a reader: few, so that a slow one gets new pictures; a second of sound.
VIDEO_FRAMES = 4
AUDIO_FRAMES = 50
# Seconds without a read after which a reader is taken to have stopped reading.
IDLE_SECONDS = 5.0


class ReadingInterrupted(Exception):
    """`interrupt()` was called while a thread waited for a frame."""


class FrameReader:
    """One reader's end of a received track, which is decoded while any reader reads.

    Decoded frames wait in a short buffer that drops the oldest.

    Args:
        track: The track on the loop.
        post: Runs a function on the loop soon.
        limit: Frames buffered, by default few, for a reader that wants new ones.
        idle: Seconds without a read after which decoding stops until the next read; None for never.
    """

    def __init__(
        self,
        track: ReceivedTrack,
        post: Post,
        *,
        limit: int | None = None,
        idle: float | None = IDLE_SECONDS,
    ) -> None:
        self._track = track
        self._post = post
        self._guard = ForkGuard(f"{track.kind} track")
        self._idle = idle
        self._condition = Condition(threading.RLock())
        if limit is None:
            limit = VIDEO_FRAMES if track.kind == "video" else AUDIO_FRAMES
        self._frames: deque[tuple[Frame, float]] = deque(maxlen=limit)
        self._subscribed = False
        self._waiting = 0
        self._last_read = monotonic()
        self._interrupted = False
        self._ended = False

    # the loop's side

    def on_frame(self, frame: Frame, arrival: float) -> None:
        """Buffer a decoded frame; loop thread."""
        with self._condition:
            idle = (
                self._idle is not None
                and not self._waiting
                and monotonic() - self._last_read > self._idle
            )
            if idle:
                self._subscribed = False
                self._frames.clear()
            else:
                self._frames.append((frame, arrival))
                self._condition.notify()
        if idle:
            self._track.unsubscribe(self)

    def on_end(self) -> None:
        """Wake all readers: no frame can come any more; loop thread."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    @property
    def over(self) -> bool:
        """True if no frame can come."""
        return self._ended or self._interrupted

    # the reading thread's side

    def open(self) -> None:
        """Start decoding the track for this reader."""
        with self._condition:
            self._last_read = monotonic()
            if self._subscribed or self._ended or self._interrupted:
                return
            self._subscribed = True
        self._post(self._track.subscribe, self)

    def close(self) -> None:
        """Stop decoding for this reader, until the next `get`."""
        with self._condition:
            self._frames.clear()
            if not self._subscribed:
                return
            self._subscribed = False
        self._post(self._track.unsubscribe, self)

    def interrupt(self) -> None:
        """End waits with `ReadingInterrupted` and refuse reads, until `resume`; any thread."""
        with self._condition:
            self._interrupted = True
            self._condition.notify_all()
        self.close()

    def resume(self) -> None:
        """Undo an `interrupt`; any thread."""
        with self._condition:
            self._interrupted = False

    def get(self, deadline: Deadline) -> tuple[Frame, float]:
        """Return the next frame and its time of arrival; frames buffered at the end included.

        Raises:
            MediaError: The track has ended.
            ArticoTimeoutError: The deadline passed.
            ReadingInterrupted: `interrupt` was called.
            ForkError: The track came to another process.
            RuntimeError: On the loop thread.
        """
        self._guard.check()
        assert_not_loop_thread()
        self.open()
        with self._condition:
            self._waiting += 1
            try:
                wait_until(
                    self._condition,
                    lambda: bool(self._frames) or self._ended or self._interrupted,
                    deadline,
                )
                if self._interrupted:
                    raise ReadingInterrupted
                if self._frames:
                    return self._frames.popleft()
                if self._ended:
                    raise MediaError(f"The {self._track.kind} track has ended.")
                raise deadline.error(f"a frame of the {self._track.kind} track")
            finally:
                self._waiting -= 1
                self._last_read = monotonic()


class RemoteFactory(Protocol):
    """Makes the user's objects of the peer's streams; loop thread."""

    def stream(self, stream_id: str, metadata: str | None) -> Any: ...
    def describe(self, stream: Any, metadata: str | None) -> None: ...
    def track(self, track: ReceivedTrack, stream: Any, post: Post) -> Any: ...
    def add(self, stream: Any, track: Any) -> None: ...
    def remove(self, stream: Any, track: Any) -> None: ...


class ReceivedStreams:
    """The user's objects of the streams the peer shares; the loop calls the `on_...` methods.

    Args:
        mailbox: Emits the events of the call.
        post: Runs a function on the loop soon.
        factory: Makes the objects.
    """

    def __init__(self, mailbox: Mailbox, post: Post, factory: RemoteFactory) -> None:
        self._mailbox = mailbox
        self._post = post
        self._factory = factory
        self._lock = threading.Lock()
        self._streams: dict[str, Any] = {}
        self._tracks: dict[MediaStreamTrack, Any] = {}

    @property
    def streams(self) -> tuple[Any, ...]:
        """The streams the peer shares now."""
        with self._lock:
            return tuple(self._streams.values())

    def on_stream(
        self, stream_id: str, metadata: str | None, tracks: list[MediaStreamTrack]
    ) -> None:
        stream = self._factory.stream(stream_id, metadata)
        for track in tracks:
            self._make_track(stream, track)
        with self._lock:
            self._streams[stream_id] = stream
        self._mailbox.emit("stream", stream, metadata)

    def on_stream_described(self, stream_id: str, metadata: str | None) -> None:
        self._factory.describe(self._streams[stream_id], metadata)

    def _make_track(self, stream: Any, track: MediaStreamTrack) -> Any:
        from artico_sync._webrtc.media.remote_track import ReceivedTrack

        assert isinstance(track, ReceivedTrack)
        made = self._tracks[track] = self._factory.track(track, stream, self._post)
        self._factory.add(stream, made)
        return made

    def on_track(self, stream_id: str, track: MediaStreamTrack, metadata: str | None) -> None:
        stream = self._streams[stream_id]
        made = self._tracks.get(track) or self._make_track(stream, track)
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
        # The peer may have described it for the next time already.
        self._factory.describe(stream, metadata)
        self._mailbox.emit("removestream", stream, metadata)

    def close(self) -> None:
        """Forget all streams: the call is over."""
        with self._lock:
            self._streams.clear()
        self._tracks.clear()


class SharedTracks:
    """The local tracks shared on a call, each with the id of its stream; user threads.

    Args:
        post: Runs a function on the loop soon.
        local_media: Returns the engine's half; called on the loop thread, None without a session.
        session: Session id of the call, for errors.
        peer: The other peer's id, for errors.
    """

    def __init__(
        self, post: Post, local_media: Callable[[], LocalMedia | None], session: str, peer: str
    ) -> None:
        self._post = post
        self._local_media = local_media
        self._session = session
        self._peer = peer
        self._lock = threading.Lock()
        self._stream_ids: dict[Any, str] = {}

    def add(
        self,
        stream_id: str,
        metadata: str | None,
        tracks: tuple[Any, ...],
        has_ended: Callable[[Any], bool],
    ) -> None:
        """Share tracks of a stream, as soon as the call is open.

        Raises:
            InvalidStateError: One of them is shared already, and goes on.
        """
        with self._lock:
            for track in tracks:
                if track in self._stream_ids and not has_ended(track):
                    raise self._shared_already(track)
            self._stream_ids.update(dict.fromkeys(tracks, stream_id))
            self._post(self._apply, lambda media: media.share(stream_id, metadata, tracks))

    def remove(self, track: Any) -> None:
        """Stop sharing a track.

        Raises:
            ValueError: It is not shared.
        """
        with self._lock:
            if track not in self._stream_ids:
                raise self._not_shared(track)
            self._remove((track,))

    def remove_stream(self, stream_id: str) -> None:
        """Stop sharing all tracks of a stream.

        Raises:
            ValueError: It has none that are shared.
        """
        with self._lock:
            tracks = tuple(track for track, owner in self._stream_ids.items() if owner == stream_id)
            if not tracks:
                raise ValueError(f"the stream {stream_id} is not shared on this call")
            self._remove(tracks)

    def _remove(self, tracks: tuple[Any, ...]) -> None:
        for track in tracks:
            del self._stream_ids[track]
        self._post(self._apply, lambda media: media.unshare(tracks))

    def replace(self, old: Any, new: Any) -> None:
        """Send another track in the place of one.

        Raises:
            ValueError: `old` is not shared.
            InvalidStateError: `new` is shared already.
        """
        with self._lock:
            if old not in self._stream_ids:
                raise self._not_shared(old)
            if new in self._stream_ids:
                raise self._shared_already(new)
            stream_id = self._stream_ids[new] = self._stream_ids.pop(old)
            self._post(self._apply, lambda media: media.replace(old, new, stream_id))

    def _apply(self, change: Callable[[LocalMedia], None]) -> None:
        local_media = self._local_media()
        if local_media is not None:
            change(local_media)

    def _not_shared(self, track: Any) -> ValueError:
        return ValueError(f"the track {track.id} is not shared on this call")

    def _shared_already(self, track: Any) -> InvalidStateError:
        return InvalidStateError(
            f"The track {track.id} is shared on this call already.",
            session=self._session,
            peer=self._peer,
        )
