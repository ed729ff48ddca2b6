"""How frames come from writing threads to the loop: paced by a clock, never piling up.

A source is made by a user thread, attached and detached by the loop, written by any thread. Frames
written while it is not attached go nowhere, at the same pace; only the last picture is kept.

Lock order: a producer's lock, then its source's condition; no conversion and no code of the user's
runs under either.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from artico_sync._bridge.portal import assert_not_loop_thread
from artico_sync._bridge.streams import FrameReader, ReadingInterrupted
from artico_sync._bridge.threads import Worker
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync.errors import MediaError

if TYPE_CHECKING:
    from av import AudioFrame, VideoFrame
    from av.frame import Frame

# Seconds of sound a writer may be ahead of its clock.
AUDIO_LEAD = 0.08
# Seconds a writer of sound may be late before the clock starts anew.
AUDIO_GRACE = 0.08
AUDIO_SECONDS = 0.02


class Producer(Protocol):
    """Makes the frames of a source on a thread of its own."""

    def start(self) -> None: ...

    def pause(self) -> None: ...


class Source:
    """What the sources of local tracks have in common."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.id = str(uuid.uuid4())
        #: Bits a second wanted, and name of the codec preferred; None where it does not matter.
        self.bitrate: int | None = None
        self.codec: str | None = None
        self.ended = False
        self.error: MediaError | None = None
        self._enabled = True
        self._condition = Condition(threading.RLock())
        self._put: Callable[[Frame, float], None] | None = None
        self._end: Callable[[MediaError | None], None] | None = None
        #: Produces the frames while the source is attached; None where the user writes them.
        self.producer: Producer | None = None
        self._resting = False

    @property
    def enabled(self) -> bool:
        """Whether the frames are sent; blank ones are while it is False."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        if not enabled:
            self._hide()

    def _hide(self) -> None:
        """What was sent last must not stay at the other side."""

    @property
    def attached(self) -> bool:
        """Whether somebody takes the frames."""
        return self._put is not None

    def attach(
        self, put: Callable[[Frame, float], None], end: Callable[[MediaError | None], None]
    ) -> None:
        """Give frames to `put` from now on; loop thread."""
        with self._condition:
            if self.ended:
                end(self.error)
                return
            self._put = put
            self._end = end
            self._condition.notify_all()
            self._greet()
        if self.producer is not None:
            self.producer.start()

    def detach(self) -> None:
        """Give frames to nobody; loop thread."""
        with self._condition:
            self._put = self._end = None
            self._condition.notify_all()
        if self.producer is not None:
            self.producer.pause()

    def stop(self, error: MediaError | None = None) -> None:
        """End the track for good; any thread, harmless twice."""
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

    def _greet(self) -> None:
        """Somebody takes the frames from now on; the condition is held."""

    def _check_live(self) -> None:
        if self.ended:
            raise MediaError(f"The {self.kind} track was stopped.")

    def _emit(self, frame: Frame, due: float) -> None:
        if self._put is not None:
            self._put(frame, due)

    @property
    def _halted(self) -> bool:
        """Whether what is being written has no taker, for good or until a call comes for more.

        A user who writes keeps the pace without takers; a producer of ours stops.
        """
        return self.ended or self._resting

    def rest(self, resting: bool) -> None:
        """Whether the producer is to keep what it has made, until there are takers again."""
        with self._condition:
            self._resting = resting
            self._condition.notify_all()

    def _pause_until(self, moment: float) -> None:
        """Wait with the condition held; the end of the track ends the wait."""
        remaining = moment - monotonic()
        if remaining > 0:
            wait_until(self._condition, lambda: self._halted, Deadline(remaining))


class VideoSource(Source):
    """Pictures written at a steady rate.

    Args:
        fps: Pictures a second.
        live: The pictures come at a rate of their own: they go on at once.
        blank: Makes the picture sent while the track is disabled.
    """

    def __init__(
        self, fps: float, blank: Callable[[int, int], VideoFrame], *, live: bool = False
    ) -> None:
        super().__init__("video")
        self._interval = 1.0 / fps
        self._blank = blank
        self._live = live
        self._next: float | None = None
        self._last: VideoFrame | None = None

    def _hide(self) -> None:
        with self._condition:
            if self._last is not None:
                self._last = self._blank(self._last.width, self._last.height)
                self._emit(self._last, monotonic())

    def pass_on(self, frame: VideoFrame, due: float) -> None:
        """Send a picture that has its time already; does not block."""
        if not self._enabled:
            frame = self._blank(frame.width, frame.height)
        with self._condition:
            self._emit(frame, due)

    def _greet(self) -> None:
        # A still picture written before the call took it is shown all the same.
        if self._last is not None:
            self._emit(self._last, monotonic())

    def write(self, frame: VideoFrame) -> None:
        """Send a picture when its turn comes, and block until the next one may be written.

        Raises:
            MediaError: The track was stopped.
            RuntimeError: On the loop thread.
        """
        assert_not_loop_thread()
        if not self._enabled:
            frame = self._blank(frame.width, frame.height)
        with self._condition:
            self._check_live()
            now = monotonic()
            if self._live:
                self._last = frame
                self._emit(frame, now)
                return
            due = now if self._next is None else max(self._next, now - self._interval)
            self._next = due + self._interval
            self._pause_until(due)
            if self.ended:
                return
            self._last = frame
            self._emit(frame, due)
            self._pause_until(due + self._interval)


class AudioSource(Source):
    """Sound written in pieces of 20 ms.

    Args:
        blank: Makes the silence sent while the track is disabled.
    """

    def __init__(self, blank: Callable[[], AudioFrame]) -> None:
        super().__init__("audio")
        self._blank = blank
        self._position: float | None = None
        # What a producer had made and nobody took.
        self._rest: list[AudioFrame] = []

    def write(self, pieces: list[AudioFrame]) -> None:
        """Send sound at its pace, and block until little of it is left to be played.

        Raises:
            MediaError: The track was stopped.
            RuntimeError: On the loop thread.
        """
        assert_not_loop_thread()
        with self._condition:
            self._check_live()
            pieces, self._rest = self._rest + pieces, []
            for index, piece in enumerate(pieces):
                if self._halted:
                    self._rest = pieces[index:]
                    return
                now = monotonic()
                if self._position is None or now - self._position > AUDIO_GRACE:
                    self._position = now
                due = self._position
                self._position += AUDIO_SECONDS
                self._emit(piece if self._enabled else self._blank(), due)
                self._pause_until(self._position - AUDIO_LEAD)

    def pass_on(self, piece: AudioFrame, due: float) -> None:
        """Send 20 ms that have their time already; does not block."""
        with self._condition:
            self._emit(piece if self._enabled else self._blank(), due)


class PullingProducer:
    """Has a worker thread pull from a user's iterator while the source is attached.

    Args:
        name: What the worker does, for debuggers.
        items: Gives the user's frames; runs on the worker only.
        write: Converts one and writes it; blocks for its turn.
        source: Where the frames go; ended when `items` is exhausted or fails.
        reader: What `items` reads, if it may wait for long.
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
        """Pull from now on; any thread."""
        if self._reader is not None:
            self._reader.resume()
        with self._lock:
            self._wanted = True
            self._source.rest(False)
            # One that was asked to end and has not noticed yet goes on.
            if self._worker is None:
                self._worker = Worker(self._name, self._run, self.pause, lambda: self._wanted)

    def pause(self) -> None:
        """Pull no more after the item in hand; any thread."""
        with self._lock:
            self._wanted = False
            self._source.rest(True)
        if self._reader is not None:
            self._reader.interrupt()

    def _goes_on(self) -> bool:
        with self._lock:
            if not self._wanted or self._source.ended:
                self._worker = None
                return False
            return True

    def _run(self) -> None:
        while self._goes_on():
            try:
                self._write(next(self._items))
            except StopIteration:
                self._source.stop()
            except ReadingInterrupted:
                continue
            except BaseException as error:
                # A user's function may raise anything, SystemExit too: it ends its own track.
                if not self._source.ended:
                    fault = MediaError(f"A local {self._source.kind} track failed: {error!r}")
                    fault.__cause__ = error
                    self._source.stop(fault)
