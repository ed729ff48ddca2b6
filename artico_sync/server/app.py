"""A signalling server on one loop at a time, made when that loop first serves it; that loop.

The ASGI and aiohttp applications of an `ArticoServer` serve through one `LoopBoundServer`, so that
peers who came in by either meet; none of them has any state before it is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync.server.http import Page, page

if TYPE_CHECKING:
    from artico_sync.server.connection import Receive, Send
    from artico_sync.server.socketio_server import Request, SocketIOServer


class LoopBoundServer:
    """What the web servers' adapters call.

    Args:
        make_carrier: Makes a fresh server, on the loop it is to run on.
    """

    def __init__(self, make_carrier: Callable[[], SocketIOServer]) -> None:
        self._make_carrier = make_carrier
        self._carrier: SocketIOServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._since = 0.0

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the connected peers; any thread."""
        carrier = self._carrier
        return carrier.hub.peers if carrier is not None else ()

    def open(self) -> SocketIOServer:
        """The carrier of the running loop.

        Raises:
            RuntimeError: Another loop serves this server.
        """
        loop = asyncio.get_running_loop()
        if self._carrier is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "This ArticoServer is being served by another event loop: make one for each."
                )
            # Whoever ran that loop has ended it without a word; its connections died with it.
            self._carrier = None
        if self._carrier is None:
            self._carrier = self._make_carrier()
            self._loop = loop
            self._since = time.monotonic()
        return self._carrier

    async def close(self, timeout: float) -> None:
        """Disconnect everybody; the site may be opened again, on any loop."""
        carrier = self._carrier
        if carrier is not None and self._loop is asyncio.get_running_loop():
            await carrier.stop(timeout)
            if self._carrier is carrier:
                self._carrier = self._loop = None

    def refusal(self, request: Request) -> tuple[int, str] | None:
        """See `SocketIOServer.refusal`."""
        return self.open().refusal(request)

    async def serve(self, request: Request, receive: Receive, send: Send) -> None:
        """See `SocketIOServer.serve`."""
        await self.open().serve(request, receive, send)

    def page(self, method: str, part: str) -> Page:
        """See `pages.page`."""
        since = self._since if self._carrier is not None else time.monotonic()
        return page(method, part, len(self.peers), time.monotonic() - since)
