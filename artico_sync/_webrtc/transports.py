"""The ICE, DTLS and SCTP transports of a connection, and their start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from aiortc import RTCConfiguration
from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.dtls.transport import DtlsTransport
from artico_sync._webrtc.ice.gatherer import host_addresses
from artico_sync._webrtc.ice.transport import IceTransport, create_ice_transport
from artico_sync._webrtc.sctp.transport import SctpTransport
from artico_sync._webrtc.sdp.parser import RemoteSection

logger = logging.getLogger(__name__)

#: Defaults if the peer does not announce the values (RFC 8841, RFC 8831).
DEFAULT_SCTP_PORT = 5000
DEFAULT_MESSAGE_SIZE = 65536
#: Silence after which ICE is restarted, as a fraction of the silence that ends a call: 2 s of 6.
#: Chromium ends a call after 5 s.
RESTART_FRACTION = 1 / 3
#: Time to wait for the first check of a browser that has offered an ICE restart. If a local check
#: arrives before the answer, Chromium rates the new path below the old one while that one works,
#: and never reconsiders it.
FIRST_CHECK_SECONDS = 0.5


class Transports:
    """ICE, DTLS over it, and SCTP over that once there is a data channel.

    Created and closed by the connection.
    """

    def __init__(
        self,
        configuration: RTCConfiguration,
        certificates: list[RTCCertificate],
        settings: Settings,
        on_candidate: Callable[[RTCIceCandidate], None],
        on_state_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self.ice: IceTransport = create_ice_transport(configuration, settings, on_candidate)
        self.dtls = DtlsTransport(self.ice, certificates, accelerate=settings.accelerate)
        self.sctp: SctpTransport | None = None
        self._role_is_set = False
        #: True if the path to the peer or the peer's SCTP transport has been given up.
        self.lost = False
        #: Called when the path has failed or is silent: an ICE restart may find another.
        self.on_restart_needed: Callable[[], None] | None = None
        # The local addresses at the last restart because of silence; None before the first.
        # They are compared so that it is repeated only on another network.
        self._restart_addresses: list[str] | None = None
        self._data_parameters: tuple[int, int] | None = None
        self.ice.on("statechange", self._on_ice_state)
        self.ice.on("statechange", on_state_change)
        self.dtls.on("statechange", on_state_change)
        self.ice.on_lost = self._on_lost
        self.ice.on_silence = self._on_silence
        self.ice.on_restart_needed = self._on_restart_needed

    # ICE

    @property
    def username(self) -> str | None:
        """The username fragment in local descriptions; a new one restarts ICE."""
        return self.ice.iceGatherer.getLocalParameters().usernameFragment

    def set_controlling(self, controlling: bool) -> None:
        """Take the ICE role that the first offer decides; has no effect later."""
        if not self._role_is_set:
            self.ice.agent.ice_controlling = controlling
            self._role_is_set = True

    def unset_role(self) -> None:
        """Let another offer decide the role, because the first was rolled back."""
        self._role_is_set = False

    @property
    def controlling(self) -> bool:
        return self.ice.role == "controlling"

    def finish_restart(
        self, remote: RTCIceParameters, *, offered: bool, with_browser: bool
    ) -> None:
        """Switch to the path of an ICE restart; if none is found, request another restart.

        The old path is used until then.

        Args:
            offered: True if the restart was offered by this end and is answered now.
        """
        if with_browser:
            # In Chromium and Safari the side that offers the restart becomes controlling, although
            # RFC 8445 6.1.1 keeps the roles. Checks resolve the conflict with a peer that does.
            self.ice.set_role(offered)
        first_check_delay = FIRST_CHECK_SECONDS if with_browser and not offered else 0.0
        try:
            self.ice.finish_restart(remote, first_check_delay).add_done_callback(
                self._on_restart_ended
            )
        except InvalidStateError as error:
            self._on_restart_failed(error)

    def _on_restart_ended(self, restart: asyncio.Task[None]) -> None:
        if restart.cancelled():
            logger.debug("an ICE restart was given up")
        elif (error := restart.exception()) is not None:
            self._on_restart_failed(error)
        else:
            self._follow_path()
            self._on_path_change()

    def _on_restart_failed(self, error: BaseException) -> None:
        # The descriptions of both sides are about a path that does not exist.
        logger.info("an ICE restart failed: %s", error)
        self._on_restart_needed()

    def _on_ice_state(self) -> None:
        self.lost = self.lost or self.ice.state == "failed"
        if self.ice.state == "completed":
            self._follow_path()

    def _follow_path(self) -> None:
        self.ice.agent.path.on_change = self._on_path_change

    def _on_path_change(self) -> None:
        if self.sctp is not None:
            self.sctp.on_path_change()

    def _on_lost(self) -> None:
        self.lost = True

    def _on_silence(self, seconds: float) -> None:
        """Request a restart if the peer is silent, and again if the local addresses change."""
        if seconds < self._settings.silence_timeout * RESTART_FRACTION:
            self._restart_addresses = None
            return
        addresses = host_addresses()
        if addresses != self._restart_addresses:
            self._restart_addresses = addresses
            self._on_restart_needed()

    def _on_restart_needed(self) -> None:
        # A socket that keeps failing reports it again and again during the restart.
        if self.on_restart_needed is not None and not self.ice.is_restarting:
            logger.info("the path is silent or has failed, restarting ICE")
            self.on_restart_needed()

    # SCTP

    def data(self) -> SctpTransport:
        """Return the transport of the data channels, created on first use."""
        if self.sctp is None:
            self.sctp = SctpTransport(self.dtls, self._settings)
            self.sctp.on_lost = self._on_lost
        return self.sctp

    def negotiate_data(self, remote: RemoteSection) -> None:
        """Store the parameters of the peer's SCTP transport."""
        self.data()
        media = remote.media
        port = media.sctp_port or DEFAULT_SCTP_PORT
        if media.profile == "DTLS/SCTP":
            port = int(media.fmt[0])
        size = DEFAULT_MESSAGE_SIZE
        if media.sctpCapabilities is not None:
            size = media.sctpCapabilities.maxMessageSize
        self._data_parameters = self._data_parameters or (size, port)

    # All

    @property
    def state(self) -> str:
        """The state of the connection (W3C RTCPeerConnectionState)."""
        ice, dtls = self.ice.state, self.dtls.state
        if "failed" in (ice, dtls):
            return "failed"
        if ice in ("new", "closed") and dtls in ("new", "closed"):
            return "new"
        # Between the end of ICE and the start of DTLS it is still connecting.
        if ice == "checking" or dtls in ("connecting", "new"):
            return "connecting"
        return "connected"

    @property
    def connected(self) -> bool:
        return self.dtls.state == "connected"

    async def establish(self, ice: RTCIceParameters, dtls: RTCDtlsParameters) -> None:
        """Connect to the peer; the states of the transports show if that fails."""
        await self.ice.start(ice)
        if self.ice.state == "completed" and self.dtls.state == "new":
            await self.dtls.start(dtls)

    async def start_data(self) -> None:
        """Start the data transport once it is negotiated; has no effect after that."""
        if self.sctp is not None and self._data_parameters is not None and self.connected:
            await self.sctp.start(*self._data_parameters)

    async def close(self) -> None:
        if self.sctp is not None:
            await self.sctp.stop()
        await self.dtls.stop()
        await self.ice.stop()
