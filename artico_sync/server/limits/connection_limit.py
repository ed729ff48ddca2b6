"""Network connections from the first moment: so many an address; the loop that serves.

Those that never ask for anything are known to nobody else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import cast

from artico_sync.server.limits.address_limits import network_of
from artico_sync.server.limits.log_throttle import LogThrottle

# Ends the head of a request.
BLANK_LINE = b"\r\n\r\n"


class ConnectionLimit:
    """Lets so many connections of one address be open at once.

    Args:
        limit: How many.
        timeout: Seconds each has for the head of its first request; None for ever.
    """

    def __init__(self, limit: float, timeout: float | None) -> None:
        self.timeout = timeout
        self._limit = limit
        self._open: Counter[str] = Counter()
        self._complaints = LogThrottle()

    def factory(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """The protocol factory to listen with, for the protocols that `make` makes."""
        return lambda: _CountedProtocol(self, make)

    def enter(self, address: str) -> bool:
        """Count a connection of an address, if there is room for it."""
        if self._open.get(address, 0) >= self._limit:
            self._complaints.say("cut off %s: too many open connections", address)
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


class _CountedProtocol(asyncio.Protocol):
    """Hands everything on, to a protocol that is made if the connection may stay."""

    def __init__(self, count: ConnectionLimit, make: Callable[[], asyncio.Protocol]) -> None:
        self._count = count
        self._make = make
        self._address = ""
        self._served: asyncio.Protocol | None = None
        self._late: asyncio.TimerHandle | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Nothing where the other end has gone already.
        name = transport.get_extra_info("peername")
        self._address = network_of(name[0]) if name else ""
        abort = cast(asyncio.WriteTransport, transport).abort
        if not self._count.enter(self._address):
            abort()
            return
        if self._count.timeout is not None:
            # Not every aiohttp has a limit for the first request, as for those that follow.
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(self._count.timeout, abort)
        self._served = self._make()
        self._served.connection_made(transport)

    def _on_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_lost(self, error: Exception | None) -> None:
        self._on_time()
        if self._served is not None:
            self._count.leave(self._address)
            self._served.connection_lost(error)
            self._served = None

    def data_received(self, data: bytes) -> None:
        if self._late is not None:
            self._head += data
            if BLANK_LINE in self._head:
                self._on_time()
            self._head = self._head[1 - len(BLANK_LINE) :]
        if self._served is not None:
            self._served.data_received(data)

    def eof_received(self) -> bool | None:
        return self._served.eof_received() if self._served is not None else None

    def pause_writing(self) -> None:
        if self._served is not None:
            self._served.pause_writing()

    def resume_writing(self) -> None:
        if self._served is not None:
            self._served.resume_writing()
