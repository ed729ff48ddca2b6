"""The transports of a connection to one peer, the states it shows, and its end.

aiortc's own peer connection is not used: its methods change the connection as they go, and it has
no rollback, no trickle and no ICE restart. Its parts are: codecs, RTP and SDP parsing, DTLS, ICE.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import RTCConfiguration
from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import RTCCertificate
from aiortc.rtcicetransport import RTCIceCandidate

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.transport import IceTransport
from artico_sync._webrtc.rtp.transceiver import Transceiver
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.transport import SctpTransport
from artico_sync._webrtc.transports import Transports

logger = logging.getLogger(__name__)


class BundledConnection:
    """A connection whose m-sections share one transport (BUNDLE); it negotiates nothing itself.

    Args:
        configuration: ICE servers and policy.
        settings: Limits and times.
        certificate: The DTLS certificate; without one a new one is made, which takes a while.
        on_candidate: Called with each local candidate.

    Attributes:
        signaling_state: "stable", "have-local-offer", "have-remote-offer" or "closed".
        connection_state: As W3C RTCPeerConnectionState, without "disconnected".
        transceivers: The senders and receivers of the audio and video m-sections in use.
        on_state_change: Called when `connection_state` has changed.
        on_channel: Called with each data channel the peer opens.
    """

    def __init__(
        self,
        configuration: RTCConfiguration | None,
        settings: Settings,
        certificate: RTCCertificate | None,
        on_candidate: Callable[[RTCIceCandidate], None],
    ) -> None:
        self.signaling_state = "stable"
        self.connection_state = "new"
        self.on_state_change: Callable[[], None] | None = None
        self.on_channel: Callable[[Channel], None] | None = None
        self._settings = settings
        self._transports = Transports(
            configuration or RTCConfiguration(),
            [certificate or RTCCertificate.generateCertificate()],
            settings,
            on_candidate,
            self._on_transport_state,
        )
        self.transceivers: list[Transceiver] = []
        self._closed: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # Its parts

    @property
    def ice_transport(self) -> IceTransport:
        """The ICE transport."""
        return self._transports.ice

    @property
    def sctp_transport(self) -> SctpTransport:
        """The transport of the data channels, made on first use."""
        return self._data_transport()

    def _data_transport(self) -> SctpTransport:
        sctp = self._transports.data()
        if sctp.channels.on_channel is None and not self.closing:
            sctp.channels.on_channel = self._on_remote_channel
        return sctp

    def open_channel(self, label: str) -> Channel:
        """Open a data channel, reliable and ordered."""
        return self.sctp_transport.open_channel(ChannelParameters(label=label))

    def _on_remote_channel(self, channel: Channel) -> None:
        if self.on_channel is not None:
            self.on_channel(channel)

    # Its state

    @property
    def closing(self) -> bool:
        """True once `close` was called or the peer has closed the DTLS transport."""
        return self._closed is not None or self._transports.dtls.state == "closed"

    @property
    def lost(self) -> bool:
        """True if the path to the peer was given up, rather than closed by either side."""
        return self._transports.lost

    @property
    def on_restart_needed(self) -> Callable[[], None] | None:
        """Called when the path to the peer is lost or silent, and a restart may find another."""
        return self._transports.on_restart_needed

    @on_restart_needed.setter
    def on_restart_needed(self, handler: Callable[[], None] | None) -> None:
        self._transports.on_restart_needed = handler

    def _on_transport_state(self) -> None:
        state = "closed" if self._closed is not None else self._transports.state
        if state != self.connection_state:
            logger.debug("connection state %s -> %s", self.connection_state, state)
            self.connection_state = state
            if self.on_state_change is not None:
                self.on_state_change()
        if self._closed is None and self._transports.dtls.state == "closed":
            self._spawn(self._close())

    def _assert_open(self) -> None:
        if self.closing:
            raise InvalidStateError("the connection is closed")

    def _assert_state(self, wanted: str) -> None:
        self._assert_open()
        if self.signaling_state != wanted:
            raise InvalidStateError(f"not possible in {self.signaling_state!r}")

    def _set_state(self, state: str) -> None:
        if not self.closing:
            self.signaling_state = state

    # Its end

    async def close(self) -> None:
        """End the connection and everything in it; may be called at any moment, and again."""
        await self._close()
        tasks = self._tasks - {asyncio.current_task()}
        if tasks:
            await asyncio.wait(tasks)

    async def _close(self) -> None:
        if self._closed is not None:
            await self._closed
            return
        self._closed = asyncio.get_running_loop().create_future()
        self.signaling_state = "closed"
        for transceiver in self.transceivers:
            await transceiver.stop()
        await self._transports.close()
        self._on_transport_state()
        # Handlers would only keep their owners in memory.
        self.on_state_change = self.on_channel = None
        self._closed.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.closing:
            logger.warning("background work of the connection failed: %r", error)
