"""Gathering of local candidates: host addresses at once, STUN and TURN in the background."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from aioice import Candidate, stun, turn
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import get_host_addresses

from artico_sync._webrtc._aiortc.ice import connect_turn
from artico_sync._webrtc.ice.servers import (
    IceServers,
    KeepAlive,
    TurnClient,
    TurnServer,
    get_resolver,
)
from artico_sync._webrtc.ice.socket import IceSocket, SocketOwner
from artico_sync._webrtc.net.udp import open_socket

if TYPE_CHECKING:
    from aioice.ice import StunProtocol

    from artico_sync._protocol.settings import Settings

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
#: Seconds for which the list of the machine's addresses is cached.
LISTING_AGE_SECONDS = 0.1
#: Related addresses that conceal the real one (RFC 8839 5.1).
HIDDEN = {4: ("0.0.0.0", 9), 6: ("::", 9)}


#: The last list of each loop and its time, shared by calls that start at the same time.
_listed: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[float, list[str]]]
_listed = WeakKeyDictionary()


def host_addresses() -> list[str]:
    """Return the addresses for host candidates, at most `LISTING_AGE_SECONDS` old.

    The loopback address is included only if there is no other, so that two programs on a machine
    without a network can connect.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    listed = _listed.get(loop)
    if listed is None or now - listed[0] > LISTING_AGE_SECONDS:
        listed = _listed[loop] = (now, list_addresses())
    return listed[1]


def list_addresses() -> list[str]:
    """Return the addresses that the system lists; this takes a tenth of the set-up of a call."""
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
    """Return a local UDP candidate of the type `kind`."""
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
    """Finds the local candidates of one agent, which closes it."""

    def __init__(
        self,
        owner: SocketOwner,
        servers: IceServers,
        settings: Settings,
        *,
        relay_only: bool,
        on_found: Callable[[StunProtocol | None, Candidate], None],
        on_finished: Callable[[], None],
    ) -> None:
        """
        Args:
            on_found: Called with each candidate, and the socket to check from if it has its own.
            on_finished: Called when no more candidates will be found.
        """
        self._owner = owner
        self._servers = servers
        self._relay_only = relay_only
        self._accelerate = settings.accelerate
        self._timeout = settings.gathering_timeout
        self._on_found = on_found
        self._on_finished = on_finished
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts: list[IceSocket] = []
        self._addresses: list[str] | None = None
        #: Set with the first relayed candidate, or when no more candidates will be found.
        self._usable = asyncio.Event()
        self._closed = False
        self._keep_alive = KeepAlive()

    async def gather(self) -> None:
        """Add the host candidates and query the servers, without waiting for their answers.

        With the relay policy, wait for the first relayed candidate, before which there is nothing
        to describe to the peer.
        """
        self._addresses = host_addresses()
        if not self._relay_only:
            for number, host in enumerate(self._addresses):
                await self._open_host(host, preference=max(0, 65535 - number))
                if self._closed:
                    return  # close() would not end tasks started now
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
        """Return whether the addresses of the machine have changed since `gather`."""
        return self._addresses not in (None, host_addresses())

    def stop_keep_alive(self) -> None:
        """Ping no servers any more: the pair in use is kept alive by its own traffic."""
        self._keep_alive.stop()

    async def close(self) -> None:
        """Cancel all queries; sockets of candidates found stay open."""
        self._closed = True
        self._usable.set()
        await self._keep_alive.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            # The sockets of cancelled attempts are closed by the loop's next iteration.
            await asyncio.sleep(0)

    def _finish(self) -> None:
        self._usable.set()
        if not self._closed:
            self._on_finished()

    async def _open_host(self, host: str, *, preference: int) -> None:
        protocol = IceSocket(self._owner)
        try:
            transport = await open_socket(protocol, host, accelerate=self._accelerate)
        except OSError as exc:
            logger.info("No candidate from %s: %s", host, exc)
            return
        sockname = transport.get_extra_info("sockname")
        protocol.local_candidate = make_candidate("host", sockname[:2], preference=preference)
        self._hosts.append(protocol)
        self._on_found(protocol, protocol.local_candidate)

    def _start(self, attempt: Callable[[], Coroutine[Any, Any, None]], subject: str) -> None:
        async def bounded() -> None:
            try:
                async with asyncio.timeout(self._timeout):
                    await attempt()
            except asyncio.CancelledError:
                raise
            except Exception as exc:
                # A failing server or resolver must not affect other candidates.
                logger.info("No candidate from %s: %s", subject, repr(exc))

        task = asyncio.create_task(bounded(), name=subject)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._finish()

    async def _query(self, protocol: IceSocket, host: str, port: int) -> None:
        """Find the server-reflexive candidate of a socket, and keep its NAT mapping alive."""
        base = protocol.local_candidate
        version = ipaddress.ip_address(base.host).version
        for address in await get_resolver().resolve(host, port):
            if ipaddress.ip_address(address[0]).version == version:
                break
        else:
            return
        await self._request_mapping(protocol, address)
        self._keep_alive.add_server(lambda: self._request_mapping(protocol, address))

    async def _request_mapping(self, protocol: IceSocket, address: tuple[str, int]) -> None:
        base = protocol.local_candidate
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        response, _ = await protocol.request(request, address)
        mapped = response.attributes.get("XOR-MAPPED-ADDRESS") or response.attributes.get(
            "MAPPED-ADDRESS"
        )
        if mapped is None:
            raise ConnectionError("the response contains no address")
        if mapped[1] == 0:
            raise ConnectionError("the response contains no port")
        self._on_found(
            None,
            make_candidate("srflx", mapped, (base.host, base.port), base=base.host),
        )

    async def _allocate(self, server: TurnServer) -> None:
        """Allocate a relayed candidate on a TURN server."""
        addresses = await get_resolver().resolve(server.host, server.port)
        if server.transport == "udp":
            protocol = await self._allocate_over_udp(server, addresses[0])
        else:
            _, protocol = await turn.create_turn_endpoint(
                lambda: IceSocket(self._owner),
                # TLS verifies the certificate against the name.
                server_addr=(server.host, server.port) if server.tls else addresses[0],
                username=server.username,
                password=server.password,
                ssl=server.tls or None,
                transport=server.transport,
            )
        relayed = protocol.transport.get_extra_info("sockname")
        related = protocol.transport.get_extra_info("related_address")
        if self._relay_only:
            # The policy conceals the local addresses; the related address would show one.
            related = HIDDEN[ipaddress.ip_address(relayed[0]).version]
        protocol.local_candidate = make_candidate("relay", relayed, related)
        self._on_found(protocol, protocol.local_candidate)
        self._usable.set()

    async def _allocate_over_udp(self, server: TurnServer, address: tuple[str, int]) -> IceSocket:
        """Allocate as aioice does, on a socket from `open_socket`.

        uvloop does not close a socket whose opening is cancelled.
        """
        inner = TurnClient(
            address,
            username=server.username,
            password=server.password,
            lifetime=turn.DEFAULT_ALLOCATION_LIFETIME,
            channel_refresh_time=turn.DEFAULT_CHANNEL_REFRESH_TIME,
        )
        protocol, transport = IceSocket(self._owner), turn.TurnTransport(inner)
        await open_socket(inner, None, accelerate=self._accelerate, remote=address)
        try:
            await connect_turn(transport, protocol)
        except BaseException:
            inner.transport.close()
            raise
        self._keep_alive.add_server(inner.ping)
        return protocol
