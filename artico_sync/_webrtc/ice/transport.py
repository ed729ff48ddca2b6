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
    RTCIceParameters,
    candidate_from_aioice,
    candidate_to_aioice,
)

from artico_sync._webrtc._aiortc.ice import AiortcIceGatherer, AiortcIceTransport
from artico_sync._webrtc.ice.agent import IceAgent
from artico_sync._webrtc.ice.consent import Consent
from artico_sync._webrtc.ice.gatherer import IceServers
from artico_sync._webrtc.net.udp import Inbox

if TYPE_CHECKING:
    from artico_sync._protocol.settings import Settings

__all__ = ["IceAgent", "IceGatherer", "IceTransport", "create_ice_transport"]

logger = logging.getLogger(__name__)

#: Of a connection that is never used, as short as ICE has it (RFC 8839 5.4).
NOBODY = 4 * "0"
NO_PASSWORD = 22 * "0"
#: Seconds the old connection still listens after a restart: the peer may not have changed over
#: yet, and what it lost would be waited for at the next retransmission.
LINGER = 2.0
#: What a restart is given to find a path before another one is worth its place, as a fraction of
#: the silence after which a call is lost: several round trips of a long path.
RESTART_PATIENCE = 2 / 3


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


class IceGatherer(AiortcIceGatherer):
    """Holds the agent whose parameters descriptions carry."""

    def __init__(
        self,
        configuration: RTCConfiguration,
        settings: Settings,
        on_candidate: Callable[[RTCIceCandidate], None],
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        # aiortc's makes a connection at once, for which it would draw letters one by one.
        super().__init__(iceServers=[], local_username=NOBODY, local_password=NO_PASSWORD)
        self._gathering_state = "new"
        servers = configuration.iceServers
        self._servers = IceServers.parse(
            self.getDefaultIceServers() if servers is None else servers
        )
        self._relay_only = configuration.iceTransportPolicy == RTCIceTransportPolicy.RELAY
        self._settings = settings
        self._on_candidate = on_candidate
        self.inbox = Inbox()
        self.agent = self.new_connection(username, password)

    def new_connection(self, username: str | None = None, password: str | None = None) -> IceAgent:
        """A connection that is not gathered yet; fresh credentials unless they are given."""
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
        """Take the host candidates; the others are found in the background.

        The state is `completed` only when no more can come.
        """
        if self.state == "new":
            self.set_state("gathering")
        await self.agent.gather_candidates()

    def present(self, connection: IceAgent) -> None:
        """Let descriptions carry `connection` from now on."""
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
    """Carries DTLS over whichever connection is the current one.

    It owns its agents, the watch over the path in use, and the restart under way.
    """

    def __init__(self, gatherer: IceGatherer, settings: Settings) -> None:
        super().__init__(gatherer)
        self._transport_state = "new"
        self._settings = settings
        self._gatherer = gatherer
        self._inbox = gatherer.inbox
        self._started: asyncio.Event | None = None
        #: The connection of a restart that is offered or under way.
        self._next: IceAgent | None = None
        self._restart: asyncio.Task[None] | None = None
        #: When it was prepared, and then when the peer took part in it (the loop's time).
        self._restart_began = 0.0
        self._retiring: dict[asyncio.Task[None], IceAgent] = {}
        self._consent = Consent(
            settings.silence_timeout, on_silence=self._silent, on_lost=self._lost
        )
        self.agent.on_role = self.take_role
        self.receive_datagram = self._inbox.get
        self.send_datagram = self._transmit
        #: Called while nothing is heard of the peer, with the seconds it has lasted, and once
        #: with 0.0 when the peer is heard again.
        self.on_silence: Callable[[float], None] | None = None
        #: Called once when the peer is given up; the state is `failed` then.
        self.on_lost: Callable[[], None] | None = None
        #: Called when the system says that the path is gone; an ICE restart may find another.
        self.on_restart_needed: Callable[[], None] | None = None

    # Candidates

    async def addRemoteCandidate(self, candidate: RTCIceCandidate | None) -> None:
        """Take or leave a candidate of the peer's; never raises, never waits.

        The end of candidates is ignored. During a restart a candidate may be of either
        generation; a check to one of the wrong generation is refused by the peer.
        """
        if candidate is None:
            return
        for connection in (self.agent, self._next):
            if connection is not None:
                await connection.add_remote_candidate(candidate_to_aioice(candidate))

    # Connecting

    async def start(self, remoteParameters: RTCIceParameters) -> None:
        """Connect, however long it takes; ends early, without raising, when stopped."""
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
        """Close every connection; may be called at any moment, and again."""
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
        """All that are open."""
        connections = [*self._retiring.values(), self.agent]
        return connections if self._next is None else [*connections, self._next]

    # Data

    async def _transmit(self, data: bytes) -> None:
        self.agent.path.send(data)

    def send_batch(self, data: bytes | memoryview, size: int) -> None:
        """Send datagrams of `size` bytes that stand one after another, of which the last may be
        smaller. Raises ConnectionError when there is no path."""
        self.agent.path.send_batch(data, size)

    def receive_now(self) -> bytes | None:
        """The next datagram if one has come."""
        return self._inbox.get_nowait()

    def consume(self, consumer: Callable[[bytes], bool] | None) -> None:
        """Let `consumer` take datagrams as they are read, before anything is queued.

        One for which it returns False is queued for `_recv`, and so is what comes after it until
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

    # What becomes of the path

    def _silent(self, seconds: float) -> None:
        if self.on_silence is not None:
            self.on_silence(seconds)

    def _lost(self) -> None:
        logger.info("The peer is silent for %.1f s: it is lost", self._settings.silence_timeout)
        self._set_state("failed")
        if self.on_lost is not None:
            self.on_lost()

    def _broken(self) -> None:
        if self.on_restart_needed is not None:
            self.on_restart_needed()

    def path_stats(self) -> dict[str, object]:
        """The pair in use (`local` and `remote`: type, address, port, protocol) and its
        `round_trip_time` in seconds; empty before there is one."""
        stats: dict[str, object] = self.agent.path.stats()
        return stats

    @property
    def receive_buffer(self) -> int:
        """Bytes the kernel grants the socket in use for what has not been read; 0 without one."""
        size: int = self.agent.path.receive_buffer
        return size

    def take_role(self, controlling: bool) -> None:
        """Nominate the pairs from now on, or leave that to the peer, on every connection."""
        for connection in self._connections():
            if connection.ice_controlling is not controlling:
                connection.switch_role(controlling)

    # ICE restart

    def is_connected_to(self, remote: RTCIceParameters) -> bool:
        """Whether `remote` are the credentials the peer has on the path in use."""
        used = self.agent.remote_username, self.agent.remote_password
        return used == (remote.usernameFragment, remote.password)

    @property
    def is_restarting(self) -> bool:
        """Whether a restart is under way that another one would only hold up."""
        if self._next is None or self.restart_is_outdated:
            return False
        age = asyncio.get_running_loop().time() - self._restart_began
        return age < self._settings.silence_timeout * RESTART_PATIENCE

    @property
    def restart_is_outdated(self) -> bool:
        """Whether the machine has got other addresses since a restart was prepared."""
        return self._next is not None and self._next.is_outdated

    async def prepare_restart(self) -> None:
        """Have a fresh connection ready, gathered, which descriptions carry from now on.

        Harmless when one is ready and has not been answered yet; one that is being connected
        is given up for the fresh one, and so is one from before the machine got other addresses.
        """
        if self.state == "closed":
            raise InvalidStateError("RTCIceTransport is closed")
        if self._restart is not None or self.restart_is_outdated:
            await self.cancel_restart()
        if self._next is None:
            await self.agent.stop_gathering()
            self._restart_began = asyncio.get_running_loop().time()
            self._next = self._gatherer.new_connection()
            self._next.share_role(self.agent)
            self._next.on_role = self.take_role
            self._gatherer.present(self._next)
        await self._gatherer.gather()

    def finish_restart(self, remote: RTCIceParameters, patience: float = 0.0) -> asyncio.Task[None]:
        """Connect on the new path and let DTLS go on over it; the old one goes on until then.

        It begins at once: the next restart is to find this one under way, not merely prepared.

        Args:
            patience: Seconds for which the peer's first check is waited for before ours begin.

        Returns:
            What ends with the restart, with a ConnectionError if it could not be connected in
            time. It is cancelled when the restart is given up. The old path is in use then.

        Raises:
            InvalidStateError: No restart was prepared.
        """
        if self._next is None:
            raise InvalidStateError("No ICE restart was prepared")
        if self._restart is None:
            self._restart_began = asyncio.get_running_loop().time()
            self._restart = asyncio.create_task(self._change_over(self._next, remote, patience))
        return self._restart

    async def cancel_restart(self) -> None:
        """Take back a restart that is not complete; harmless when there is none."""
        restart, self._restart = self._restart, None
        if restart is not None:
            restart.cancel()
            await asyncio.wait([restart])
        connection, self._next = self._next, None
        if connection is not None:
            self._gatherer.present(self.agent)
            await connection.close()

    async def _change_over(
        self, connection: IceAgent, remote: RTCIceParameters, patience: float
    ) -> None:
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                if patience:
                    await connection.wait_asked(patience)
                await _connect(connection, remote)
        except (ConnectionError, TimeoutError) as exc:
            self._next = self._restart = None
            self._gatherer.present(self.agent)
            await connection.close()
            raise ConnectionError(f"The ICE restart failed: {exc!r}") from exc
        old, self.agent = self.agent, connection
        self._next = self._restart = None
        self._established(connection)
        retiring = asyncio.create_task(self._retire(old))
        self._retiring[retiring] = old
        retiring.add_done_callback(self._retiring.pop)

    async def _retire(self, connection: IceAgent) -> None:
        connection.on_broken = None
        await asyncio.sleep(LINGER)
        await connection.close()


async def _connect(connection: IceAgent, remote: RTCIceParameters) -> None:
    connection.remote_is_lite = remote.iceLite
    connection.remote_username = remote.usernameFragment
    connection.remote_password = remote.password
    await connection.connect()
