"""The signaling transport over Socket.IO, for Artico's servers and `ArticoServer`."""

from __future__ import annotations

import asyncio
import logging
import ssl

from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.socket_connection import SocketConnection
from artico_sync._engine.signaling.transport import SignalingListener
from artico_sync.errors import SignalingError

logger = logging.getLogger(__name__)


class SocketTransport:
    """Connects one peer to a signaling server.

    Args:
        url: The server's URL, which may have a path before `/socket.io/` and a query.
        id: The wanted peer id.
        token: Sent as `token` in the Socket.IO auth payload and in a bearer header.
        ssl_context: Decides which certificates to trust, in place of the system's.

    Raises:
        ValueError: The URL or the token is not valid.
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
        # A secret from an `ArticoServer`; proves on reconnecting that this is the same client.
        self._resume: str | None = None
        self._connection: SocketConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self, listener: SignalingListener) -> None:
        """Connect, and return when ready. See `SignalingTransport.open`."""
        if self.state != "disconnected":
            raise SignalingError("The signaling connection is open already.")
        self.state = "connecting"
        connection = SocketConnection(self, listener)
        self._connection = connection
        opening = self._opening = asyncio.ensure_future(
            connection.open(self._url, self._auth(), self._ssl_context)
        )
        try:
            # Not awaited directly, because code below it can swallow a cancellation.
            await asyncio.wait({opening})
            if self._connection is not connection:
                raise SignalingError("The signaling connection was closed while opening.")
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
            opening.add_done_callback(_retrieve_exception)

    def send(self, message: dict[str, object]) -> asyncio.Future[bool | None]:
        """Send a signal, in order. See `SignalingTransport.send`."""
        outcome: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        if self._connection is None or self.state != "ready":
            outcome.set_result(None)
        else:
            self._connection.send_signal(message, outcome)
        return outcome

    def join(self, room: str, metadata: str | None) -> None:
        """Enter a room; has no effect while not ready."""
        if self._connection is not None and self.state == "ready":
            self._connection.emit("join", room if metadata is None else (room, metadata))

    def check(self) -> None:
        """See `SignalingTransport.check`."""
        if self._connection is not None and self.state == "ready":
            self._connection.check()

    async def close(self) -> None:
        """Disconnect, and return when nothing is left running."""
        connection, self._connection = self._connection, None
        self.state = "disconnected"
        opening = self._opening
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
        if connection is not None:
            await self._dispose(connection)
        while self._closing:
            await asyncio.wait(self._closing)

    # -- from the connection ------------------------------------------------------------------

    def on_ready(self, connection: SocketConnection, peer_id: str, resume: str | None) -> bool:
        """Note that `connection` is ready; return whether to notify the listener."""
        if self._connection is not connection:
            return False
        self.id = peer_id
        self._resume = resume
        self.state = "ready"
        return True

    def on_connected(self, connection: SocketConnection) -> None:
        """Note that the Socket.IO connection is open."""
        if self._connection is connection and self.state == "connecting":
            self.state = "connected"

    def on_lost(self, connection: SocketConnection) -> bool:
        """Note the loss of `connection`; return whether to notify the listener."""
        if self._connection is not connection:
            return False
        self._connection = None
        self.state = "disconnected"
        self._dispose(connection)
        return True

    def _dispose(self, connection: SocketConnection) -> asyncio.Task[None]:
        task = asyncio.ensure_future(connection.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _auth(self) -> dict[str, str]:
        auth = {}
        if self._token is not None:
            auth["token"] = self._token
        if self._resume is not None:
            auth["resume"] = self._resume
        return auth


def _retrieve_exception(task: asyncio.Future[None]) -> None:
    """Log the exception of a task that is no longer awaited."""
    if not task.cancelled() and task.exception() is not None:
        logger.debug("while closing: %r", task.exception())
