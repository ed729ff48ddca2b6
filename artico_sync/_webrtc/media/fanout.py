"""Local tracks, produced once for all the calls that share them."""

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

from artico_sync._webrtc._aiortc.players import serialize_player_stop
from artico_sync._webrtc.media.raw_frames import (
    AUDIO_RATE,
    AUDIO_SECONDS,
    audio_normalizer,
    bare_copy,
    silence,
)
from artico_sync.errors import MediaError

logger = logging.getLogger(__name__)

#: A frame due sooner than this is dispatched at once.
DUE_TOLERANCE_SECONDS = 0.001
#: Audio may be this late before silence is sent in its place.
AUDIO_GRACE_SECONDS = 0.08
#: If the timestamps of an aiortc track deviate more than this from the clock, they have jumped.
CLOCK_JUMP_SECONDS = 0.5
#: Time limit for the end of an aiortc player's thread.
PLAYER_STOP_SECONDS = 3.0


class FrameConsumer(Protocol):
    """A consumer of the frames of a local track."""

    def on_frame(self, frame: Frame | Packet[Any], due: float) -> None: ...

    def on_end(self, error: MediaError | None) -> None: ...


class FrameSource(Protocol):
    """A producer of a local track's frames, on threads of its own; the facade implements it."""

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
        """Start producing; `put(frame, due)` and `end(error)` may be called from any thread."""

    def detach(self) -> None:
        """Stop producing until the next `attach`."""


class TrackFanout(ABC):
    """Distribution of one local track's frames to its consumers; without one nothing is produced.

    Args:
        kind: "audio" or "video".
        track_id: The track's id.
    """

    #: Whether nothing else holds the frames, so that an encoder may modify them.
    owns_frames = True

    def __init__(self, kind: str, track_id: str) -> None:
        self.kind = kind
        self.id = track_id
        self.loop = asyncio.get_running_loop()
        self.ended = False
        self.error: MediaError | None = None
        #: The shared encoders in use, by codec.
        self.encoders: dict[object, Any] = {}
        self._consumers: list[FrameConsumer] = []

    @property
    def bitrate(self) -> int | None:
        """The bits per second wanted for the encoded track, or None."""
        return None

    @property
    def codec(self) -> str | None:
        """The name of the preferred codec, or None."""
        return None

    def add_consumer(self, consumer: FrameConsumer) -> None:
        """Dispatch every frame from now on to `consumer` as well; start producing for the first."""
        if self.ended:
            consumer.on_end(self.error)
            return
        self._consumers.append(consumer)
        if len(self._consumers) == 1:
            self._start()

    def remove_consumer(self, consumer: FrameConsumer) -> None:
        """Dispatch no more frames to `consumer`; without effect if it is not one."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            if not self._consumers and not self.ended:
                self._stop()

    def dispatch_frame(self, frame: Frame | Packet[Any], due: float) -> None:
        """Pass a frame to all consumers."""
        for consumer in tuple(self._consumers):
            consumer.on_frame(frame, due)

    def finish(self, error: MediaError | None = None) -> None:
        """End the track for all consumers, after `error` if it failed."""
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
        """Start producing, for the first consumer."""

    @abstractmethod
    def _stop(self) -> None:
        """Stop producing until the next consumer is added."""


class SourceFanout(TrackFanout):
    """The fanout of a track of the public API: dispatches each frame when it is due."""

    def __init__(self, source: FrameSource) -> None:
        super().__init__(source.kind, source.id)
        self._source = source
        self._generation = 0
        self._pending: deque[tuple[Frame, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_due: float | None = None

    @property
    def bitrate(self) -> int | None:
        return self._source.bitrate

    @property
    def codec(self) -> str | None:
        return self._source.codec

    def _start(self) -> None:
        self._generation += 1
        generation = self._generation
        self._last_due = None

        def post(function: Callable[..., None], *args: object) -> None:
            try:
                self.loop.call_soon_threadsafe(function, generation, *args)
            except RuntimeError:
                logger.debug("the loop has stopped, dropping a frame")

        self._source.attach(
            lambda frame, due: post(self._on_source_frame, frame, due),
            lambda error: post(self._on_source_end, error),
        )

    def _stop(self) -> None:
        self._generation += 1
        self._pending.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._source.detach()

    def _on_source_end(self, generation: int, error: MediaError | None) -> None:
        if generation == self._generation:
            if error is None and self._pending:
                # Frames produced ahead of time are still dispatched.
                self.loop.call_later(
                    max(0.0, self._pending[-1][1] - monotonic()) + DUE_TOLERANCE_SECONDS,
                    self._on_source_end,
                    generation,
                    error,
                )
            else:
                self.finish(error)

    def _on_source_frame(self, generation: int, frame: Frame, due: float) -> None:
        if generation != self._generation:
            return
        self._pending.append((frame, due))
        self._dispatch_due(generation)

    def _dispatch_due(self, generation: int) -> None:
        """Dispatch the frames that are due, then set a timer for the next one or for silence."""
        if generation != self._generation:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._pending and self._pending[0][1] <= monotonic() + DUE_TOLERANCE_SECONDS:
            frame, due = self._pending.popleft()
            if self.kind == "audio" and self._last_due is not None:
                expected = self._last_due + AUDIO_SECONDS
                if expected + AUDIO_SECONDS <= due <= expected + 2 * AUDIO_GRACE_SECONDS:
                    # Silence comes only after the grace time, so fill up to this frame.
                    self._pending.appendleft((frame, due))
                    frame, due = silence(), expected
                # Silence may have covered the beginning of this frame.
                due = max(due, expected)
            self._last_due = due
            self.dispatch_frame(frame, due)
            if generation != self._generation:
                return
        if self._pending:
            self._wake_at(self._pending[0][1], generation)
        elif self.kind == "audio" and self._last_due is not None:
            silent_from = self._last_due + AUDIO_SECONDS
            if silent_from + AUDIO_GRACE_SECONDS <= monotonic():
                self._pending.append((silence(), silent_from))
                self.loop.call_soon(self._dispatch_due, generation)
            else:
                self._wake_at(silent_from + AUDIO_GRACE_SECONDS + DUE_TOLERANCE_SECONDS, generation)

    def _wake_at(self, moment: float, generation: int) -> None:
        self._timer = self.loop.call_later(
            max(0.0, moment - monotonic()), self._dispatch_due, generation
        )


class AiortcTrackFanout(TrackFanout):
    """The fanout of any other aiortc track: reads it and maps its timestamps to due times.

    A track of aiortc's `MediaPlayer` plays on without consumers. It is read until it ends, or until
    the loop stops, which also stops the player.
    """

    owns_frames = False

    def __init__(self, track: MediaStreamTrack) -> None:
        super().__init__(track.kind, track.id)
        self._track = track
        self._is_played = serialize_player_stop(track)
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
        # If the track was stopped during its `recv`, that call never returns: cancel the pump.
        self._stop()

    def _on_ended(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.finish)
        except RuntimeError:
            logger.debug("the loop has stopped before a track ended")

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
                    self._on_frame(frame)
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
                self.finish()  # it was stopped during `recv`
                return
            # `recv` may be user code: its failure ends this track and nothing else.
            fault = MediaError(f"A local {self.kind} track failed: {error!r}")
            fault.__cause__ = error
            self.finish(fault)

    async def _end_player(self) -> None:
        """Stop the player while the loop, to which its thread posts frames, is still running."""
        try:
            async with asyncio.timeout(PLAYER_STOP_SECONDS):
                # This joins the player's thread, which may be blocked in a read.
                await self.loop.run_in_executor(None, self._track.stop)
        except TimeoutError:
            logger.warning("the player of a local %s track did not stop in time", self.kind)

    def _on_frame(self, frame: Frame | Packet[Any]) -> None:
        if isinstance(frame, AudioFrame):
            self._on_audio(frame)
        elif isinstance(frame, (VideoFrame, Packet)):
            self.dispatch_frame(frame, self._due(frame))
        else:
            raise TypeError(f"a track returned a {type(frame).__name__} instead of a frame")

    def _due(self, frame: Frame | Packet[Any]) -> float:
        now = monotonic()
        if frame.pts is None or frame.time_base is None:
            return now
        time = float(frame.pts * frame.time_base)
        if self._offset is None or abs(time + self._offset - now) > CLOCK_JUMP_SECONDS:
            self._offset = now - time
        return time + self._offset

    def _on_audio(self, frame: AudioFrame) -> None:
        assert self._normalizer is not None
        due = self._due(frame)
        if self._audio_due is None or abs(due - self._audio_due) > 4 * AUDIO_SECONDS:
            self._audio_due = due
        # The resampler requires continuous timestamps, so it gets none: the number of samples
        # determines the time.
        for piece in self._normalizer.resample(bare_copy(frame)):
            self.dispatch_frame(piece, self._audio_due)
            self._audio_due += piece.samples / AUDIO_RATE
