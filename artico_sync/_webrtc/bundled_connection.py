"""An aiortc peer connection whose transports are ours, all m-lines over one; loop thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceTransport

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc._aiortc.construction import construct
from artico_sync._webrtc.ice.transport import IceTransport
from artico_sync._webrtc.rtp.transceiver import Transceiver
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.transport import SctpTransport
from artico_sync._webrtc.transports import Transports

logger = logging.getLogger(__name__)


class BundledConnection(RTCPeerConnection):
    """What a connection is made of, the states it shows, and its end; negotiates nothing."""

    # What is aiortc's own; tests/unit/_webrtc/_aiortc/test_private_names.py fails when a name goes.
    _RTCPeerConnection__certificates: list[RTCCertificate]
    _RTCPeerConnection__cname: str
    _RTCPeerConnection__configuration: RTCConfiguration
    _RTCPeerConnection__dtlsTransports: set[RTCDtlsTransport]
    _RTCPeerConnection__iceTransports: set[RTCIceTransport]
    _RTCPeerConnection__isClosed: asyncio.Future[bool] | None
    _RTCPeerConnection__transceivers: list[Transceiver]
    _RTCPeerConnection__setSignalingState: Callable[[str], None]
    _RTCPeerConnection__updateConnectionState: Callable[[], None]
    _RTCPeerConnection__updateIceConnectionState: Callable[[], None]
    _RTCPeerConnection__updateIceGatheringState: Callable[[], None]

    def __init__(
        self,
        configuration: RTCConfiguration | None,
        settings: Settings,
        certificate: RTCCertificate | None,
        on_candidate: Callable[[RTCIceCandidate], None],
    ) -> None:
        configuration = configuration or RTCConfiguration()
        if certificate is None or not settings.accelerate:
            super().__init__(configuration)
        else:
            construct(self, configuration)
        if certificate is not None:
            self._RTCPeerConnection__certificates = [certificate]
        self._settings = settings
        self._transports = Transports(
            self._RTCPeerConnection__configuration,
            self._RTCPeerConnection__certificates,
            settings,
            on_candidate,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._adopt_transports()

    def _adopt_transports(self) -> None:
        """Let aiortc compute its states from our transports."""
        ice, dtls = self._transports.ice, self._transports.dtls
        ice.iceGatherer.on("statechange", self._RTCPeerConnection__updateIceGatheringState)
        ice.on("statechange", self._RTCPeerConnection__updateIceConnectionState)
        ice.on("statechange", self._RTCPeerConnection__updateConnectionState)
        dtls.on("statechange", self._RTCPeerConnection__updateConnectionState)
        self._RTCPeerConnection__iceTransports.add(ice)
        self._RTCPeerConnection__dtlsTransports.add(dtls)

    # What it is made of

    @property
    def ice_transport(self) -> IceTransport:
        """What finds and keeps the path to the peer."""
        return self._transports.ice

    @property
    def sctp_transport(self) -> SctpTransport:
        """The transport of the data channels."""
        return self._data_transport()

    def _data_transport(self) -> SctpTransport:
        sctp = self._transports.data()
        if sctp.channels.on_channel is None and not self.closing:
            sctp.channels.on_channel = self._on_channel
        return sctp

    def _on_channel(self, channel: Channel) -> None:
        self.emit("datachannel", channel)

    def createDataChannel(self, label: str) -> Channel:  # type: ignore[override]
        """Open a data channel, reliable and ordered."""
        return self._data_transport().open_channel(ChannelParameters(label=label))

    # State

    @property
    def closing(self) -> bool:
        """Whether it is over, or about to be: by our `close`, or by the peer's goodbye."""
        ours = self._RTCPeerConnection__isClosed is not None
        return ours or self._transports.dtls.state == "closed"

    @property
    def lost(self) -> bool:
        """Whether the path to the peer was given up, rather than closed by either side."""
        return self._transports.lost

    @property
    def on_restart_needed(self) -> Callable[[], None] | None:
        """Called when the path to the peer is gone or silent; a new offer may find another."""
        return self._transports.on_restart_needed

    @on_restart_needed.setter
    def on_restart_needed(self, handler: Callable[[], None] | None) -> None:
        self._transports.on_restart_needed = handler

    def _assert_open(self) -> None:
        if self.closing:
            raise InvalidStateError("the connection is closed")

    def _assert_state(self, wanted: str) -> None:
        self._assert_open()
        if self.signalingState != wanted:
            raise InvalidStateError(f"not possible in {self.signalingState!r}")

    def _set_state(self, state: str) -> None:
        if not self.closing:
            self._RTCPeerConnection__setSignalingState(state)

    # Tasks and the end

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.closing:
            logger.warning("the connection's background work failed: %r", error)

    async def close(self) -> None:
        """End the connection and all that works for it; may be called at any moment, and again."""
        await super().close()
        await self._transports.close()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
