"""How decoded frames come from the loop to reading threads: a short buffer that drops the oldest.

Lock order: a reader's condition is taken alone; the loop holds it only to put a frame in.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from artico_sync._bridge.fork import ForkGuard
from artico_sync._bridge.portal import assert_not_loop_thread
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync.errors import MediaError

if TYPE_CHECKING:
    from av.frame import Frame

    from artico_sync._webrtc.media.remote_track import ReceivedTrack

Post = Callable[..., None]

# Frames kept for a reader: few, so that a slow one gets fresh pictures; a second of sound.
VIDEO_FRAMES = 4
AUDIO_FRAMES = 50
# Seconds after which a reader that does not come back is taken to have stopped reading.
IDLE_SECONDS = 5.0


class ReadingInterrupted(Exception):
    """`interrupt()` was called while a thread waited for a frame."""


class FrameReader:
    """One reader's end of a received track; the track is decoded while somebody reads.

    Args:
        track: The track on the loop.
        post: Runs a function on the loop soon.
        limit: Frames kept, by default what suits a reader that wants fresh ones.
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
        """Keep a decoded frame; loop thread."""
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
        """No frame can come any more; loop thread."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    @property
    def over(self) -> bool:
        """Whether no frame can come."""
        return self._ended or self._interrupted

    # the reading thread's side

    def open(self) -> None:
        """Have the track decoded from now on."""
        with self._condition:
            self._last_read = monotonic()
            if self._subscribed or self._ended or self._interrupted:
                return
            self._subscribed = True
        self._post(self._track.subscribe, self)

    def close(self) -> None:
        """Read no more, until the next `get`."""
        with self._condition:
            self._frames.clear()
            if not self._subscribed:
                return
            self._subscribed = False
        self._post(self._track.unsubscribe, self)

    def interrupt(self) -> None:
        """Read no more: waits end with `ReadingInterrupted`, until `resume`; any thread."""
        with self._condition:
            self._interrupted = True
            self._condition.notify_all()
        self.close()

    def resume(self) -> None:
        """Take back an `interrupt`; any thread."""
        with self._condition:
            self._interrupted = False

    def get(self, deadline: Deadline) -> tuple[Frame, float]:
        """The next frame and the time it came; frames that came before the end are still given.

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
