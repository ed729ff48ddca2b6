"""The HTTP session under a Socket.IO connection, which can be cut; loop thread."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

import aiohttp

logger = logging.getLogger("artico_sync._engine.signaling")


def _is_local(address: tuple[Any, ...]) -> bool:
    """Whether the machine has the address of a socket."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


class _Connector(aiohttp.TCPConnector):
    """Remembers the transport, so that a connection that does not end can be cut."""

    transport: asyncio.BaseTransport | None = None

    async def connect(self, *args: Any, **options: Any) -> Any:
        connection = await super().connect(*args, **options)
        self.transport = connection.transport
        return connection


class HttpSession:
    """The HTTP session as the Engine.IO client uses it; remembers the WebSocket it was given.

    The Engine.IO client forgets, unclosed, one that fails before the server's first word.
    """

    def __init__(self) -> None:
        self._connector = _Connector()
        self._session = aiohttp.ClientSession(connector=self._connector)
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @property
    def closed(self) -> bool:
        return self._session.closed

    async def ws_connect(self, url: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        self._socket = await self._session.ws_connect(url, **options)
        return self._socket

    def check(self) -> None:
        """Cut the connection if it stands on an address the machine no longer has: the system
        would go on trying for minutes."""
        transport = self._connector.transport
        if not isinstance(transport, asyncio.WriteTransport) or transport.is_closing():
            return
        address = transport.get_extra_info("sockname")
        if isinstance(address, tuple) and not _is_local(address):
            logger.info("the connection to the server is cut: the address %s is gone", address[0])
            transport.abort()

    async def close(self) -> None:
        """Close all there is; the WebSocket says good-bye, within its own time limit."""
        try:
            if self._socket is not None:
                await self._socket.close()
        finally:
            await self._session.close()
            transport = self._connector.transport
            if isinstance(transport, asyncio.WriteTransport):
                # Our last word was answered, or will not be. TLS would wait for another one, and a
                # dead network for the rest of what was sent.
                transport.abort()
                # The socket is closed on the loop's next pass.
                await asyncio.sleep(0)
