"""Names of STUN and TURN servers looked up without ever holding up anything else; loop thread."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from weakref import WeakKeyDictionary

#: Lookups that may run at once. A name server that hangs keeps its threads of the loop's
#: executor for as long as the system's own timeout, and others need some too.
CONCURRENT_LOOKUPS = 8

Key = tuple[str, int]


def look_up(host: str, port: int) -> list[Key]:
    """Addresses of `host`; runs on a thread of the loop's executor. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys((str(entry[4][0]), port) for entry in found))


class Resolver:
    """Shares lookups of one name among the calls that want it at the same time."""

    def __init__(self) -> None:
        self._pending: dict[Key, asyncio.Future[list[Key]]] = {}
        self._waiters: dict[Key, int] = {}
        # The threads take their token away themselves; set operations are atomic.
        self._running: set[object] = set()

    async def resolve(self, host: str, port: int) -> list[Key]:
        """The addresses of `host`. Raises OSError or UnicodeError when it has none."""
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
                    # Nobody waits any more; a thread that finishes later finds it cancelled.
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
                done.exception()  # retrieved, though every waiter may be gone
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


# A resolver belongs to a loop and goes with it; calls of one loop must share it for it to
# be of use, and nothing else reaches from one call to another.
_resolvers: WeakKeyDictionary[asyncio.AbstractEventLoop, Resolver] = WeakKeyDictionary()


def get_resolver() -> Resolver:
    loop = asyncio.get_running_loop()
    resolver = _resolvers.get(loop)
    if resolver is None:
        resolver = _resolvers[loop] = Resolver()
    return resolver
