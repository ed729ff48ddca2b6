"""The ICE transport of a call: trickling, restartable, aware of silence; loop thread.

aiortc's transport gathers every candidate before it goes on and lives on one connection for
ever. This one goes on with the host candidates, and its connection can be exchanged while
DTLS runs on top of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from aioice import Candidate
from aiortc import InvalidStateError, RTCConfiguration
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtcicetransport import (
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    candidate_from_aioice,
    candidate_to_aioice,
)

from .datagram import Inbox
from .gathering import IceServers
from .ice_connection import IceConnection

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ["IceConnection", "IceGatherer", "IceTransport", "create_ice_transport"]

logger = logging.getLogger(__name__)


def create_ice_transport(
    configuration: RTCConfiguration,
    settings: Settings,
    on_candidate: Callable[[RTCIceCandidate], None],
    username: str | None = None,
    password: str | None = None,
) -> IceTransport:
    """Make the ICE transport of a call, with its gatherer.

    :param on_candidate: takes each candidate found after the host candidates, from the moment
        `gather()` is called; they belong to the gatherer's present local parameters.
    """
    gatherer = IceGatherer(configuration, settings, on_candidate, username, password)
    return IceTransport(gatherer, settings)


class IceGatherer(RTCIceGatherer):
    """Holds the connection that descriptions carry."""

    _connection: IceConnection

    def __init__(
        self,
        configuration: RTCConfiguration,
        settings: Settings,
        on_candidate: Callable[[RTCIceCandidate], None],
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__(iceServers=[])
        servers = configuration.iceServers
        self._servers = IceServers.parse(
            self.getDefaultIceServers() if servers is None else servers
        )
        self._relay_only = configuration.iceTransportPolicy == RTCIceTransportPolicy.RELAY
        self._settings = settings
        self._on_candidate = on_candidate
        self.inbox = Inbox()
        self._connection = self.new_connection(username, password)

    def new_connection(
        self, username: str | None = None, password: str | None = None
    ) -> IceConnection:
        """A connection that is not gathered yet; fresh credentials unless they are given."""
        connection: IceConnection

        def found(candidate: Candidate) -> None:
            if connection is self._connection:
                self._on_candidate(candidate_from_aioice(candidate))

        def gathered() -> None:
            if connection is self._connection:
                self.set_state("completed")

        connection = IceConnection(
            settings=self._settings,
            inbox=self.inbox,
            servers=self._servers,
            relay_only=self._relay_only,
            on_candidate=found,
            on_gathered=gathered,
            username=username,
            password=password,
        )
        return connection

    async def gather(self) -> None:
        """Take the host candidates; the others are found in the background.

        The state is `completed` only when no more can come.
        """
        if self.state == "new":
            self.set_state("gathering")
        await self._connection.gather_candidates()

    def set_state(self, state: str) -> None:
        if state != self.state:
            getattr(self, "_RTCIceGatherer__setState")(state)


class IceTransport(RTCIceTransport):
    """Carries DTLS over whichever connection is the current one."""

    _connection: IceConnection

    def __init__(self, gatherer: IceGatherer, settings: Settings) -> None:
        super().__init__(gatherer)
        self._settings = settings
        self._gatherer = gatherer
        self._inbox = gatherer.inbox
        self._started: asyncio.Event | None = None
        self._recv = self._inbox.get
        self._send = self._transmit
        #: Seconds in which nothing was heard of the peer.
        self.on_silence: Callable[[float], None] | None = None
        #: Called once when the peer is given up.
        self.on_lost: Callable[[], None] | None = None

    async def addRemoteCandidate(self, candidate: RTCIceCandidate | None) -> None:
        """Take or leave a candidate of the peer's; never raises, never waits."""
        if candidate is not None:
            await self._connection.add_remote_candidate(candidate_to_aioice(candidate))

    async def start(self, remoteParameters: RTCIceParameters) -> None:
        """Connect. Ends with the state `completed`, or `closed` when stopped meanwhile."""
        if self.state == "closed":
            raise InvalidStateError("RTCIceTransport is closed")
        if self._started is not None:
            await self._started.wait()
            return
        self._started = asyncio.Event()
        try:
            self._set_state("checking")
            connection = self._connection
            connection.remote_is_lite = remoteParameters.iceLite
            connection.remote_username = remoteParameters.usernameFragment
            connection.remote_password = remoteParameters.password
            try:
                await connection.connect()
            except ConnectionError:
                self._set_state("failed")
            else:
                self._set_state("completed")
        finally:
            self._started.set()

    async def stop(self) -> None:
        """Close every connection; may be called at any moment, and again."""
        self._set_state("closed")
        self._inbox.close()
        await self._connection.close()

    async def _transmit(self, data: bytes) -> None:
        await self._connection.send(data)

    def _set_state(self, state: str) -> None:
        if self.state != "closed":
            getattr(self, "_RTCIceTransport__setState")(state)
