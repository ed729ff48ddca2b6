"""A signaling server on one event loop at a time, created when that loop first serves it.

The ASGI and aiohttp applications of an `ArticoServer` serve through one `LoopBoundServer`, so that
peers connected through either reach each other; neither has any state before it is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync.server.http import Page, page

if TYPE_CHECKING:
    from artico_sync.server.connection import Receive, Send
    from artico_sync.server.socketio_server import SocketIOServer, UpgradeRequest


class LoopBoundServer:
    """The signaling server as the adapters of web servers call it.

    Args:
        make_server: Makes a new server, on the loop that it will run on.
    """

    def __init__(self, make_server: Callable[[], SocketIOServer]) -> None:
        self._make_server = make_server
        self._server: SocketIOServer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started_at = 0.0

    @property
    def peers(self) -> tuple[str, ...]:
        """Ids of the connected peers; may be read from any thread."""
        server = self._server
        return server.registry.peers if server is not None else ()

    def open(self) -> SocketIOServer:
        """Return the server of the running loop.

        Raises:
            RuntimeError: Another loop serves this server.
        """
        loop = asyncio.get_running_loop()
        if self._server is not None and self._loop is not loop:
            if self._loop is not None and not self._loop.is_closed():
                raise RuntimeError(
                    "This ArticoServer is being served by another event loop: make one for each."
                )
            # That loop was closed without a shutdown, and its connections with it.
            self._server = None
        if self._server is None:
            self._server = self._make_server()
            self._loop = loop
            self._started_at = time.monotonic()
        return self._server

    async def close(self, timeout: float) -> None:
        """Disconnect every peer; the server may be opened again, on any loop."""
        server = self._server
        if server is not None and self._loop is asyncio.get_running_loop():
            await server.stop(timeout)
            if self._server is server:
                self._server = self._loop = None

    def refusal(self, request: UpgradeRequest) -> tuple[int, str] | None:
        """See `SocketIOServer.refusal`."""
        return self.open().refusal(request)

    async def serve(self, request: UpgradeRequest, receive: Receive, send: Send) -> None:
        """See `SocketIOServer.serve`."""
        await self.open().serve(request, receive, send)

    def page(self, method: str, part: str) -> Page:
        """See `http.page`."""
        now = time.monotonic()
        started_at = self._started_at if self._server is not None else now
        return page(method, part, len(self.peers), now - started_at)
