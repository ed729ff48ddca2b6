"""Limits open TCP connections per address, from the moment they are accepted.

The web server does not count connections that never send a request.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

from artico_sync.server.limits import LogThrottle
from artico_sync.server.limits.address_limits import network_of

# The end of the head of an HTTP request.
BLANK_LINE = b"\r\n\r\n"


class ConnectionLimit:
    """Limits the number of connections of one address that are open at once.

    Args:
        limit: Maximum number of connections.
        timeout: Seconds each has for the head of its first request; None without limit.
    """

    def __init__(self, limit: float, timeout: float | None) -> None:
        self.timeout = timeout
        self._limit = limit
        self._open: Counter[str] = Counter()
        self._log_throttle = LogThrottle()

    def factory(
        self, make_protocol: Callable[[], asyncio.Protocol]
    ) -> Callable[[], asyncio.Protocol]:
        """Return the protocol factory to listen with, given that of the web server."""
        return lambda: _CountedProtocol(self, make_protocol)

    def enter(self, address: str) -> bool:
        """Count a connection of an address, and return whether it may stay."""
        if self._open.get(address, 0) >= self._limit:
            self._log_throttle.warn("cut off %s: too many open connections", address)
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count the end of a connection that was entered."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class _CountedProtocol(asyncio.Protocol):
    """Passes everything to the web server's protocol, which is made if the connection may stay."""

    def __init__(
        self, limit: ConnectionLimit, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._limit = limit
        self._make_protocol = make_protocol
        self._address = ""
        self._protocol: asyncio.Protocol | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # None if the client has disconnected already.
        name = transport.get_extra_info("peername")
        self._address = network_of(name[0]) if name else ""
        abort = cast(asyncio.WriteTransport, transport).abort
        if not self._limit.enter(self._address):
            abort()
            return
        if self._limit.timeout is not None:
            # aiohttp has a timeout for the requests that follow, but not for the first one.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limit.timeout, abort)
        self._protocol = self._make_protocol()
        self._protocol.connection_made(transport)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, error: Exception | None) -> None:
        self._cancel_timer()
        if self._protocol is not None:
            self._limit.leave(self._address)
            self._protocol.connection_lost(error)
            self._protocol = None

    def data_received(self, data: bytes) -> None:
        if self._timer is not None:
            self._head += data
            if BLANK_LINE in self._head:
                self._cancel_timer()
            self._head = self._head[1 - len(BLANK_LINE) :]
        if self._protocol is not None:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received() if self._protocol is not None else None

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()
