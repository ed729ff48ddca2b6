"""The streams and tracks that the peer shares on a call."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from aiortc import MediaStreamTrack

from artico_sync._protocol.bounds import LruDict
from artico_sync._webrtc.sdp.media_sections import (
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
)

logger = logging.getLogger(__name__)

# Seconds to wait for the metadata of a stream, which travels over another path than the stream.
METADATA_SECONDS = 0.25
# Maximum number of streams whose metadata is remembered; a call usually has a few.
METADATA_MAXIMUM = 256


class RemoteStreamListener(Protocol):
    """Receives the events of the peer's streams, each once and in order."""

    def on_stream(
        self, stream_id: str, metadata: str | None, tracks: list[MediaStreamTrack]
    ) -> None: ...
    def on_stream_described(self, stream_id: str, metadata: str | None) -> None: ...
    def on_track(self, stream_id: str, track: MediaStreamTrack, metadata: str | None) -> None: ...
    def on_track_removed(
        self, stream_id: str, track: MediaStreamTrack, metadata: str | None
    ) -> None: ...
    def on_stream_removed(self, stream_id: str, metadata: str | None) -> None: ...


@dataclass
class _RemoteStream:
    """A stream that has been reported to the listener."""

    #: The metadata in its events.
    metadata: str | None
    #: True if the peer has sent the metadata since it last shared the stream; otherwise it may
    #: still arrive.
    described: bool
    tracks: list[MediaStreamTrack]


class RemoteStreams:
    """The peer's streams, put together from the negotiated tracks and the metadata messages.

    Args:
        listener: Receives the events.
    """

    def __init__(self, listener: RemoteStreamListener) -> None:
        self._listener = listener
        self._metadata: LruDict[str, str] = LruDict(
            METADATA_MAXIMUM, lambda stream_id, _: self._described.discard(stream_id)
        )
        # Streams whose metadata came after they were last added.
        self._described: set[str] = set()
        self._live: dict[str, _RemoteStream] = {}
        self._changes: deque[list[RemoteChange]] = deque()
        self._awaited: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def on_metadata(self, command: dict[str, Any]) -> None:
        """Handle a `stream-meta` command; malformed ones are logged and dropped."""
        payload = command.get("payload")
        stream_id = payload.get("streamId") if isinstance(payload, dict) else None
        metadata = payload.get("metadata") if isinstance(payload, dict) else None
        if not isinstance(stream_id, str) or not (metadata is None or isinstance(metadata, str)):
            logger.warning("dropping malformed stream metadata")
            return
        self._metadata[stream_id] = metadata or ""
        self._described.add(stream_id)
        if stream_id in self._live:
            self._describe(stream_id, metadata or None)
        if stream_id in self._awaited:
            self._awaited.discard(stream_id)
            if not self._awaited:
                self._release()

    def _describe(self, stream_id: str, metadata: str | None) -> None:
        """Report metadata for a stream that is present.

        It is late, or for a stream that the peer has unshared and shares again: its removal may
        still arrive, or never if both happened within one negotiation.
        """
        live = self._live[stream_id]
        if not live.described:
            live.metadata, live.described = metadata, True
            self._described.discard(stream_id)
        self._listener.on_stream_described(stream_id, metadata)

    def on_change(self, changes: list[RemoteChange]) -> None:
        """Report the tracks a description added and removed, once their metadata is known."""
        self._changes.append(changes)
        self._awaited |= self._added_streams(changes) - self._described
        if not self._awaited:
            self._release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(METADATA_SECONDS, self._release)

    def _added_streams(self, changes: list[RemoteChange]) -> set[str]:
        """Return the ids of the streams that changes add, or remove and add again."""
        removed = {change.track for change in changes if isinstance(change, RemoteTrackRemoved)}
        staying = {id for id, live in self._live.items() if not removed.issuperset(live.tracks)}
        added = {change.stream_id for change in changes if isinstance(change, RemoteTrackAdded)}
        return added - staying

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._awaited.clear()
        while self._changes:
            self._report(self._changes.popleft())

    def _report(self, changes: list[RemoteChange]) -> None:
        # Removals come first, so that a stream removed and added in one description is reported as
        # a new one. As in browsers, all streams are updated before the events for them.
        added: list[str] = []
        for change in changes:
            if isinstance(change, RemoteTrackRemoved):
                self._remove_track(change)
        for change in changes:
            if isinstance(change, RemoteTrackRemoved):
                continue
            if change.stream_id not in self._live:
                self._add_stream(change.stream_id)
                added.append(change.stream_id)
            self._live[change.stream_id].tracks.append(change.track)
        for change in changes:
            if not isinstance(change, RemoteTrackAdded):
                continue
            live = self._live[change.stream_id]
            if change.stream_id in added:
                added.remove(change.stream_id)
                self._listener.on_stream(change.stream_id, live.metadata, list(live.tracks))
            self._listener.on_track(change.stream_id, change.track, live.metadata)

    def _add_stream(self, stream_id: str) -> None:
        described = stream_id in self._described
        self._described.discard(stream_id)
        metadata = self._metadata.get(stream_id) or None
        self._live[stream_id] = _RemoteStream(metadata, described, [])

    def _remove_track(self, change: RemoteTrackRemoved) -> None:
        live = self._live.get(change.stream_id)
        if live is None or change.track not in live.tracks:
            return
        live.tracks.remove(change.track)
        # Stopped first, so that readers see the end of the track no later than the event.
        change.track.stop()
        self._listener.on_track_removed(change.stream_id, change.track, live.metadata)
        if not live.tracks:
            del self._live[change.stream_id]
            # Keep the metadata: it may be for sharing the stream again, and have arrived already.
            self._listener.on_stream_removed(change.stream_id, live.metadata)

    def close(self) -> None:
        """Report no more events: the call is over."""
        self._changes.clear()
        self._awaited.clear()
        self._live.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
