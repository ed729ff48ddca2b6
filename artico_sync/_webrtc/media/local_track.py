"""What a call sends for a local track: a stand-in that shares the track with other calls; loop
thread."""

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

# Frames kept for an asyncio reader of a shared track; the oldest are dropped.
READER_FRAMES = 30
# Where a track keeps its hub, so that all calls find the same one.
HUB_ATTRIBUTE = "_artico_sync_hub"


@runtime_checkable
class LocalTrack(Protocol):
    """A facade track that can be sent."""

    def _frame_source(self) -> FrameSource | MediaStreamTrack:
        """What produces its frames."""


class SharedTrack(MediaStreamTrack):
    """A local track as one call sends it: same id, same frames, an end of its own.

    Stopping it ends the sharing with this call only.
    """

    def __init__(
        self, hub: TrackFanout, on_error: Callable[[MediaError], None] | None = None
    ) -> None:
        super().__init__()
        self.kind = hub.kind
        self._id = hub.id
        self.hub = hub
        self._on_error = on_error
        self._frames: deque[Frame | Packet[Any]] = deque(maxlen=READER_FRAMES)
        self._changed = asyncio.Event()
        self._reading = False

    def source_ended(self, error: MediaError | None) -> None:
        """The track itself has ended; whoever consumes for this call tells."""
        if self.readyState == "live":
            self.stop()
            if error is not None and self._on_error is not None:
                self._on_error(error)

    def stop(self) -> None:
        super().stop()
        self.hub.discard(self)
        self._changed.set()

    # a consumer of its own hub while somebody reads it through `recv`

    def on_frame(self, frame: Frame | Packet[Any], due: float) -> None:
        self._frames.append(frame)
        self._changed.set()

    def on_end(self, error: MediaError | None) -> None:
        self.source_ended(error)

    async def recv(self) -> Frame | Packet[Any]:
        """The next frame, for readers other than our senders."""
        if not self._reading:
            self._reading = True
            self.hub.add(self)
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._changed.clear()
            await self._changed.wait()
        return self._frames.popleft()


def hub_of(track: FrameSource | MediaStreamTrack) -> TrackFanout:
    """The hub of a track, made when first asked for."""
    if isinstance(track, SharedTrack):
        return track.hub
    hub = getattr(track, HUB_ATTRIBUTE, None)
    if not isinstance(hub, TrackFanout) or hub.loop is not asyncio.get_running_loop():
        hub = (
            AiortcTrackFanout(track) if isinstance(track, MediaStreamTrack) else SourceFanout(track)
        )
        setattr(track, HUB_ATTRIBUTE, hub)
    return hub


def source_for(
    track: LocalTrack | MediaStreamTrack,
    on_error: Callable[[MediaError], None] | None = None,
) -> SharedTrack:
    """What to hand to `Negotiation.add_track` for a local track.

    Each call gets a stand-in of its own; the track behind is produced once for all of them.

    Args:
        track: A facade track, or any aiortc track.
        on_error: Called on the loop when the track ends because its producer failed.
    """
    behind = track if isinstance(track, MediaStreamTrack) else track._frame_source()
    return SharedTrack(hub_of(behind), on_error)
