"""Two peer connections on the library's loop thread, with media from one to the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from aiortc import RTCConfiguration

from artico_sync._bridge.portal import acquire_portal
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.media.local_track import shared_track_for
from artico_sync._webrtc.media.remote_track import ReceivedTrack
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync._webrtc.sdp.media_sections import RemoteTrackAdded
from artico_sync._webrtc.sdp.parser import parse_description
from artico_sync.errors import MediaError
from artico_sync.media import RemoteMediaStream, RemoteTrack
from artico_sync.media.remote import make_remote_track
from artico_sync.media.streams import Track

T = TypeVar("T")
SETTINGS = Settings()


class MediaPair:
    """Shares local tracks from `sender` to `receiver`; use it in a `with` block."""

    def __init__(self) -> None:
        self._portal = acquire_portal()
        self.errors: list[MediaError] = []
        self._late: set[asyncio.Task[None]] = set()
        self.stream = RemoteMediaStream("stream", "metadata")

    def __enter__(self) -> MediaPair:
        self._portal.run(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.run(self._close, timeout=10)
        self._portal.release()

    async def _open(self) -> None:
        configuration = RTCConfiguration(iceServers=[])
        self.sender = PeerConnection(configuration, SETTINGS)
        self.receiver = PeerConnection(configuration, SETTINGS)

    async def _close(self) -> None:
        await self.sender.close()
        await self.receiver.close()
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    def post(self, function: object, *args: object) -> None:
        """Run a function on the loop soon."""
        self._portal.post(function, *args)  # type: ignore[arg-type]

    def share(self, *tracks: Track) -> list[RemoteTrack]:
        """Send tracks; return their remote ends, in the same order."""
        return self._portal.run(self._share, tracks, timeout=10)

    async def _share(self, tracks: tuple[Track, ...]) -> list[RemoteTrack]:
        for track in tracks:
            self.sender.add_local_track(shared_track_for(track, self.errors.append), "stream")
        offer = await self.sender.create_offer()
        outcome = await self.receiver.answer_offer(parse_description("offer", offer.sdp, SETTINGS))
        assert outcome.answer is not None
        await self.sender.apply_answer(parse_description("answer", outcome.answer.sdp, SETTINGS))
        received: list[RemoteTrack] = []
        for change in outcome.changes:
            assert isinstance(change, RemoteTrackAdded)
            assert isinstance(change.track, ReceivedTrack)
            remote = make_remote_track(change.track, self.stream, self._portal.post)
            received.append(remote)
            self.stream._add(remote)
        return received

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run an async function on the loop."""
        return self._portal.run(function, timeout=30)

    def run_on_loop(self, function: Callable[[], T]) -> T:
        """Run a plain function on the loop."""

        async def call() -> T:
            return function()

        return self.run(call)

    def replace(self, index: int, track: Track) -> None:
        """Replace a sent track by another, without renegotiation."""

        def replace() -> None:
            sender = self.senders()[index]
            old = sender.track
            sender.replace_track(shared_track_for(track, self.errors.append))
            if old is not None:
                old.stop()

        self.run_on_loop(replace)

    def disturb(self, loses: Callable[[], bool], delay: Callable[[], float]) -> None:
        """Lose and delay what the sender sends from now on."""

        def disturb() -> None:
            ice: Any = self.senders()[0].transport.transport
            send = ice.send_datagram
            loop = asyncio.get_running_loop()

            async def faulty_send(data: bytes) -> None:
                if not loses():
                    task = loop.create_task(late_send(data, delay()))
                    self._late.add(task)
                    task.add_done_callback(self._late.discard)

            async def late_send(data: bytes, seconds: float) -> None:
                await asyncio.sleep(seconds)
                with contextlib.suppress(ConnectionError):
                    await send(data)

            ice.send_datagram = faulty_send

        self.run_on_loop(disturb)

    def senders(self) -> list[RtpSender]:
        return [transceiver.sender for transceiver in self.sender.transceivers]

    def receivers(self) -> list[RtpReceiver]:
        return [transceiver.receiver for transceiver in self.receiver.transceivers]
