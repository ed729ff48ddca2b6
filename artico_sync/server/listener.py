"""A server on a port of its own: listening sockets, and the web server on them."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
import ssl
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from artico_sync.server.aiohttp import make_application
from artico_sync.server.app import LoopBoundServer
from artico_sync.server.limits import ServerLimits
from artico_sync.server.limits.connection_limit import ConnectionLimit

logger = logging.getLogger(__name__)

BACKLOG = 512
# Iterations of the loop between accepting a connection and calling the web server with it.
ACCEPT_ITERATIONS = 5
# Minimum number of connections of one address that need not be peers.
SPARE_CONNECTIONS = 32
#: Seconds for a clean close of the connections if the user sets no timeout.
DEFAULT_STOP_SECONDS = 60.0


class RequestLog(logging.LoggerAdapter[logging.Logger]):
    """Passes on what the web server logs, except a traceback for each request that is not HTTP.

    Any client could fill the disk with these, and they show the request, tokens included.
    """

    def error(self, msg: object, *args: object, exc_info: Any = None, **options: Any) -> None:
        if isinstance(exc_info, HttpProcessingError):
            logger.debug("refused a request that is not HTTP: %s", type(exc_info).__name__)
        else:
            super().error(msg, *args, exc_info=exc_info, **options)

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        self.error(msg, *args, exc_info=exc_info, **options)


class Listener:
    """Serves an aiohttp application on a host and port.

    Args:
        host: Name or address; "" for every interface.
        port: 0 for a free one.
        tls: Serves https if given.
        limits: Those on connections without a request; None if a proxy limits these.
    """

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, limits: ServerLimits | None
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._limits = limits
        peers = limits.max_peers_per_address if limits is not None else math.inf
        # As many again may be connecting, or requesting a page.
        timeout = limits.handshake_timeout if limits is not None else None
        self._connection_limit = ConnectionLimit(peers + max(peers, SPARE_CONNECTIONS), timeout)
        self._runner: web.AppRunner | None = None
        self._sockets: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []

    async def start(self, application: web.Application) -> int:
        """Listen and serve, and return the port.

        Raises:
            OSError: The host or the port is not available; the message says what to do.
        """
        sockets = await self._bind()
        # An access log would show tokens in queries. No body is read, so none is decompressed.
        options: dict[str, Any] = {"access_log": None, "auto_decompress": False}
        if self._limits is not None:
            options["keepalive_timeout"] = self._limits.handshake_timeout
        runner = web.AppRunner(
            application, logger=RequestLog(logger), shutdown_timeout=1.0, **options
        )
        servers: list[asyncio.Server] = []
        try:
            await runner.setup()
            for bound in sockets:
                servers.append(await self._serve(runner, bound))
        except BaseException:
            for server in servers:
                server.close()
            await runner.cleanup()
            for bound in sockets:
                bound.close()
            raise
        self._runner, self._sockets, self._servers = runner, sockets, servers
        port: int = sockets[0].getsockname()[1]
        return port

    async def _serve(self, runner: web.AppRunner, bound: socket.socket) -> asyncio.Server:
        factory = runner.server
        assert factory is not None, "start() has set it up"
        timeout = None
        if self._limits is not None and self._tls is not None:
            timeout = self._limits.handshake_timeout
        return await asyncio.get_running_loop().create_server(
            self._connection_limit.factory(factory),
            sock=bound,
            ssl=self._tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=timeout,
        )

    async def close(self) -> None:
        """Stop listening; open connections stay open."""
        if self._runner is None:
            return
        # First accept no more connections, and let the web server get every one accepted so far:
        # asyncio does not close one that is accepted while its server is being closed.
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening)
        for _ in range(ACCEPT_ITERATIONS):
            await asyncio.sleep(0)
        for server in self._servers:
            server.close()
        self._sockets, self._servers = [], []

    async def stop(self) -> None:
        """Stop listening, run the application's shutdown handlers, close every connection."""
        await self.close()
        runner, self._runner = self._runner, None
        if runner is None:
            return
        served = runner.server.connections if runner.server is not None else []
        transports = [connection.transport for connection in served]
        await runner.cleanup()
        for transport in transports:
            if transport is not None:
                # Every response was sent; TLS would still wait for the client's close_notify.
                transport.abort()
        # The sockets are closed in the loop's next iteration.
        await asyncio.sleep(0)

    async def _bind(self) -> list[socket.socket]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                self._host or None,
                self._port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
        except OSError as error:
            raise OSError(
                error.errno, f"The host {self._host!r} to listen on is unknown: {error.strerror}"
            ) from error
        port, bound = self._port, list[socket.socket]()
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                listening = self._listen(family, (address[0], port, *address[2:]))
                if listening is not None:
                    bound.append(listening)
                    # A free port is chosen once, and used for every address.
                    port = listening.getsockname()[1]
        except OSError:
            for listening in bound:
                listening.close()
            raise
        if not bound:
            raise OSError(errno.EADDRNOTAVAIL, f"No address of {self._host!r} can be listened on")
        return bound

    def _listen(self, family: int, address: tuple[object, ...]) -> socket.socket | None:
        try:
            listening = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            # The name has an IPv6 address but this machine has no IPv6.
            logger.debug("no sockets of family %s here", family)
            return None
        try:
            if os.name == "posix":
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(address)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise _bind_error(error, str(address[0]), self._port) from error
        return listening


class StandaloneServer:
    """One run of a server on a port of its own: owns the listener, and closes the server.

    Args:
        server: The signaling server.
        host, port, tls: See `Listener`.
    """

    def __init__(
        self,
        server: LoopBoundServer,
        limits: ServerLimits,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        behind_proxy: bool,
    ) -> None:
        self._server = server
        self._limits = limits
        self._behind_proxy = behind_proxy
        # Behind a proxy all connections are the proxy's, which keeps idle ones open.
        self._listener = Listener(host, port, tls, None if behind_proxy else limits)
        self.port = port

    async def start(self) -> None:
        """Listen and serve."""
        application = make_application(self._server, self._limits, behind_proxy=self._behind_proxy)
        self._server.open()
        try:
            self.port = await self._listener.start(application)
        except BaseException:
            await self._server.close(0.0)
            raise

    async def stop_listening(self) -> None:
        """Stop listening when the program exits, which ends the open connections."""
        await self._listener.close()

    async def stop(self, timeout: float | None) -> None:
        """Disconnect every peer within `timeout` seconds, then close the other connections."""
        await self._listener.close()
        await self._server.close(DEFAULT_STOP_SECONDS if timeout is None else timeout)
        await self._listener.stop()


def _bind_error(error: OSError, host: str, port: int) -> OSError:
    where = f"{host}, port {port}"
    if error.errno == errno.EADDRINUSE:
        advice = "is in use already: choose another port, or port=0 for a free one"
    elif error.errno == errno.EACCES:
        advice = "needs special rights: choose a port above 1023"
    elif error.errno == errno.EADDRNOTAVAIL:
        advice = "is not an address of this machine: choose one that is, or '0.0.0.0' for all"
    else:
        advice = f"cannot be listened on: {error.strerror}"
    return OSError(error.errno, f"{where} {advice}")
