"""One local track, produced once for all the calls that share it; loop thread."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, Packet, VideoFrame
from av.frame import Frame

from artico_sync._webrtc._aiortc.players import make_stoppable
from artico_sync._webrtc.media.timeline import (
    AUDIO_RATE,
    AUDIO_SECONDS,
    audio_normalizer,
    bare_copy,
    silence,
)
from artico_sync.errors import MediaError

logger = logging.getLogger("artico_sync._webrtc.media")

# A frame due sooner than this is not worth a timer, in seconds.
SOON = 0.001
# Seconds a writer of audio may be late before silence stands in for it.
AUDIO_GRACE = 0.08
# A foreign track whose clock is off by more than this is taken to have jumped, in seconds.
CLOCK_JUMP = 0.5
# Seconds the thread of an aiortc player gets to end.
PLAYER_GRACE = 3.0


class Consumer(Protocol):
    """Somebody who takes the frames of a local track; called on the loop thread."""

    def on_frame(self, frame: Frame | Packet[Any], due: float) -> None: ...

    def on_end(self, error: MediaError | None) -> None: ...


class FrameSource(Protocol):
    """What produces the frames of a local track on threads of its own; implemented by the
    bridge."""

    @property
    def kind(self) -> str: ...

    @property
    def id(self) -> str: ...

    @property
    def bitrate(self) -> int | None: ...

    @property
    def codec(self) -> str | None: ...

    def attach(
        self,
        put: Callable[[Frame, float], None],
        end: Callable[[MediaError | None], None],
    ) -> None:
        """Start producing: `put(frame, due)` and `end(error)` may be called from any thread."""

    def detach(self) -> None:
        """Stop producing until the next `attach`."""


class TrackFanout(ABC):
    """Frames of one local track for any number of consumers; produces only while it has one."""

    #: Whether the frames are ours alone, so that an encoder may mark them.
    owns_frames = True

    def __init__(self, kind: str, track_id: str) -> None:
        self.kind = kind
        self.id = track_id
        self.loop = asyncio.get_running_loop()
        self.ended = False
        self.error: MediaError | None = None
        #: Encoders working for several senders, by codec; they come and go with their senders.
        self.encodings: dict[object, Any] = {}
        self._consumers: list[Consumer] = []

    @property
    def bitrate(self) -> int | None:
        """Bits a second wanted for the encoded track, None where it does not matter."""
        return None

    @property
    def codec(self) -> str | None:
        """Name of the codec preferred, None where it does not matter."""
        return None

    def add(self, consumer: Consumer) -> None:
        """Give every frame from now on to `consumer`."""
        if self.ended:
            consumer.on_end(self.error)
            return
        self._consumers.append(consumer)
        if len(self._consumers) == 1:
            self._start()

    def discard(self, consumer: Consumer) -> None:
        """Give nothing more to `consumer`; harmless twice."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            if not self._consumers and not self.ended:
                self._stop()

    def dispatch(self, frame: Frame | Packet[Any], due: float) -> None:
        for consumer in tuple(self._consumers):
            consumer.on_frame(frame, due)

    def finish(self, error: MediaError | None = None) -> None:
        """No frame can come any more."""
        if self.ended:
            return
        self.ended = True
        self.error = error
        if error is not None:
            logger.error("a local %s track ended: %s", self.kind, error, exc_info=error.__cause__)
        consumers, self._consumers = self._consumers, []
        if consumers:
            self._stop()
        for consumer in consumers:
            consumer.on_end(error)

    @abstractmethod
    def _start(self) -> None:
        """Begin to produce: the first consumer has come."""

    @abstractmethod
    def _stop(self) -> None:
        """Produce nothing until the next consumer comes."""


class SourceFanout(TrackFanout):
    """The hub of a track of ours: passes each frame on when it is due."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source.kind, source.id)
        self._source = source
        self._run = 0
        self._early: deque[tuple[Frame, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_due: float | None = None

    @property
    def bitrate(self) -> int | None:
        return self._source.bitrate

    @property
    def codec(self) -> str | None:
        return self._source.codec

    def _start(self) -> None:
        self._run += 1
        run = self._run
        self._last_due = None

        def post(function: Callable[..., None], *args: object) -> None:
            try:
                self.loop.call_soon_threadsafe(function, run, *args)
            except RuntimeError:
                logger.debug("the loop has stopped, dropping a frame")

        self._source.attach(
            lambda frame, due: post(self._arrived, frame, due),
            lambda error: post(self._ended, error),
        )

    def _stop(self) -> None:
        self._run += 1
        self._early.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._source.detach()

    def _ended(self, run: int, error: MediaError | None) -> None:
        if run == self._run:
            if error is None and self._early:
                # What was produced ahead of time is still played.
                self.loop.call_later(
                    max(0.0, self._early[-1][1] - monotonic()) + SOON, self._ended, run, error
                )
            else:
                self.finish(error)

    def _arrived(self, run: int, frame: Frame, due: float) -> None:
        if run != self._run:
            return
        self._early.append((frame, due))
        self._pass_on(run)

    def _pass_on(self, run: int) -> None:
        """Dispatch what is due, then wait for the next frame or for silence to stand in for it."""
        if run != self._run:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._early and self._early[0][1] <= monotonic() + SOON:
            frame, due = self._early.popleft()
            if self.kind == "audio" and self._last_due is not None:
                expected = self._last_due + AUDIO_SECONDS
                if expected + AUDIO_SECONDS <= due <= expected + 2 * AUDIO_GRACE:
                    # Silence lags by the grace a writer has; it fills up to the new sound.
                    self._early.appendleft((frame, due))
                    frame, due = silence(), expected
                # Silence may have taken the first moments of this frame.
                due = max(due, expected)
            self._last_due = due
            self.dispatch(frame, due)
            if run != self._run:
                return
        if self._early:
            self._wake_at(self._early[0][1], run)
        elif self.kind == "audio" and self._last_due is not None:
            silent_from = self._last_due + AUDIO_SECONDS
            if silent_from + AUDIO_GRACE <= monotonic():
                self._early.append((silence(), silent_from))
                self.loop.call_soon(self._pass_on, run)
            else:
                self._wake_at(silent_from + AUDIO_GRACE + SOON, run)

    def _wake_at(self, moment: float, run: int) -> None:
        self._timer = self.loop.call_later(max(0.0, moment - monotonic()), self._pass_on, run)


class AiortcTrackFanout(TrackFanout):
    """The hub of any other aiortc track: reads it, and brings its clock to ours.

    aiortc's `MediaPlayer` plays on, whether anybody reads its tracks or not: it is read to its end,
    or to that of the loop, which ends it.
    """

    owns_frames = False

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__(track.kind, track.id)
        self._track = track
        self._is_played = make_stoppable(track)
        track.add_listener("ended", self._on_ended)
        self._task: asyncio.Task[None] | None = None
        self._normalizer = audio_normalizer() if track.kind == "audio" else None
        self._offset: float | None = None
        self._audio_due: float | None = None

    @property
    def bitrate(self) -> int | None:
        return getattr(self._track, "bitrate", None)

    @property
    def codec(self) -> str | None:
        return getattr(self._track, "codec", None)

    def finish(self, error: MediaError | None = None) -> None:
        super().finish(error)
        # A track that was stopped while somebody waits in its `recv` never gives anything more.
        self._stop()

    def _on_ended(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.finish)
        except RuntimeError:
            logger.debug("the loop has stopped before a track")

    def _start(self) -> None:
        self._offset = self._audio_due = None
        if self._task is None:
            self._task = self.loop.create_task(self._pump())

    def _stop(self) -> None:
        if self._is_played and not self.ended:
            return
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._task = None

    async def _pump(self) -> None:
        try:
            while True:
                frame = await self._track.recv()
                if self._consumers:
                    self._take(frame)
                if self._task is not asyncio.current_task():
                    return
        except MediaStreamError:
            self.finish()
        except asyncio.CancelledError:
            if self._is_played and not self.ended:
                self._task = None
                await self._end_player()
            raise
        except Exception as error:
            if self._is_played and self._track.readyState == "ended":
                self.finish()  # it was stopped under our hands
                return
            # Code of the user's: its fault ends this track and nothing else.
            fault = MediaError(f"A local {self.kind} track failed: {error!r}")
            fault.__cause__ = error
            self.finish(fault)

    async def _end_player(self) -> None:
        """End the track before the loop goes, to which the player's thread hands its frames."""
        try:
            async with asyncio.timeout(PLAYER_GRACE):
                # It waits for that thread, which may hang in a read.
                await self.loop.run_in_executor(None, self._track.stop)
        except TimeoutError:
            logger.warning("the player of a local %s track does not stop", self.kind)

    def _take(self, frame: Frame | Packet[Any]) -> None:
        if isinstance(frame, AudioFrame):
            self._take_audio(frame)
        elif isinstance(frame, (VideoFrame, Packet)):
            self.dispatch(frame, self._due(frame))
        else:
            raise TypeError(f"a track gave a {type(frame).__name__} instead of a frame")

    def _due(self, frame: Frame | Packet[Any]) -> float:
        now = monotonic()
        if frame.pts is None or frame.time_base is None:
            return now
        time = float(frame.pts * frame.time_base)
        if self._offset is None or abs(time + self._offset - now) > CLOCK_JUMP:
            self._offset = now - time
        return time + self._offset

    def _take_audio(self, frame: AudioFrame) -> None:
        assert self._normalizer is not None
        due = self._due(frame)
        if self._audio_due is None or abs(due - self._audio_due) > 4 * AUDIO_SECONDS:
            self._audio_due = due
        # The resampler checks that time goes on evenly, which the samples do whatever the track
        # says.
        for piece in self._normalizer.resample(bare_copy(frame)):
            self.dispatch(piece, self._audio_due)
            self._audio_due += piece.samples / AUDIO_RATE
