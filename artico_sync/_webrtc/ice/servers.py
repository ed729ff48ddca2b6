"""STUN and TURN servers: configuration, name lookups, keep-alives and the TURN client."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import struct
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from aioice import stun, turn
from aiortc import RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri

logger = logging.getLogger(__name__)

#: Seconds between two keep-alives: NATs drop a mapping that is unused for 30 seconds, and a call
#: may ring for longer (RFC 8445 5.1.1.4).
KEEP_ALIVE_INTERVAL_SECONDS = 15.0
#: Seconds to wait for the answers to keep-alives.
KEEP_ALIVE_TIMEOUT_SECONDS = 5.0
#: Lookups that may run at once. While a name server hangs, each of its lookups occupies a thread of
#: the loop's executor until the timeout of the system; others need threads as well.
CONCURRENT_LOOKUPS = 8


Key = tuple[str, int]
Ping = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class TurnServer:
    """A TURN server of a configuration."""

    host: str
    port: int
    transport: str
    tls: bool
    username: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True)
class IceServers:
    """The STUN and TURN servers of a configuration."""

    stun: tuple[tuple[str, int], ...] = ()
    turn: tuple[TurnServer, ...] = ()

    @classmethod
    def parse(cls, servers: Iterable[RTCIceServer]) -> IceServers:
        """Return the usable ones of `servers`; the others are logged and skipped."""
        stun_servers: dict[tuple[str, int], None] = {}
        turn_servers: dict[TurnServer, None] = {}
        for server in servers:
            for uri in [server.urls] if isinstance(server.urls, str) else server.urls:
                try:
                    parsed = parse_stun_turn_uri(uri)
                except ValueError as exc:
                    logger.warning("ICE server %r is skipped: %s", uri, exc)
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
                    logger.info("ICE server %r is skipped: not supported", uri)
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


def look_up(host: str, port: int) -> list[Key]:
    """Return the addresses of `host`, on a thread of the executor. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


class Resolver:
    """Looks up names of servers without blocking the loop; calls share concurrent lookups."""

    def __init__(self) -> None:
        self._pending: dict[Key, asyncio.Future[list[Key]]] = {}
        self._waiters: dict[Key, int] = {}
        # The threads remove their tokens themselves; set operations are atomic.
        self._running: set[object] = set()

    async def resolve(self, host: str, port: int) -> list[Key]:
        """Return the addresses of `host`. Raises OSError or UnicodeError if it has none."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return await self._shared(host, port)
        return [(host, port)]

    async def _shared(self, host: str, port: int) -> list[Key]:
        key = (host, port)
        future = self._pending.get(key)
        if future is None:
            future = self._pending[key] = self._start(host, port)
            self._waiters[key] = 0
        self._waiters[key] += 1
        try:
            return await asyncio.shield(future)
        finally:
            if self._pending.get(key) is future:
                self._waiters[key] -= 1
                if not self._waiters[key]:
                    del self._pending[key], self._waiters[key]
                    # No call waits any more; a thread that finishes later finds it cancelled.
                    future.cancel()

    def _start(self, host: str, port: int) -> asyncio.Future[list[Key]]:
        if len(self._running) >= CONCURRENT_LOOKUPS:
            raise OSError(f"too many names are being looked up to look up {host}")
        token = object()
        running = self._running
        started = False

        def job() -> list[Key]:
            nonlocal started
            started = True
            try:
                return look_up(host, port)
            finally:
                running.discard(token)

        def finished(done: asyncio.Future[list[Key]]) -> None:
            if not done.cancelled():
                done.exception()  # mark as retrieved: every waiter may be gone
            elif not started:
                running.discard(token)

        running.add(token)
        try:
            future = asyncio.get_running_loop().run_in_executor(None, job)
        except RuntimeError as exc:  # the executor was shut down
            running.discard(token)
            raise OSError(f"cannot look up {host}: {exc}") from exc
        future.add_done_callback(finished)
        return future


# One resolver per loop, so that all calls of the loop share it.
_resolvers: WeakKeyDictionary[asyncio.AbstractEventLoop, Resolver] = WeakKeyDictionary()


def get_resolver() -> Resolver:
    """Return the resolver of the running loop."""
    loop = asyncio.get_running_loop()
    resolver = _resolvers.get(loop)
    if resolver is None:
        resolver = _resolvers[loop] = Resolver()
    return resolver


class KeepAlive:
    """Pings servers at intervals, until stopped, so that their candidates stay usable.

    Its owner closes it.
    """

    def __init__(self) -> None:
        self._pings: list[Ping] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def add_server(self, ping: Ping) -> None:
        """Call `ping` at every interval; its exceptions are ignored."""
        self._pings.append(ping)
        if self._task is None and not self._stopped:
            self._task = asyncio.create_task(self._run(), name="keep candidates alive")

    def stop(self) -> None:
        """Send no more pings."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Stop, and wait until the task has ended."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_INTERVAL_SECONDS)
            try:
                async with asyncio.timeout(KEEP_ALIVE_TIMEOUT_SECONDS):
                    attempts = [ping() for ping in self._pings]
                    await asyncio.gather(*attempts, return_exceptions=True)
            except TimeoutError:
                logger.info("A server that provided a candidate no longer answers")


class TurnClient(turn.TurnClientUdpProtocol):
    """aioice's client of a TURN server over UDP, which ignores malformed messages."""

    async def ping(self) -> None:
        """Send a Binding indication, which needs no answer, so that NATs keep the mapping."""
        if not self.transport.is_closing():
            indication = stun.Message(stun.Method.BINDING, stun.Class.INDICATION)
            self.send_stun(indication, self.server)

    def datagram_received(self, data: bytes | str, addr: tuple[str, int]) -> None:
        data = cast(bytes, data)
        if not data:
            return
        if not turn.is_channel_data(data):
            try:
                stun.parse_message(data)
            except (ValueError, struct.error, IndexError):
                return  # the source address of a datagram can be forged
        super().datagram_received(data, addr)
