"""Received tracks, which are decoded only while they have readers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av.frame import Frame

#: Maximum number of decoded frames queued for an asyncio reader; the oldest are dropped.
VIDEO_FRAMES = 4
AUDIO_FRAMES = 50
#: A reader that has not called `recv` for this time no longer counts as one.
IDLE_SECONDS = 5.0


class FrameSink(Protocol):
    """A reader of a received track."""

    def on_frame(self, frame: Frame, arrival: float) -> None: ...

    def on_end(self) -> None: ...


class ReceivedTrack(MediaStreamTrack):
    """A track received from the peer.

    Args:
        kind: "audio" or "video".
        track_id: The track's id.
        demand: Called with True when the track gets its first reader, and with False when it has
            lost its last one.
    """

    def __init__(self, kind: str, track_id: str, demand: Callable[[bool], None]) -> None:
        super().__init__()
        self.kind = kind
        self._track_id = track_id
        self._demand = demand
        self._sinks: list[FrameSink] = []
        self._reader: _Reader | None = None
        #: Number of frames decoded so far.
        self.frames_decoded = 0

    @property
    def id(self) -> str:
        """The id of the track."""
        return self._track_id

    def subscribe(self, sink: FrameSink) -> None:
        """Deliver decoded frames to `sink` until `unsubscribe` or the end of the track."""
        if self.readyState != "live":
            sink.on_end()
            return
        if sink in self._sinks:
            return
        self._sinks.append(sink)
        if len(self._sinks) == 1:
            self._demand(True)

    def unsubscribe(self, sink: FrameSink) -> None:
        """Stop delivering frames to `sink`; without effect if it is not subscribed."""
        if sink not in self._sinks:
            return
        self._sinks.remove(sink)
        if not self._sinks:
            self._demand(False)

    def deliver_frame(self, frame: Frame, arrival: float) -> None:
        """Deliver a decoded frame to the readers; called by the receiver."""
        self.frames_decoded += 1
        for sink in tuple(self._sinks):
            sink.on_frame(frame, arrival)

    async def recv(self) -> Frame:
        """Return the next frame, for asyncio readers; of unread frames the oldest are dropped."""
        if self._reader is None:
            self._reader = _Reader(self)
        return await self._reader.recv()

    def stop(self) -> None:
        """End the track and notify its readers."""
        if self.readyState != "live":
            return
        super().stop()
        sinks, self._sinks = self._sinks, []
        if sinks:
            self._demand(False)
        for sink in sinks:
            sink.on_end()


class _Reader:
    """The queue of frames between a track and its asyncio reader."""

    def __init__(self, track: ReceivedTrack) -> None:
        self._track = track
        limit = VIDEO_FRAMES if track.kind == "video" else AUDIO_FRAMES
        self._frames: deque[Frame] = deque(maxlen=limit)
        self._changed = asyncio.Event()
        self._is_ended = False
        self._waiting = 0
        self._last_read_at = monotonic()

    def on_frame(self, frame: Frame, arrival: float) -> None:
        if not self._waiting and monotonic() - self._last_read_at > IDLE_SECONDS:
            self._frames.clear()
            self._track.unsubscribe(self)
            return
        self._frames.append(frame)
        self._changed.set()

    def on_end(self) -> None:
        self._is_ended = True
        self._changed.set()

    async def recv(self) -> Frame:
        self._track.subscribe(self)
        self._waiting += 1
        try:
            while not self._frames:
                if self._is_ended:
                    raise MediaStreamError
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waiting -= 1
            self._last_read_at = monotonic()
        return self._frames.popleft()
