"""Signalling over Socket.IO, as Artico's server and ours speak it; loop thread."""

from __future__ import annotations

import asyncio
import logging
import ssl

from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.socket_connection import SocketConnection
from artico_sync._engine.signaling.transport import SignalingListener
from artico_sync.errors import SignalingError

logger = logging.getLogger("artico_sync._engine.signaling")


class SocketTransport:
    """One peer's connection to a signalling server.

    Args:
        url: The server's URL; a path before `/socket.io/` and a query are kept.
        id: The wanted peer id.
        token: Shown to the server as `token` in the Socket.IO auth payload and as a bearer header.
        ssl_context: Which certificates to trust, in place of the system's.

    Raises:
        ValueError: The URL cannot be one of a server.
    """

    def __init__(
        self,
        url: str,
        id: str,
        *,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("token must consist of printable ASCII characters")
        self.id = id
        self.state = "disconnected"
        self._url = ServerUrl.parse(url)
        self._token = token
        self._ssl_context = ssl_context
        # Given by our own server: shows that a returning client is the one that was connected.
        self._resume: str | None = None
        self._connection: SocketConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed: set[asyncio.Task[None]] = set()

    async def open(self, listener: SignalingListener) -> None:
        """Connect, and return when ready. See `SignalingTransport.open`."""
        if self.state != "disconnected":
            raise SignalingError("The signalling connection is open already.")
        self.state = "connecting"
        connection = SocketConnection(self, listener)
        self._connection = connection
        opening = self._opening = asyncio.ensure_future(
            connection.open(self._url, self._auth(), self._ssl_context)
        )
        try:
            # Not awaited itself: somewhere below it, a cancellation can be lost.
            await asyncio.wait({opening})
            if self._connection is not connection:
                raise SignalingError("The signalling connection was closed while opening.")
            opening.result()
        except BaseException:
            if self._connection is connection:
                self._connection = None
                self.state = "disconnected"
            opening.cancel()
            await self._dispose(connection)
            raise
        finally:
            self._opening = None
            opening.add_done_callback(_fetch)

    def send(self, message: dict[str, object]) -> asyncio.Future[bool | None]:
        """Send a signal, in order. See `SignalingTransport.send`."""
        outcome: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        if self._connection is None or self.state != "ready":
            outcome.set_result(None)
        else:
            self._connection.send(message, outcome)
        return outcome

    def join(self, room: str, metadata: str | None) -> None:
        """Enter a room; does nothing while not ready."""
        if self._connection is not None and self.state == "ready":
            self._connection.emit("join", room if metadata is None else (room, metadata))

    def check(self) -> None:
        """See `SignalingTransport.check`."""
        if self._connection is not None and self.state == "ready":
            self._connection.check()

    async def close(self) -> None:
        """Disconnect; returns when nothing is left running."""
        connection, self._connection = self._connection, None
        self.state = "disconnected"
        opening = self._opening
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
        if connection is not None:
            await self._dispose(connection)
        while self._closed:
            await asyncio.wait(self._closed)

    # -- from the connection ------------------------------------------------------------------

    def on_ready(self, connection: SocketConnection, peer_id: str, resume: str | None) -> bool:
        """Note that `connection` is ready; whether the listener is to hear of it."""
        if self._connection is not connection:
            return False
        self.id = peer_id
        self._resume = resume
        self.state = "ready"
        return True

    def on_connected(self, connection: SocketConnection) -> None:
        if self._connection is connection and self.state == "connecting":
            self.state = "connected"

    def on_lost(self, connection: SocketConnection) -> bool:
        """Note the loss of `connection`; whether the listener is to hear of it."""
        if self._connection is not connection:
            return False
        self._connection = None
        self.state = "disconnected"
        self._dispose(connection)
        return True

    def _dispose(self, connection: SocketConnection) -> asyncio.Task[None]:
        task = asyncio.ensure_future(connection.close())
        self._closed.add(task)
        task.add_done_callback(self._closed.discard)
        return task

    def _auth(self) -> dict[str, str]:
        auth = {}
        if self._token is not None:
            auth["token"] = self._token
        if self._resume is not None:
            auth["resume"] = self._resume
        return auth


def _fetch(task: asyncio.Future[None]) -> None:
    """Take note of a result nobody waits for any more."""
    if not task.cancelled() and task.exception() is not None:
        logger.debug("given up meanwhile: %r", task.exception())
