"""The tracks a user shares on a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from artico_sync._engine.data_channel import DataChannel
from artico_sync._engine.negotiation import Negotiation
from artico_sync._protocol import messages
from artico_sync._webrtc.media.local_track import SharedTrack, shared_track_for
from artico_sync.errors import MediaError

logger = logging.getLogger(__name__)

# Seconds to wait for the peer to acknowledge the metadata of a stream before sharing it.
METADATA_SECONDS = 1.0
# Seconds to wait for the removal of a stream's tracks before the stream is shared again.
REMOVAL_SECONDS = 3.0
# Seconds between two checks for the end of a negotiation.
IDLE_CHECK_SECONDS = 0.005


class LocalMedia:
    """Carries out the user's requests to share and unshare tracks, in order, once the call is open.

    Args:
        on_error: Called if a track could not be shared or has failed.
    """

    def __init__(self, on_error: Callable[[MediaError], None]) -> None:
        self._on_error = on_error
        self._local = LocalStreams(on_error)
        self._requests: asyncio.Queue[Callable[[DataChannel], Awaitable[None]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    def start(self, negotiation: Negotiation, channel: DataChannel) -> None:
        """Carry out the requests made so far and later ones: the call is open."""
        self._local.attach(negotiation)
        self._worker = asyncio.get_running_loop().create_task(self._run(channel))

    def share(self, stream_id: str, metadata: str | None, tracks: tuple[Any, ...]) -> None:
        """Share tracks of a stream."""

        async def share(channel: DataChannel) -> None:
            # Artico's JavaScript forgets the metadata of a stream when the stream ends.
            await self._local.wait_removed(stream_id, REMOVAL_SECONDS)
            if metadata is not None or not self._local.contains(stream_id):
                await self._send_metadata(channel, stream_id, metadata)
            for track in tracks:
                self._local.add(track, stream_id)

        self._requests.put_nowait(share)

    @staticmethod
    async def _send_metadata(channel: DataChannel, stream_id: str, metadata: str | None) -> None:
        channel.send_control(messages.stream_metadata_message(stream_id, metadata))
        # The metadata should arrive before the stream, which is negotiated over another path.
        try:
            async with asyncio.timeout(METADATA_SECONDS):
                await channel.wait_drained()
        except (TimeoutError, ConnectionError):
            logger.debug("sharing %s before its metadata was acknowledged", stream_id)

    def unshare(self, tracks: tuple[Any, ...]) -> None:
        """Stop sharing tracks."""

        async def unshare(channel: DataChannel) -> None:
            for track in tracks:
                self._local.remove(track)

        self._requests.put_nowait(unshare)

    def replace(self, old: Any, new: Any, stream_id: str) -> None:
        """Send another track in place of one, which may have ended."""

        async def replace(channel: DataChannel) -> None:
            if not self._local.replace(old, new):
                await self._local.wait_removed(stream_id, REMOVAL_SECONDS)
                self._local.add(new, stream_id)

        self._requests.put_nowait(replace)

    async def _run(self, channel: DataChannel) -> None:
        while True:
            request = await self._requests.get()
            try:
                await request(channel)
            except Exception as error:
                # A track that cannot be shared must not prevent the sharing of the next.
                logger.warning("sharing failed", exc_info=True)
                self._on_error(MediaError(f"Sharing failed: {error}"))

    async def close(self) -> None:
        """Stop sharing: the call is over."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._local.close()


class LocalStreams:
    """The tracks shared with the peer, by stream.

    Args:
        on_error: Called with the error that ended a track.
    """

    def __init__(self, on_error: Callable[[MediaError], None]) -> None:
        self._on_error = on_error
        self._shared: dict[Any, tuple[SharedTrack, str]] = {}
        self._negotiation: Negotiation | None = None
        # Streams that have lost tracks in a negotiation that may not have ended.
        self._changed: set[str] = set()

    def attach(self, negotiation: Negotiation) -> None:
        """Negotiate the tracks added so far, and those added later at once."""
        self._negotiation = negotiation
        for shared, stream_id in self._shared.values():
            negotiation.add_track(shared, stream_id)

    def contains(self, stream_id: str) -> bool:
        """Return True if a track of the stream is shared."""
        return any(owner == stream_id for _, owner in self._shared.values())

    async def wait_removed(self, stream_id: str, limit: float) -> None:
        """Wait until the removal of the stream's tracks is negotiated, at most `limit` seconds.

        A stream that is removed and shared again in one offer would not have changed for the peer.
        """
        negotiation = self._negotiation
        if negotiation is None or stream_id not in self._changed:
            return
        end = asyncio.get_running_loop().time() + limit
        while not negotiation.idle and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(IDLE_CHECK_SECONDS)
        self._changed.clear()

    def add(self, track: Any, stream_id: str) -> None:
        """Share a track as part of a stream."""
        if track in self._shared:
            return
        shared = shared_track_for(track, self._on_error)
        self._shared[track] = shared, stream_id
        shared.on("ended", lambda: self._on_ended(track, shared))
        if self._negotiation is not None:
            self._negotiation.add_track(shared, stream_id)

    def remove(self, track: Any) -> None:
        """Stop sharing a track."""
        shared, stream_id = self._shared.pop(track, (None, ""))
        if shared is None:
            return
        self._changed.add(stream_id)
        if self._negotiation is not None:
            self._negotiation.remove_track(shared)
        shared.stop()

    def replace(self, old: Any, new: Any) -> bool:
        """Send another track in place of one, without negotiation.

        Returns:
            False if the old track is not shared any more.
        """
        before, stream_id = self._shared.pop(old, (None, ""))
        if before is None or self._negotiation is None:
            return False
        shared = shared_track_for(new, self._on_error)
        self._shared[new] = shared, stream_id
        shared.on("ended", lambda: self._on_ended(new, shared))
        self._negotiation.replace_track(before, shared)
        before.stop()
        return True

    def _on_ended(self, track: Any, shared: SharedTrack) -> None:
        # Unshared, so that the peer's readers see the end of a source that has ended.
        if self._shared.get(track, (None, ""))[0] is shared:
            self._changed.add(self._shared.pop(track)[1])
            if self._negotiation is not None:
                self._negotiation.remove_track(shared)

    def close(self) -> None:
        """Stop all tracks: the call is over."""
        self._changed.clear()
        shared = [entry[0] for entry in self._shared.values()]
        self._shared.clear()
        self._negotiation = None
        for track in shared:
            track.stop()
