"""Sources of local tracks: frames from writing threads, sent on at the pace of a clock.

A source is made on a user thread, attached and detached on the loop thread, and written to by any
thread. While it is not attached, writing keeps its pace and the frames are dropped; only the last
picture is kept.

Lock order: a producer's lock, then its source's condition; no conversion and no code of the user
runs under either.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from artico_sync._bridge.portal import assert_not_loop_thread
from artico_sync._bridge.streams import FrameReader, ReadingInterrupted
from artico_sync._bridge.threads import Worker
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync._checks import check_callable
from artico_sync.errors import MediaError
from artico_sync.media._frames import to_array

if TYPE_CHECKING:
    from av import AudioFrame, VideoFrame
    from av.frame import Frame

# How far a writer of sound may be ahead of its clock.
AUDIO_LEAD_SECONDS = 0.08
# How late a writer of sound may be before its clock is restarted.
AUDIO_GRACE_SECONDS = 0.08
# Duration of an audio frame; the constant of `_bridge.media`, which would import PyAV.
AUDIO_FRAME_SECONDS = 0.02


class Producer(Protocol):
    """Makes the frames of a source on a thread of its own."""

    def start(self) -> None: ...

    def pause(self) -> None: ...


class Source:
    """The base of the sources of local tracks, a `FrameSource` of the engine.

    Args:
        kind: `"audio"` or `"video"`.

    Attributes:
        bitrate: Bits per second to encode with, or None.
        codec: Name of the preferred codec, or None.
        producer: Makes the frames while the source is attached; None if the user writes them.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.id = str(uuid.uuid4())
        self.bitrate: int | None = None
        self.codec: str | None = None
        self.ended = False
        self.error: MediaError | None = None
        self.producer: Producer | None = None
        self._enabled = True
        self._condition = Condition(threading.RLock())
        self._put: Callable[[Frame, float], None] | None = None
        self._end: Callable[[MediaError | None], None] | None = None
        self._paused = False

    @property
    def enabled(self) -> bool:
        """False while blank frames are sent in place of the ones written."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        if not enabled:
            self._on_disable()

    def _on_disable(self) -> None:
        """Replace the picture sent last by a blank one."""

    @property
    def attached(self) -> bool:
        """True while any call sends the frames."""
        return self._put is not None

    def attach(
        self, put: Callable[[Frame, float], None], end: Callable[[MediaError | None], None]
    ) -> None:
        """Start passing frames to `put`; loop thread."""
        with self._condition:
            if self.ended:
                end(self.error)
                return
            self._put = put
            self._end = end
            self._condition.notify_all()
            self._on_attach()
        if self.producer is not None:
            self.producer.start()

    def detach(self) -> None:
        """Stop passing frames on, until the next `attach`; loop thread."""
        with self._condition:
            self._put = self._end = None
            self._condition.notify_all()
        if self.producer is not None:
            self.producer.pause()

    def stop(self, error: MediaError | None = None) -> None:
        """End the track for good; any thread. Has no effect a second time."""
        with self._condition:
            if self.ended:
                return
            self.ended = True
            self.error = error
            end = self._end
            self._condition.notify_all()
        if end is not None:
            end(error)
        if self.producer is not None:
            self.producer.pause()

    def _on_attach(self) -> None:
        """Send what the first consumer must have; called with the condition held."""

    def _check_live(self) -> None:
        if self.ended:
            raise MediaError(f"The {self.kind} track was stopped.")

    def _hand_over(self, frame: Frame, due: float) -> None:
        if self._put is not None:
            self._put(frame, due)

    @property
    def _stopped(self) -> bool:
        """True if a write in progress should return: for good, or until `resume`.

        A user's write is never paused: it keeps its pace while the source is not attached.
        """
        return self.ended or self._paused

    def pause(self) -> None:
        """Make the producer's writes return and keep what they could not send."""
        self._set_paused(True)

    def resume(self) -> None:
        """Let the producer write again."""
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        with self._condition:
            self._paused = paused
            self._condition.notify_all()

    def _pause_until(self, moment: float) -> None:
        """Wait with the condition held, until a moment or until the write should return."""
        remaining = moment - monotonic()
        if remaining > 0:
            wait_until(self._condition, lambda: self._stopped, Deadline(remaining))


class VideoSource(Source):
    """Pictures written at a steady rate.

    Args:
        fps: Pictures per second.
        blank: Makes the picture of a size that is sent while the track is disabled.
        live: True for pictures that arrive at a rate of their own: they are sent at once.
    """

    def __init__(
        self, fps: float, blank: Callable[[int, int], VideoFrame], *, live: bool = False
    ) -> None:
        super().__init__("video")
        self._interval = 1.0 / fps
        self._blank = blank
        self._live = live
        self._next_due: float | None = None
        self._last: VideoFrame | None = None

    def _on_disable(self) -> None:
        with self._condition:
            if self._last is not None:
                self._last = self._blank(self._last.width, self._last.height)
                self._hand_over(self._last, monotonic())

    def forward_frame(self, frame: VideoFrame, due: float) -> None:
        """Send a picture whose time is already known; does not block."""
        if not self._enabled:
            frame = self._blank(frame.width, frame.height)
        with self._condition:
            self._hand_over(frame, due)

    def _on_attach(self) -> None:
        # A still picture written before the call shared the track is shown to the peer.
        if self._last is not None:
            self._hand_over(self._last, monotonic())

    def write_frame(self, frame: VideoFrame) -> None:
        """Send a picture when it is due, and block until the next one may be written.

        Raises:
            MediaError: The track was stopped.
            RuntimeError: Called on the loop thread.
        """
        assert_not_loop_thread()
        if not self._enabled:
            frame = self._blank(frame.width, frame.height)
        with self._condition:
            self._check_live()
            now = monotonic()
            if self._live:
                self._last = frame
                self._hand_over(frame, now)
                return
            due = now if self._next_due is None else max(self._next_due, now - self._interval)
            self._next_due = due + self._interval
            self._pause_until(due)
            if self.ended:
                return
            self._last = frame
            self._hand_over(frame, due)
            self._pause_until(due + self._interval)


class AudioSource(Source):
    """Sound written in frames of 20 ms.

    Args:
        blank: Makes the silent frame that is sent while the track is disabled.
    """

    def __init__(self, blank: Callable[[], AudioFrame]) -> None:
        super().__init__("audio")
        self._blank = blank
        self._position: float | None = None
        # Frames of a paused producer.
        self._unsent: list[AudioFrame] = []

    def write_frames(self, frames: list[AudioFrame]) -> None:
        """Send sound at its pace, and block until little of it is left to play.

        Raises:
            MediaError: The track was stopped.
            RuntimeError: Called on the loop thread.
        """
        assert_not_loop_thread()
        with self._condition:
            self._check_live()
            frames, self._unsent = self._unsent + frames, []
            for index, frame in enumerate(frames):
                if self._stopped:
                    self._unsent = frames[index:]
                    return
                now = monotonic()
                if self._position is None or now - self._position > AUDIO_GRACE_SECONDS:
                    self._position = now
                due = self._position
                self._position += AUDIO_FRAME_SECONDS
                self._hand_over(frame if self._enabled else self._blank(), due)
                self._pause_until(self._position - AUDIO_LEAD_SECONDS)

    def forward_frame(self, frame: AudioFrame, due: float) -> None:
        """Send 20 ms whose time is already known; does not block."""
        with self._condition:
            self._hand_over(frame if self._enabled else self._blank(), due)


class PullingProducer:
    """Pulls from an iterator on a worker thread while the source is attached.

    Args:
        name: The subject of the worker, for debuggers.
        items: Yields the user's frames; runs on the worker only.
        write: Converts a frame and writes it to the source, which paces the worker.
        source: The source of the track; it ends when `items` is exhausted or fails.
        reader: The reader that `items` waits for, if any.
    """

    def __init__(
        self,
        name: str,
        items: Iterator[Any],
        write: Callable[[Any], None],
        source: Source,
        reader: FrameReader | None = None,
    ) -> None:
        self._name = name
        self._items = items
        self._write = write
        self._source = source
        self._reader = reader
        self._lock = threading.Lock()
        self._wanted = False
        self._worker: Worker | None = None

    def start(self) -> None:
        """Start pulling; any thread."""
        if self._reader is not None:
            self._reader.resume()
        with self._lock:
            self._wanted = True
            self._source.resume()
            # A worker that was paused and has not noticed yet continues.
            if self._worker is None:
                self._worker = Worker(self._name, self._run, self.pause, lambda: self._wanted)

    def pause(self) -> None:
        """Stop pulling after the current item; any thread."""
        with self._lock:
            self._wanted = False
            self._source.pause()
        if self._reader is not None:
            self._reader.interrupt()

    def _should_continue(self) -> bool:
        with self._lock:
            if not self._wanted or self._source.ended:
                self._worker = None
                return False
            return True

    def _run(self) -> None:
        while self._should_continue():
            try:
                self._write(next(self._items))
            except StopIteration:
                self._source.stop()
            except ReadingInterrupted:
                continue
            except BaseException as error:
                # Any exception of the user's function, SystemExit too, ends this track only.
                if not self._source.ended:
                    failure = MediaError(f"A local {self._source.kind} track failed: {error!r}")
                    failure.__cause__ = error
                    self._source.stop(failure)


def iterate_source(
    source: Iterable[Any] | Callable[[], Any], flush: Callable[[], None] | None = None
) -> Iterator[Any]:
    """Return an iterator over an iterable, or over the results of a function until it returns None.

    Args:
        source: The iterable or the function.
        flush: Called at the end.

    Raises:
        TypeError: Neither an iterable nor a function, or a coroutine function.
    """
    if not callable(source) and not isinstance(source, Iterable):
        raise TypeError(f"source must be an iterable or a function, not {type(source).__name__}")
    if not isinstance(source, Iterable):
        check_callable("source", source)

    def items() -> Iterator[Any]:
        if isinstance(source, Iterable):
            yield from source
        else:
            while (item := source()) is not None:
                yield item
        if flush is not None:
            flush()

    return items()


class MappedFrames(Iterator[Any]):
    """The results of a function called with each frame of a remote track, as an array.

    After `ReadingInterrupted` the iteration can be continued, as that of a generator could not.

    Raises:
        TypeError: The function is not callable, or a coroutine function.
    """

    def __init__(self, reader: FrameReader, function: Callable[[Any], Any]) -> None:
        self._function = check_callable("function", function)
        self._reader = reader

    def __next__(self) -> Any:
        try:
            frame, _ = self._reader.get(Deadline(None))
        except MediaError:
            # The mapped track ends with the remote one.
            raise StopIteration from None
        return self._function(to_array(frame))
