"""The streams of a call: which local tracks are shared, and which of the peer's we were told of;
loop thread."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiortc import MediaStreamTrack

from artico_sync._engine.negotiation import Negotiation
from artico_sync._webrtc.media.local_track import SharedTrack, source_for
from artico_sync._webrtc.sdp.media_sections import (
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
)
from artico_sync.errors import MediaError

logger = logging.getLogger("artico_sync._engine.remote_media")

# Seconds to wait for what the peer says about a stream, which travels apart from the stream itself.
METADATA_PATIENCE = 0.25
# Seconds between two looks at whether a negotiation has ended.
IDLE_INTERVAL = 0.005
# Streams whose metadata is remembered; a call has a handful.
METADATA_LIMIT = 256


class LocalStreams:
    """The tracks this side shares."""

    def __init__(self, on_error: Callable[[MediaError], None]) -> None:
        self._on_error = on_error
        self._shared: dict[Any, tuple[SharedTrack, str]] = {}
        self._negotiation: Negotiation | None = None
        # Streams that lost tracks since the peer was last known to be up to date.
        self._changed: set[str] = set()

    def attach(self, negotiation: Negotiation) -> None:
        """Tracks can be negotiated from now on; those shared before are."""
        self._negotiation = negotiation
        for shared, stream_id in self._shared.values():
            negotiation.add_track(shared, stream_id)

    def holds(self, stream_id: str) -> bool:
        """Whether a track of the stream is shared."""
        return any(owner == stream_id for _, owner in self._shared.values())

    async def wait_removed(self, stream_id: str, limit: float) -> None:
        """Wait until the peer knows which tracks the stream has lost, at most `limit` seconds.

        What is taken back and shared again within one offer has never been away for the peer.
        """
        negotiation = self._negotiation
        if negotiation is None or stream_id not in self._changed:
            return
        end = asyncio.get_running_loop().time() + limit
        while not negotiation.idle and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(IDLE_INTERVAL)
        self._changed.clear()

    def add(self, track: Any, stream_id: str) -> None:
        """Share a track as part of a stream."""
        if track in self._shared:
            return
        shared = source_for(track, self._on_error)
        self._shared[track] = shared, stream_id
        shared.on("ended", lambda: self._on_ended(track, shared))
        if self._negotiation is not None:
            self._negotiation.add_track(shared, stream_id)

    def remove(self, track: Any) -> None:
        """Share a track no longer."""
        shared, stream_id = self._shared.pop(track, (None, ""))
        if shared is None:
            return
        self._changed.add(stream_id)
        if self._negotiation is not None:
            self._negotiation.remove_track(shared)
        shared.stop()

    def replace(self, old: Any, new: Any) -> bool:
        """Send another track in the place of one, without negotiation. False: it has gone."""
        before, stream_id = self._shared.pop(old, (None, ""))
        if before is None or self._negotiation is None:
            return False
        shared = source_for(new, self._on_error)
        self._shared[new] = shared, stream_id
        shared.on("ended", lambda: self._on_ended(new, shared))
        self._negotiation.replace_track(before, shared)
        before.stop()
        return True

    def _on_ended(self, track: Any, shared: SharedTrack) -> None:
        # A source that has come to its end is taken back, so that the peer's readers see the end.
        if self._shared.get(track, (None, ""))[0] is shared:
            self._changed.add(self._shared.pop(track)[1])
            if self._negotiation is not None:
                self._negotiation.remove_track(shared)

    def close(self) -> None:
        """The call is over: produce nothing more for it."""
        self._changed.clear()
        shared = [entry[0] for entry in self._shared.values()]
        self._shared.clear()
        self._negotiation = None
        for track in shared:
            track.stop()


class RemoteStreamListener(Protocol):
    """Told of the peer's streams, each event once and in order; loop thread."""

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
    """A stream we were told of."""

    #: What its events say of it.
    metadata: str | None
    #: Whether the peer has said that for this time it is shared; else it may come yet.
    described: bool
    tracks: list[MediaStreamTrack]


class RemoteStreams:
    """The peer's streams: makes events of what negotiation finds, and of what the peer says about
    them."""

    def __init__(self, listener: RemoteStreamListener) -> None:
        self._listener = listener
        self._metadata: OrderedDict[str, str] = OrderedDict()
        # Streams described since they were last begun.
        self._described: set[str] = set()
        self._live: dict[str, _RemoteStream] = {}
        self._changes: deque[list[RemoteChange]] = deque()
        self._awaited: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def on_metadata(self, command: dict[str, Any]) -> None:
        """Take a `stream-meta` command; malformed ones are logged and dropped."""
        payload = command.get("payload")
        stream_id = payload.get("streamId") if isinstance(payload, dict) else None
        metadata = payload.get("metadata") if isinstance(payload, dict) else None
        if not isinstance(stream_id, str) or not (metadata is None or isinstance(metadata, str)):
            logger.warning("dropping malformed metadata of a stream")
            return
        self._metadata[stream_id] = metadata or ""
        self._metadata.move_to_end(stream_id)
        self._described.add(stream_id)
        if len(self._metadata) > METADATA_LIMIT:
            self._described.discard(self._metadata.popitem(last=False)[0])
        if stream_id in self._live:
            self._describe(stream_id, metadata or None)
        if stream_id in self._awaited:
            self._awaited.discard(stream_id)
            if not self._awaited:
                self._release()

    def _describe(self, stream_id: str, metadata: str | None) -> None:
        """The peer describes a stream that is there: late, or because it is about to come anew, or
        it was taken back and shared again so fast that it never went."""
        live = self._live[stream_id]
        if not live.described:
            live.metadata, live.described = metadata, True
            self._described.discard(stream_id)
        self._listener.on_stream_described(stream_id, metadata)

    def on_change(self, changes: list[RemoteChange]) -> None:
        """Take what a description changed."""
        self._changes.append(changes)
        self._awaited |= self._begun(changes) - self._described
        if not self._awaited:
            self._release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(METADATA_PATIENCE, self._release)

    def _begun(self, changes: list[RemoteChange]) -> set[str]:
        """The streams that changes begin, some of them after their end."""
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
            self._tell(self._changes.popleft())

    def _tell(self, changes: list[RemoteChange]) -> None:
        # What goes comes first, so that a stream shared anew in the same moment begins anew. Then,
        # as in browsers, the streams are brought up to date before the events come.
        fresh: list[str] = []
        for change in changes:
            if isinstance(change, RemoteTrackRemoved):
                self._remove(change)
        for change in changes:
            if isinstance(change, RemoteTrackRemoved):
                continue
            if change.stream_id not in self._live:
                self._begin(change.stream_id)
                fresh.append(change.stream_id)
            self._live[change.stream_id].tracks.append(change.track)
        for change in changes:
            if not isinstance(change, RemoteTrackAdded):
                continue
            live = self._live[change.stream_id]
            if change.stream_id in fresh:
                fresh.remove(change.stream_id)
                self._listener.on_stream(change.stream_id, live.metadata, list(live.tracks))
            self._listener.on_track(change.stream_id, change.track, live.metadata)

    def _begin(self, stream_id: str) -> None:
        # What is said of it for the next time may come while it is still there.
        described = stream_id in self._described
        self._described.discard(stream_id)
        metadata = self._metadata.get(stream_id) or None
        self._live[stream_id] = _RemoteStream(metadata, described, [])

    def _remove(self, change: RemoteTrackRemoved) -> None:
        live = self._live.get(change.stream_id)
        if live is None or change.track not in live.tracks:
            return
        live.tracks.remove(change.track)
        # Its readers see the end not later than the event tells of it.
        change.track.stop()
        self._listener.on_track_removed(change.stream_id, change.track, live.metadata)
        if not live.tracks:
            del self._live[change.stream_id]
            # Its metadata stays: when it is shared again, new metadata may have come before this.
            self._listener.on_stream_removed(change.stream_id, live.metadata)

    def close(self) -> None:
        """The call is over: no events come any more."""
        self._changes.clear()
        self._awaited.clear()
        self._live.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
