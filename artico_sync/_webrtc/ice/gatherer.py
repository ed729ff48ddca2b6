"""Local candidates: own addresses at once, STUN and TURN in the background; loop thread."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aioice import Candidate, stun, turn
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import get_host_addresses
from aiortc import RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri

from artico_sync._webrtc._aiortc.ice import connect_turn
from artico_sync._webrtc.ice.keep_alive import KeepAlive
from artico_sync._webrtc.ice.resolver import get_resolver
from artico_sync._webrtc.ice.socket import IceSocket
from artico_sync._webrtc.ice.turn import TurnClient
from artico_sync._webrtc.net.udp import open_socket

if TYPE_CHECKING:
    from artico_sync._webrtc.ice.agent import IceAgent

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
#: Seconds for which a list of the machine's addresses is good.
LISTING_AGE = 0.1
#: What RFC 8839 puts for a related address that is not to be shown.
HIDDEN = {4: ("0.0.0.0", 9), 6: ("::", 9)}


@dataclass(frozen=True)
class TurnServer:
    host: str
    port: int
    transport: str
    tls: bool
    username: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class IceServers:
    """The servers of a configuration, by what they are asked for."""

    stun: tuple[tuple[str, int], ...] = ()
    turn: tuple[TurnServer, ...] = ()

    @classmethod
    def parse(cls, servers: Iterable[RTCIceServer]) -> IceServers:
        """Those of `servers` that can be used; the others are logged and left out."""
        stun_servers: dict[tuple[str, int], None] = {}
        turn_servers: dict[TurnServer, None] = {}
        for server in servers:
            for uri in [server.urls] if isinstance(server.urls, str) else server.urls:
                try:
                    parsed = parse_stun_turn_uri(uri)
                except ValueError as exc:
                    logger.warning("ICE server %r is left out: %s", uri, exc)
                    continue
                tls, transport = parsed["scheme"] == "turns", parsed.get("transport")
                if parsed["scheme"] == "stun":
                    stun_servers[parsed["host"], parsed["port"]] = None
                elif (
                    parsed["scheme"] == "stuns"
                    or transport not in ("udp", "tcp")
                    or (tls and transport != "tcp")
                    or server.credentialType != "password"
                ):
                    logger.info("ICE server %r is left out: not supported", uri)
                else:
                    found = TurnServer(
                        parsed["host"],
                        parsed["port"],
                        transport,
                        tls,
                        server.username,
                        server.credential,
                    )
                    turn_servers[found] = None
        return cls(tuple(stun_servers), tuple(turn_servers))


#: What each loop was told last, and when: who places many calls at once asks for each.
_listed: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[float, list[str]]]
_listed = WeakKeyDictionary()


def host_addresses() -> list[str]:
    """Addresses to take candidates from, as of now or `LISTING_AGE` ago; the loopback one only
    where there is no other.

    A laptop that is offline has none but that one, and two programs on it may still talk.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    listed = _listed.get(loop)
    if listed is None or now - listed[0] > LISTING_AGE:
        listed = _listed[loop] = (now, list_addresses())
    return listed[1]


def list_addresses() -> list[str]:
    """Have the system list them, which takes as long as a tenth of a call's set-up."""
    try:
        addresses = get_host_addresses(use_ipv4=True, use_ipv6=True)
    except OSError as exc:
        logger.info("The addresses of this machine cannot be listed: %s", exc)
        addresses = []
    return list(dict.fromkeys(addresses)) or [LOOPBACK]


def make_candidate(
    kind: str,
    address: tuple[str, int],
    related: tuple[str, int] | None = None,
    *,
    preference: int = 65535,
    base: str | None = None,
) -> Candidate:
    return Candidate(
        foundation=candidate_foundation(kind, "udp", base or address[0]),
        component=1,
        transport="udp",
        priority=candidate_priority(1, kind, preference),
        host=address[0],
        port=address[1],
        type=kind,
        related_address=related[0] if related else None,
        related_port=related[1] if related else None,
    )


class Gathering:
    """Finds the local candidates of one connection, which owns it and closes it."""

    def __init__(
        self,
        connection: IceAgent,
        servers: IceServers,
        *,
        relay_only: bool,
        accelerate: bool,
        timeout: float,
    ) -> None:
        self._connection = connection
        self._servers = servers
        self._relay_only = relay_only
        self._accelerate = accelerate
        self._timeout = timeout
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts: list[IceSocket] = []
        self._addresses: list[str] | None = None
        #: Set with the first relayed candidate, or when no more candidate can come.
        self._usable = asyncio.Event()
        self._closed = False
        self._keep_alive = KeepAlive()

    async def gather(self) -> None:
        """Take the host candidates and ask the servers, without waiting for their answers.

        With the relay policy there is nothing to describe to the peer before the first
        relayed candidate, so that one is waited for.
        """
        self._addresses = host_addresses()
        if not self._relay_only:
            for number, host in enumerate(self._addresses):
                await self._open_host(host, preference=max(0, 65535 - number))
                if self._closed:
                    return  # nobody would end what were started now
            for protocol in self._hosts:
                for server in self._servers.stun:
                    self._start(partial(self._query, protocol, *server), f"STUN server {server[0]}")
        for turn_server in self._servers.turn:
            self._start(partial(self._allocate, turn_server), f"TURN server {turn_server.host}")
        if not self._tasks:
            self._finish()
        elif self._relay_only:
            await self._usable.wait()

    @property
    def is_outdated(self) -> bool:
        """Whether the machine has got other addresses since `gather` was called."""
        return self._addresses not in (None, host_addresses())

    def connected(self) -> None:
        """The path to the peer is kept alive by what goes over it; no other is needed."""
        self._keep_alive.stop()

    async def close(self) -> None:
        self._closed = True
        self._usable.set()
        await self._keep_alive.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            # The sockets of attempts given up are closed by the loop's next pass.
            await asyncio.sleep(0)

    def _finish(self) -> None:
        self._usable.set()
        if not self._closed:
            self._connection.gathered()

    async def _open_host(self, host: str, *, preference: int) -> None:
        protocol = IceSocket(self._connection)
        try:
            transport = await open_socket(protocol, host, accelerate=self._accelerate)
        except OSError as exc:
            logger.info("No candidate from %s: %s", host, exc)
            return
        sockname = transport.get_extra_info("sockname")
        protocol.local_candidate = make_candidate("host", sockname[:2], preference=preference)
        self._hosts.append(protocol)
        self._connection.add_local(protocol, protocol.local_candidate)

    def _start(self, attempt: Callable[[], Coroutine[Any, Any, None]], subject: str) -> None:
        async def bounded() -> None:
            try:
                async with asyncio.timeout(self._timeout):
                    await attempt()
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                # Whatever a server or a resolver does, it only costs its own candidate.
                logger.info("No candidate from %s: %s", subject, repr(exc))

        task = asyncio.create_task(bounded(), name=subject)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._finish()

    async def _query(self, protocol: IceSocket, host: str, port: int) -> None:
        """Ask a STUN server how the peer would see the socket of `protocol`."""
        base = protocol.local_candidate
        version = ipaddress.ip_address(base.host).version
        for address in await get_resolver().resolve(host, port):
            if ipaddress.ip_address(address[0]).version == version:
                break
        else:
            return
        await self._ask(protocol, address)
        self._keep_alive.add(lambda: self._ask(protocol, address))

    async def _ask(self, protocol: IceSocket, address: tuple[str, int]) -> None:
        base = protocol.local_candidate
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        response, _ = await protocol.request(request, address)
        mapped = response.attributes.get("XOR-MAPPED-ADDRESS") or response.attributes.get(
            "MAPPED-ADDRESS"
        )
        if mapped is None:
            raise ConnectionError("the answer names no address")
        if mapped[1] == 0:
            raise ConnectionError("the answer names no port")
        self._connection.add_local(
            None,
            make_candidate("srflx", mapped, (base.host, base.port), base=base.host),
        )

    async def _allocate(self, server: TurnServer) -> None:
        """Have a TURN server relay for us."""
        addresses = await get_resolver().resolve(server.host, server.port)
        if server.transport == "udp":
            protocol = await self._allocate_over_udp(server, addresses[0])
        else:
            connection = self._connection
            _, protocol = await turn.create_turn_endpoint(
                lambda: IceSocket(connection),
                # TLS checks the certificate against the name.
                server_addr=(server.host, server.port) if server.tls else addresses[0],
                username=server.username,
                password=server.password,
                ssl=server.tls or None,
                transport=server.transport,
            )
        relayed = protocol.transport.get_extra_info("sockname")
        related = protocol.transport.get_extra_info("related_address")
        if self._relay_only:
            # The policy hides our addresses; the related one would show them.
            related = HIDDEN[ipaddress.ip_address(relayed[0]).version]
        protocol.local_candidate = make_candidate("relay", relayed, related)
        self._connection.add_local(protocol, protocol.local_candidate)
        self._usable.set()

    async def _allocate_over_udp(self, server: TurnServer, address: tuple[str, int]) -> IceSocket:
        """What aioice does, on a socket of ours.

        uvloop would never close one that it was opening when it was told to stop.
        """
        inner = TurnClient(
            address,
            username=server.username,
            password=server.password,
            lifetime=turn.DEFAULT_ALLOCATION_LIFETIME,
            channel_refresh_time=turn.DEFAULT_CHANNEL_REFRESH_TIME,
        )
        protocol, transport = IceSocket(self._connection), turn.TurnTransport(inner)
        await open_socket(inner, None, accelerate=self._accelerate, remote=address)
        try:
            await connect_turn(transport, protocol)
        except BaseException:
            inner.transport.close()
            raise
        self._keep_alive.add(inner.keep_alive)
        return protocol
