"""The transports of a connection, one of each kind, and how they come up; loop thread."""

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

#: What RFC 8841 and RFC 8831 say when the peer does not.
DEFAULT_SCTP_PORT = 5000
DEFAULT_MESSAGE_SIZE = 65536
#: Silence after which another path is looked for, as a fraction of that which ends a call: 2 s of
#: 6. Chromium's peers end a call after 5.
RESTART_AFTER = 1 / 3
#: Seconds a browser is given to begin its checks when it has offered a restart. A check of ours
#: that comes before our answer makes Chromium take the new path for worse than the old one, while
#: that one is good, and never look at it again.
ANSWER_DELAY = 0.5


class Transports:
    """ICE, DTLS over it, and SCTP over that once there is a data channel.

    Made and closed by the connection.
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
        #: The path to the peer, or the peer's end of the data transport, was given up.
        self.lost = False
        #: The path is gone or silent; another may be found.
        self.on_restart_needed: Callable[[], None] | None = None
        # The machine's addresses as of the last search for another path; None before the first.
        self._searched: list[str] | None = None
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
        """The username fragment our descriptions carry now; a new one means a restart."""
        return self.ice.iceGatherer.getLocalParameters().usernameFragment

    @property
    def role_is_set(self) -> bool:
        return self.ice._role_set

    def set_controlling(self, controlling: bool) -> None:
        """Who nominates the pair is settled by the first offer."""
        if not self.ice._role_set:
            self.ice._connection.ice_controlling = controlling
            self.ice._role_set = True

    def unset_role(self) -> None:
        """The first offer was taken back."""
        self.ice._role_set = False

    @property
    def controlling(self) -> bool:
        return self.ice.role == "controlling"

    def finish_restart(
        self, remote: RTCIceParameters, *, offered: bool, with_browser: bool
    ) -> None:
        """Move to the path of an ICE restart; when there is none, the old one goes on, and
        another restart is asked for.

        Args:
            offered: By us, and answered now.
        """
        if with_browser:
            # Who offers the restart nominates: so have it Chromium and Safari, though RFC 8445
            # section 6.1.1 keeps the roles. A peer that keeps them settles it by checks.
            self.ice.take_role(offered)
        patience = ANSWER_DELAY if with_browser and not offered else 0.0
        try:
            self.ice.finish_restart(remote, patience).add_done_callback(self._on_restart_ended)
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
        # Both sides' descriptions tell of a path that does not exist.
        logger.info("an ICE restart came to nothing: %s", error)
        self._on_restart_needed()

    def _on_ice_state(self) -> None:
        self.lost = self.lost or self.ice.state == "failed"
        if self.ice.state == "completed":
            self._follow_path()

    def _follow_path(self) -> None:
        self.ice._connection.path.on_change = self._on_path_change

    def _on_path_change(self) -> None:
        if self.sctp is not None:
            self.sctp.on_path_change()

    def _on_lost(self) -> None:
        self.lost = True

    def _on_silence(self, seconds: float) -> None:
        """Look for another path when the peer falls silent, and again when our addresses change."""
        if seconds < self._settings.silence_timeout * RESTART_AFTER:
            self._searched = None
            return
        addresses = host_addresses()
        if addresses != self._searched:
            self._searched = addresses
            self._on_restart_needed()

    def _on_restart_needed(self) -> None:
        # A socket that keeps failing says so again and again, while another path is being found.
        if self.on_restart_needed is not None and not self.ice.is_restarting:
            logger.info("the path is silent or gone, looking for another")
            self.on_restart_needed()

    # SCTP

    def data(self) -> SctpTransport:
        """The transport of the data channels, made at the first need."""
        if self.sctp is None:
            self.sctp = SctpTransport(self.dtls, self._settings)
            self.sctp.on_lost = self._on_lost
        return self.sctp

    def negotiate_data(self, remote: RemoteSection) -> None:
        """Take down what the peer says about its end of the data transport."""
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
        """Connect to the peer; where that fails, the states of the transports tell."""
        await self.ice.start(ice)
        if self.ice.state == "completed" and self.dtls.state == "new":
            await self.dtls.start(dtls)

    async def start_data(self) -> None:
        """Start the data transport once it has been negotiated; harmless again."""
        if self.sctp is not None and self._data_parameters is not None and self.connected:
            await self.sctp.start(*self._data_parameters)

    async def close(self) -> None:
        if self.sctp is not None:
            await self.sctp.stop()
        await self.dtls.stop()
        await self.ice.stop()
