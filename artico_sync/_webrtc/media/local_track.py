"""Local tracks as calls send them: each call has its own track object for a shared source."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import Packet
from av.frame import Frame

from artico_sync._webrtc.media.fanout import (
    AiortcTrackFanout,
    FrameSource,
    SourceFanout,
    TrackFanout,
)
from artico_sync.errors import MediaError

#: Maximum number of frames queued for an asyncio reader; the oldest are dropped.
READER_FRAMES = 30
#: Attribute of a track that holds its fanout, so that all calls find the same one.
FANOUT_ATTRIBUTE = "_artico_sync_fanout"


@runtime_checkable
class SendableTrack(Protocol):
    """A track of the public API that can be sent."""

    def _frame_source(self) -> FrameSource | MediaStreamTrack:
        """Return the producer of its frames."""


class SharedTrack(MediaStreamTrack):
    """A local track as one call sends it, with the id and frames of the source.

    Stopping it stops sending on this call only.

    Args:
        fanout: The fanout of the source.
        on_error: Called when the track ends because its producer failed.
    """

    def __init__(
        self, fanout: TrackFanout, on_error: Callable[[MediaError], None] | None = None
    ) -> None:
        super().__init__()
        self.kind = fanout.kind
        self.fanout = fanout
        self._on_error = on_error
        self._frames: deque[Frame | Packet[Any]] = deque(maxlen=READER_FRAMES)
        self._changed = asyncio.Event()
        self._reading = False

    @property
    def id(self) -> str:
        """The id of the source."""
        return self.fanout.id

    def source_ended(self, error: MediaError | None) -> None:
        """End this track because its source has ended; called by the consumer of this call."""
        if self.readyState == "live":
            self.stop()
            if error is not None and self._on_error is not None:
                self._on_error(error)

    def stop(self) -> None:
        """End this track; the source goes on for other calls."""
        super().stop()
        self.fanout.remove_consumer(self)
        self._changed.set()

    # Consumer of its own fanout, after the first `recv`

    def on_frame(self, frame: Frame | Packet[Any], due: float) -> None:
        """Queue a frame for `recv`."""
        self._frames.append(frame)
        self._changed.set()

    def on_end(self, error: MediaError | None) -> None:
        """End this track because its source has ended."""
        self.source_ended(error)

    async def recv(self) -> Frame | Packet[Any]:
        """Return the next frame; `RtpSender` does not use it."""
        if not self._reading:
            self._reading = True
            self.fanout.add_consumer(self)
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._changed.clear()
            await self._changed.wait()
        return self._frames.popleft()


def fanout_of(track: FrameSource | MediaStreamTrack) -> TrackFanout:
    """Return the fanout of a track; create it on first use."""
    if isinstance(track, SharedTrack):
        return track.fanout
    fanout = getattr(track, FANOUT_ATTRIBUTE, None)
    if not isinstance(fanout, TrackFanout) or fanout.loop is not asyncio.get_running_loop():
        fanout = (
            AiortcTrackFanout(track) if isinstance(track, MediaStreamTrack) else SourceFanout(track)
        )
        setattr(track, FANOUT_ATTRIBUTE, fanout)
    return fanout


def shared_track_for(
    track: SendableTrack | MediaStreamTrack,
    on_error: Callable[[MediaError], None] | None = None,
) -> SharedTrack:
    """Return a new `SharedTrack` for a local track, to be sent on one call.

    The frames are produced once for all calls that share the track.

    Args:
        track: A track of the public API, or any aiortc track.
        on_error: Called when the track ends because its producer failed.
    """
    source = track if isinstance(track, MediaStreamTrack) else track._frame_source()
    return SharedTrack(fanout_of(source), on_error)
