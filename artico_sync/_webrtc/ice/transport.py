"""The ICE transport of a call: trickling, restartable, with detection of silence.

aiortc's transport waits until all candidates are gathered, and has one connection during its whole
life. This one continues with the host candidates, and its agent can be replaced while DTLS runs on
top of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aioice import Candidate
from aiortc import InvalidStateError, RTCConfiguration
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtcicetransport import (
    RTCIceCandidate,
    RTCIceParameters,
    candidate_from_aioice,
    candidate_to_aioice,
)

from artico_sync._webrtc._aiortc.ice import AiortcIceGatherer, AiortcIceTransport
from artico_sync._webrtc.ice.agent import IceAgent
from artico_sync._webrtc.ice.consent import Consent
from artico_sync._webrtc.ice.servers import IceServers
from artico_sync._webrtc.net.udp import Inbox

if TYPE_CHECKING:
    from artico_sync._protocol.settings import Settings

__all__ = ["IceAgent", "IceGatherer", "IceTransport", "create_ice_transport"]

logger = logging.getLogger(__name__)

#: Placeholder credentials of minimum length (RFC 8839 5.4).
PLACEHOLDER_UFRAG = 4 * "0"
PLACEHOLDER_PWD = 22 * "0"
#: Seconds for which the old agent still receives after a restart: the peer may still send over its
#: pair, and would have to retransmit lost packets.
OLD_PAIR_GRACE_SECONDS = 2.0
#: Time a restart has to find a path before another one may replace it, as a fraction of
#: `silence_timeout`: several round trips of a long path.
RESTART_THRESHOLD = 2 / 3


def create_ice_transport(
    configuration: RTCConfiguration,
    settings: Settings,
    on_candidate: Callable[[RTCIceCandidate], None],
    username: str | None = None,
    password: str | None = None,
) -> IceTransport:
    """Make the ICE transport of a call, with its gatherer.

    Args:
        on_candidate: Called with each candidate found after the host candidates, once `gather()`
            is called; it belongs to the gatherer's current local parameters.
    """
    gatherer = IceGatherer(configuration, settings, on_candidate, username, password)
    return IceTransport(gatherer, settings)


class IceGatherer(AiortcIceGatherer):
    """Owns the agent whose candidates and credentials the local description contains."""

    def __init__(
        self,
        configuration: RTCConfiguration,
        settings: Settings,
        on_candidate: Callable[[RTCIceCandidate], None],
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        # aiortc creates a connection here, for which it would generate credentials slowly.
        super().__init__(
            iceServers=[], local_username=PLACEHOLDER_UFRAG, local_password=PLACEHOLDER_PWD
        )
        self._gathering_state = "new"
        servers = configuration.iceServers
        self._servers = IceServers.parse(
            self.getDefaultIceServers() if servers is None else servers
        )
        self._relay_only = configuration.iceTransportPolicy == RTCIceTransportPolicy.RELAY
        self._settings = settings
        self._on_candidate = on_candidate
        self.inbox = Inbox()
        self.agent = self.create_agent(username, password)

    def create_agent(self, username: str | None = None, password: str | None = None) -> IceAgent:
        """Return an agent that has not gathered yet; new credentials unless they are given."""
        connection: IceAgent

        def found(candidate: Candidate) -> None:
            if connection is self.agent:
                self._on_candidate(candidate_from_aioice(candidate))

        def gathered() -> None:
            if connection is self.agent:
                self.set_state("completed")

        connection = IceAgent(
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
        """Gather the host candidates; the others are found in the background.

        The state is `completed` only when no more candidates will be found.
        """
        if self.state == "new":
            self.set_state("gathering")
        await self.agent.gather_candidates()

    def set_agent(self, connection: IceAgent) -> None:
        """Describe `connection` from now on."""
        self.agent = connection
        self.set_state("completed" if connection.is_gathered else "new")

    @property
    def state(self) -> str:
        """ "new", "gathering" or "completed" (W3C RTCIceGathererState)."""
        return self._gathering_state

    def set_state(self, state: str) -> None:
        """Enter a state."""
        if state != self._gathering_state:
            self._gathering_state = state
            self.emit("statechange")


class IceTransport(AiortcIceTransport):
    """Carries DTLS over the current agent, and replaces the agent in an ICE restart.

    It owns the agents and the consent checks.
    """

    def __init__(self, gatherer: IceGatherer, settings: Settings) -> None:
        super().__init__(gatherer)
        self._transport_state = "new"
        self._settings = settings
        self._gatherer = gatherer
        self._inbox = gatherer.inbox
        self._started: asyncio.Event | None = None
        #: The agent of a restart that is offered or in progress.
        self._next: IceAgent | None = None
        self._restart: asyncio.Task[None] | None = None
        #: When it was prepared, later when the peer answered it (the loop's time).
        self._restart_began = 0.0
        self._retiring: dict[asyncio.Task[None], IceAgent] = {}
        self._consent = Consent(
            settings.silence_timeout, on_silence=self._silent, on_lost=self._lost
        )
        self.agent.on_role = self.set_role
        self.receive_datagram = self._inbox.get
        self.send_datagram = self._transmit
        #: Called during a silence of the peer, with its length in seconds, and once with 0.0
        #: when the peer is received again.
        self.on_silence: Callable[[float], None] | None = None
        #: Called once when the peer is given up; the state is `failed` then.
        self.on_lost: Callable[[], None] | None = None
        #: Called when the system reports that the path is unusable; an ICE restart may find
        #: another.
        self.on_restart_needed: Callable[[], None] | None = None

    # Candidates

    async def addRemoteCandidate(self, candidate: RTCIceCandidate | None) -> None:
        """Add a remote candidate, or ignore it if it is unusable; never raise or block.

        The end of candidates is ignored. During a restart a candidate may be of either
        generation; a check to one of the wrong generation is rejected by the peer.
        """
        if candidate is None:
            return
        for connection in (self.agent, self._next):
            if connection is not None:
                await connection.add_remote_candidate(candidate_to_aioice(candidate))

    # Connecting

    async def start(self, remoteParameters: RTCIceParameters) -> None:
        """Connect, without a timeout; return early, without raising, if stopped."""
        if self.state == "closed":
            raise InvalidStateError("RTCIceTransport is closed")
        if self._started is not None:
            await self._started.wait()
            return
        self._started = asyncio.Event()
        connection = self.agent
        self._set_state("checking")
        try:
            await _connect(connection, remoteParameters)
        except ConnectionError as exc:
            if connection is self.agent and self.state != "closed":
                logger.info("%s did not connect: %s", connection, exc)
                self._set_state("failed")
        else:
            if connection is self.agent:
                self._established(connection)
        finally:
            self._started.set()

    async def stop(self) -> None:
        """Close all agents; may be called at any time, and repeatedly."""
        self._set_state("closed")
        self._consent.stop()
        self._inbox.consumer = None
        self._inbox.close()
        retiring = dict(self._retiring)
        tasks = set(retiring)
        if self._restart is not None:
            tasks.add(self._restart)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for connection in (*retiring.values(), *self._connections()):
            await connection.close()

    def _connections(self) -> list[IceAgent]:
        """Return all open agents."""
        connections = [*self._retiring.values(), self.agent]
        return connections if self._next is None else [*connections, self._next]

    # Data

    async def _transmit(self, data: bytes) -> None:
        self.agent.path.send(data)

    def send_batch(self, data: bytes | memoryview, size: int) -> None:
        """Send concatenated datagrams of `size` bytes each, the last of which may be smaller.

        Raises:
            ConnectionError: There is no path.
        """
        self.agent.path.send_batch(data, size)

    def receive_now(self) -> bytes | None:
        """Return the next datagram if one is queued."""
        return self._inbox.get_nowait()

    def consume(self, consumer: Callable[[bytes], bool] | None) -> None:
        """Pass datagrams to `consumer` as they are read, in place of queueing them.

        One for which it returns False is queued for `receive_datagram`, and so are later ones until
        the queue is empty again.
        """
        self._inbox.consumer = consumer

    def _established(self, connection: IceAgent) -> None:
        connection.on_broken = self._broken
        self._consent.watch(connection)
        self._set_state("completed")

    @property
    def state(self) -> str:
        """ "new", "checking", "completed", "failed" or "closed" (W3C RTCIceTransportState)."""
        return self._transport_state

    def _set_state(self, state: str) -> None:
        if self._transport_state not in ("closed", state):
            self._transport_state = state
            self.emit("statechange")

    # Changes of the path

    def _silent(self, seconds: float) -> None:
        if self.on_silence is not None:
            self.on_silence(seconds)

    def _lost(self) -> None:
        logger.info(
            "The peer has been silent for %.1f s: it is lost", self._settings.silence_timeout
        )
        self._set_state("failed")
        if self.on_lost is not None:
            self.on_lost()

    def _broken(self) -> None:
        if self.on_restart_needed is not None:
            self.on_restart_needed()

    def path_stats(self) -> dict[str, object]:
        """Return the pair in use (`local` and `remote`: type, address, port, protocol) and its
        `round_trip_time` in seconds; empty before there is one."""
        stats: dict[str, object] = self.agent.path.stats()
        return stats

    @property
    def receive_buffer(self) -> int:
        """Bytes of unread datagrams that the kernel keeps for the socket at most; 0 without one."""
        size: int = self.agent.path.receive_buffer
        return size

    def set_role(self, controlling: bool) -> None:
        """Become the controlling or the controlled side on every agent."""
        for connection in self._connections():
            if connection.ice_controlling is not controlling:
                connection.switch_role(controlling)

    # ICE restart

    def is_connected_to(self, remote: RTCIceParameters) -> bool:
        """Return whether `remote` are the credentials of the peer on the path in use."""
        used = self.agent.remote_username, self.agent.remote_password
        return used == (remote.usernameFragment, remote.password)

    @property
    def is_restarting(self) -> bool:
        """Return whether a restart is in progress that another one would only delay."""
        if self._next is None or self.restart_is_outdated:
            return False
        age = asyncio.get_running_loop().time() - self._restart_began
        return age < self._settings.silence_timeout * RESTART_THRESHOLD

    @property
    def restart_is_outdated(self) -> bool:
        """Return whether the machine's addresses have changed since a restart was prepared."""
        return self._next is not None and self._next.is_outdated

    async def prepare_restart(self) -> None:
        """Create an agent, gather its candidates, and describe it from now on.

        If one is prepared and not answered yet, it stays. One that is connecting is replaced by
        a new one, and so is one gathered before the machine's addresses changed.
        """
        if self.state == "closed":
            raise InvalidStateError("RTCIceTransport is closed")
        if self._restart is not None or self.restart_is_outdated:
            await self.cancel_restart()
        if self._next is None:
            await self.agent.stop_gathering()
            self._restart_began = asyncio.get_running_loop().time()
            self._next = self._gatherer.create_agent()
            self._next.inherit_role(self.agent)
            self._next.on_role = self.set_role
            self._gatherer.set_agent(self._next)
        await self._gatherer.gather()

    def finish_restart(
        self, remote: RTCIceParameters, first_check_delay: float = 0.0
    ) -> asyncio.Task[None]:
        """Connect the prepared agent, and use it in place of the old one once it is connected.

        The restart counts as in progress at once, not only as prepared.

        Args:
            first_check_delay: Seconds to wait for the first check of the peer before the local
                checks begin.

        Returns:
            A task that ends with the restart, with a ConnectionError if it did not connect in
            time. It is cancelled together with the restart. The old agent stays in use then.

        Raises:
            InvalidStateError: No restart was prepared.
        """
        if self._next is None:
            raise InvalidStateError("No ICE restart was prepared")
        if self._restart is None:
            self._restart_began = asyncio.get_running_loop().time()
            self._restart = asyncio.create_task(
                self._replace_agent(self._next, remote, first_check_delay)
            )
        return self._restart

    async def cancel_restart(self) -> None:
        """Cancel a restart that is not complete; has no effect if there is none."""
        restart, self._restart = self._restart, None
        if restart is not None:
            restart.cancel()
            await asyncio.wait([restart])
        connection, self._next = self._next, None
        if connection is not None:
            self._gatherer.set_agent(self.agent)
            await connection.close()

    async def _replace_agent(
        self, connection: IceAgent, remote: RTCIceParameters, first_check_delay: float
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                if first_check_delay:
                    await connection.wait_for_first_check(first_check_delay)
                await _connect(connection, remote)
        except (ConnectionError, TimeoutError) as exc:
            self._next = self._restart = None
            self._gatherer.set_agent(self.agent)
            await connection.close()
            raise ConnectionError(f"The ICE restart failed: {exc!r}") from exc
        old, self.agent = self.agent, connection
        self._next = self._restart = None
        self._established(connection)
        retiring = asyncio.create_task(_close_later(old))
        self._retiring[retiring] = old
        retiring.add_done_callback(self._retiring.pop)

    def discard_all(self) -> None:
        """Discard every datagram sent or received on the sockets that are open now.

        The connection falls silent without ending, as if the peer had lost its network. For tests.
        """
        for connection in (self.agent, self._next):
            if connection is not None:
                for protocol in connection.sockets:
                    # Set on the objects themselves, which others hold references to.
                    setattr(protocol, "datagram_received", _discard)
                    setattr(protocol.transport, "sendto", _discard)


def _discard(*arguments: Any) -> None:
    """Discard a datagram."""


async def _close_later(connection: IceAgent) -> None:
    connection.on_broken = None
    await asyncio.sleep(OLD_PAIR_GRACE_SECONDS)
    await connection.close()


async def _connect(connection: IceAgent, remote: RTCIceParameters) -> None:
    connection.remote_is_lite = remote.iceLite
    connection.remote_username = remote.usernameFragment
    connection.remote_password = remote.password
    await connection.connect()
