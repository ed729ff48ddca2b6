"""Two real peer connections on the library's loop thread, with media from one to the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar
from unittest import mock

from aiortc import RTCConfiguration, RTCPeerConnection, rtcpeerconnection

from artico_sync._bridge.portal import acquire_portal
from artico_sync._webrtc.media.local_track import source_for
from artico_sync._webrtc.media.remote_track import ReceivedTrack
from artico_sync._webrtc.rtp.receiver import RtpReceiver
from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync.errors import MediaError
from artico_sync.media import RemoteMediaStream, RemoteTrack
from artico_sync.media.remote import make_remote_track
from artico_sync.media.streams import Track

T = TypeVar("T")


class MediaPair:
    """Shares local tracks from `sender` to `receiver`; use it in a `with` block."""

    def __init__(self) -> None:
        self._portal = acquire_portal()
        self._patches: list[Any] = [
            mock.patch.object(rtcpeerconnection, "RTCRtpSender", RtpSender),
            mock.patch.object(rtcpeerconnection, "RTCRtpReceiver", RtpReceiver),
        ]
        self.errors: list[MediaError] = []
        self._late: set[asyncio.Task[None]] = set()
        self.stream = RemoteMediaStream("stream", "metadata")

    def __enter__(self) -> MediaPair:
        for patch in self._patches:
            patch.start()
        self._portal.run(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal.run(self._close, timeout=10)
        for patch in self._patches:
            patch.stop()
        self._portal.release()

    async def _open(self) -> None:
        self.sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.receiver = RTCPeerConnection(RTCConfiguration(iceServers=[]))

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
        """Send tracks; returns their remote ends, in the same order."""
        return self._portal.run(self._share, tracks, timeout=10)

    async def _share(self, tracks: tuple[Track, ...]) -> list[RemoteTrack]:
        received: dict[str, RemoteTrack] = {}

        def on_track(track: ReceivedTrack) -> None:
            remote = make_remote_track(track, self.stream, self._portal.post)
            received[remote.id] = remote
            self.stream._add(remote)

        self.receiver.on("track", on_track)
        for track in tracks:
            self.sender.addTrack(source_for(track, self.errors.append))
        await self.sender.setLocalDescription(await self.sender.createOffer())
        await self.receiver.setRemoteDescription(self.sender.localDescription)
        await self.receiver.setLocalDescription(await self.receiver.createAnswer())
        await self.sender.setRemoteDescription(self.receiver.localDescription)
        return [received[track.id] for track in tracks]

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run an async function on the loop."""
        return self._portal.run(function, timeout=30)

    def run_on_loop(self, function: Callable[[], T]) -> T:
        """Run a plain function on the loop."""

        async def call() -> T:
            return function()

        return self.run(call)

    def replace(self, index: int, track: Track) -> None:
        """Send another track in the place of one, without renegotiation."""

        def replace() -> None:
            sender = self.senders()[index]
            old = sender.track
            sender.replaceTrack(source_for(track, self.errors.append))
            if old is not None:
                old.stop()

        self.run_on_loop(replace)

    def disturb(self, loses: Callable[[], bool], delay: Callable[[], float]) -> None:
        """Lose and delay what the sender sends from now on."""

        def disturb() -> None:
            ice: Any = self.senders()[0].transport.transport
            send = ice._send
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

            ice._send = faulty_send

        self.run_on_loop(disturb)

    def senders(self) -> list[RtpSender]:
        return [s for s in self.sender.getSenders() if isinstance(s, RtpSender)]

    def receivers(self) -> list[RtpReceiver]:
        return [r for r in self.receiver.getReceivers() if isinstance(r, RtpReceiver)]
