"""What the user asks to share on a call, done in the order it was asked for; loop thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from artico_sync._engine.data_channel import DataChannel
from artico_sync._engine.negotiation import Negotiation
from artico_sync._engine.remote_media import LocalStreams
from artico_sync._protocol import messages as wire
from artico_sync.errors import MediaError

logger = logging.getLogger("artico_sync._engine.local_media")

# Seconds a stream waits for the peer to acknowledge what it is told of it.
METADATA_TIMEOUT = 1.0
# Seconds a stream that comes back waits for the peer to learn that it was gone.
REMOVAL_TIMEOUT = 3.0


class LocalMedia:
    """Shares and takes back tracks, one request after another, from the moment the call is open.

    Args:
        on_error: Told what could not be shared, or could not go on.
    """

    def __init__(self, on_error: Callable[[MediaError], None]) -> None:
        self._on_error = on_error
        self._local = LocalStreams(on_error)
        self._requests: asyncio.Queue[Callable[[DataChannel], Awaitable[None]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    def start(self, negotiation: Negotiation, channel: DataChannel) -> None:
        """The call is open: carry out what was asked for so far and from now on."""
        self._local.attach(negotiation)
        self._worker = asyncio.get_running_loop().create_task(self._work(channel))

    def share(self, stream_id: str, metadata: str | None, tracks: tuple[Any, ...]) -> None:
        """Share tracks of a stream."""

        async def begin(channel: DataChannel) -> None:
            # JavaScript's peers forget the metadata of a stream when they lose it.
            await self._local.wait_removed(stream_id, REMOVAL_TIMEOUT)
            if metadata is not None or not self._local.holds(stream_id):
                await self._describe(channel, stream_id, metadata)
            for track in tracks:
                self._local.add(track, stream_id)

        self._requests.put_nowait(begin)

    @staticmethod
    async def _describe(channel: DataChannel, stream_id: str, metadata: str | None) -> None:
        channel.send_control(wire.stream_metadata_message(stream_id, metadata))
        # The peer should know what the stream is before it comes, by another way.
        try:
            async with asyncio.timeout(METADATA_TIMEOUT):
                await channel.wait_drained()
        except (TimeoutError, ConnectionError):
            logger.debug("sharing %s before its metadata was acknowledged", stream_id)

    def unshare(self, tracks: tuple[Any, ...]) -> None:
        """Share tracks no longer."""

        async def end(channel: DataChannel) -> None:
            for track in tracks:
                self._local.remove(track)

        self._requests.put_nowait(end)

    def replace(self, old: Any, new: Any, stream_id: str) -> None:
        """Send another track in the place of one, which may have ended."""

        async def exchange(channel: DataChannel) -> None:
            if not self._local.replace(old, new):
                await self._local.wait_removed(stream_id, REMOVAL_TIMEOUT)
                self._local.add(new, stream_id)

        self._requests.put_nowait(exchange)

    async def _work(self, channel: DataChannel) -> None:
        while True:
            request = await self._requests.get()
            try:
                await request(channel)
            except Exception as error:
                # One track that cannot be shared must not keep the next from it.
                logger.warning("sharing failed", exc_info=True)
                self._on_error(MediaError(f"Sharing failed: {error}"))

    async def close(self) -> None:
        """The call is over: produce nothing more for it."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._local.close()
