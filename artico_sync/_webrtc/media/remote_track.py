"""A received track that costs decoding only while somebody reads it; loop thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.frame import Frame

# Decoded frames kept for an asyncio reader; the oldest are dropped.
VIDEO_FRAMES = 4
AUDIO_FRAMES = 50
# Seconds after which a reader that does not come back is taken to have stopped reading.
IDLE_SECONDS = 5.0


class FrameSink(Protocol):
    """Somebody who reads a received track; called on the loop thread."""

    def on_frame(self, frame: Frame, arrival: float) -> None: ...

    def on_end(self) -> None: ...


class ReceivedTrack(MediaStreamTrack):
    """The remote end of a track.

    Args:
        demand: Told True when the first reader comes and False when the last one has gone.
    """

    def __init__(self, kind: str, track_id: str, demand: Callable[[bool], None]) -> None:
        super().__init__()
        self.kind = kind
        self._id = track_id
        self._demand = demand
        self._sinks: list[FrameSink] = []
        self._reader: _Reader | None = None
        #: Frames decoded for readers so far.
        self.frames_decoded = 0

    def subscribe(self, sink: FrameSink) -> None:
        """Give decoded frames to `sink`, until `unsubscribe` or the end of the track."""
        if self.readyState != "live":
            sink.on_end()
            return
        if sink in self._sinks:
            return
        self._sinks.append(sink)
        if len(self._sinks) == 1:
            self._demand(True)

    def unsubscribe(self, sink: FrameSink) -> None:
        """Give nothing more to `sink`; harmless twice."""
        if sink not in self._sinks:
            return
        self._sinks.remove(sink)
        if not self._sinks:
            self._demand(False)

    def deliver(self, frame: Frame, arrival: float) -> None:
        """Hand a decoded frame to the readers; the receiver calls it."""
        self.frames_decoded += 1
        for sink in tuple(self._sinks):
            sink.on_frame(frame, arrival)

    async def recv(self) -> Frame:
        """The next frame, for asyncio readers; the oldest of those unread are dropped."""
        if self._reader is None:
            self._reader = _Reader(self)
        return await self._reader.recv()

    def stop(self) -> None:
        """End the track for its readers."""
        if self.readyState != "live":
            return
        super().stop()
        sinks, self._sinks = self._sinks, []
        if sinks:
            self._demand(False)
        for sink in sinks:
            sink.on_end()


class _Reader:
    """The frames between the track and its asyncio reader."""

    def __init__(self, track: ReceivedTrack) -> None:
        self._track = track
        limit = VIDEO_FRAMES if track.kind == "video" else AUDIO_FRAMES
        self._frames: deque[Frame] = deque(maxlen=limit)
        self._changed = asyncio.Event()
        self._ended = False
        self._waiting = 0
        self._read = monotonic()

    def on_frame(self, frame: Frame, arrival: float) -> None:
        if not self._waiting and monotonic() - self._read > IDLE_SECONDS:
            self._frames.clear()
            self._track.unsubscribe(self)
            return
        self._frames.append(frame)
        self._changed.set()

    def on_end(self) -> None:
        self._ended = True
        self._changed.set()

    async def recv(self) -> Frame:
        self._track.subscribe(self)
        self._waiting += 1
        try:
            while not self._frames:
                if self._ended:
                    raise MediaStreamError
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waiting -= 1
            self._read = monotonic()
        return self._frames.popleft()
