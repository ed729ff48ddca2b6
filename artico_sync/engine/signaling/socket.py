"""Signalling over Socket.IO, as Artico's server and ours speak it; loop thread."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import aiohttp
import socketio
import socketio.exceptions
import socketio.packet

from artico_sync.engine.signaling.connect_errors import refusal, unreachable
from artico_sync.engine.signaling.server_url import ServerUrl
from artico_sync.engine.signaling.socketio_border import QuietLogger, strict_packet_class
from artico_sync.engine.signaling.transport import SignalingListener
from artico_sync.errors import SignalingError

logger = logging.getLogger("artico_sync.engine.signaling")

#: Seconds for the TCP, TLS and WebSocket handshakes and the server's `open`, together.
HANDSHAKE_TIMEOUT = 10.0
#: Seconds a server has to answer our good-bye before the connection is cut.
GOODBYE_TIMEOUT = 1.0
#: Acknowledgements waited for at once; a signal beyond is sent without asking for one.
MAXIMUM_OUTSTANDING = 1024
#: Packets that may wait for a server that does not read.
MAXIMUM_UNSENT = 4096
#: Largest message taken from a server, in bytes.
MAXIMUM_MESSAGE = 4 * 1024 * 1024

_PACKET_TYPES = frozenset(
    {
        socketio.packet.CONNECT,
        socketio.packet.DISCONNECT,
        socketio.packet.EVENT,
        socketio.packet.ACK,
        socketio.packet.CONNECT_ERROR,
    }
)
_EVENTS = frozenset({"open", "error", "signal", "join"})


def _on_malformed(reason: str) -> None:
    logger.warning("dropped a malformed packet from the signalling server: %s", reason)


_Packet = strict_packet_class(_PACKET_TYPES, _EVENTS, _on_malformed)


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
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed: set[asyncio.Task[None]] = set()

    async def open(self, listener: SignalingListener) -> None:
        """Connect, and return when ready. See `SignalingTransport.open`."""
        if self.state != "disconnected":
            raise SignalingError("The signalling connection is open already.")
        self.state = "connecting"
        connection = _Connection(self, listener)
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

    def _ready(self, connection: _Connection, peer_id: str, resume: str | None) -> bool:
        """Note that `connection` is ready; whether the listener is to hear of it."""
        if self._connection is not connection:
            return False
        self.id = peer_id
        self._resume = resume
        self.state = "ready"
        return True

    def check(self) -> None:
        """See `SignalingTransport.check`."""
        if self._connection is not None and self.state == "ready":
            self._connection.check()

    def _connected(self, connection: _Connection) -> None:
        if self._connection is connection and self.state == "connecting":
            self.state = "connected"

    def _lost(self, connection: _Connection) -> bool:
        """Note the loss of `connection`; whether the listener is to hear of it."""
        if self._connection is not connection:
            return False
        self._connection = None
        self.state = "disconnected"
        self._dispose(connection)
        return True

    def _dispose(self, connection: _Connection) -> asyncio.Task[None]:
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


def _is_local(address: tuple[Any, ...]) -> bool:
    """Whether the machine has the address of a socket."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
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


class _Http:
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


class _Connection:
    """One Socket.IO connection, used once; everything it starts, `close()` ends."""

    def __init__(self, owner: SocketTransport, listener: SignalingListener) -> None:
        self._owner = owner
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._refused: str | None = None
        self._acknowledges = False
        self._outstanding: set[asyncio.Future[bool | None]] = set()
        self._outbox: asyncio.Queue[tuple[str, Any, Callable[..., None] | None]] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._http: _Http | None = None
        self._client: Any = None
        self._is_closed = False

    def check(self) -> None:
        if self._http is not None:
            self._http.check()

    async def open(
        self, url: ServerUrl, auth: dict[str, str], ssl_context: ssl.SSLContext | None
    ) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await self._connect(url, auth, ssl_context)
                await self._opened
        except TimeoutError as error:
            raise SignalingError(
                f"The signalling server at {url} did not answer within {HANDSHAKE_TIMEOUT:g} s:"
                " check that the URL is that of an Artico server, and the network."
            ) from error

    async def _connect(
        self, url: ServerUrl, auth: dict[str, str], ssl_context: ssl.SSLContext | None
    ) -> None:
        self._http = _Http()
        quiet = QuietLogger(logger)
        options: dict[str, Any] = {
            "max_msg_size": MAXIMUM_MESSAGE,
            "timeout": aiohttp.ClientWSTimeout(ws_close=GOODBYE_TIMEOUT),
        }
        if ssl_context is not None:
            options["ssl"] = ssl_context
        self._client = socketio.AsyncClient(
            reconnection=False,
            handle_sigint=False,
            serializer=_Packet,
            logger=quiet,
            engineio_logger=quiet,
            http_session=self._http,
            websocket_extra_options=options,
        )
        for event, handler in (
            ("connect", self._on_connect),
            ("connect_error", self._on_connect_error),
            ("disconnect", self._on_disconnect),
            ("open", self._on_open),
            ("error", self._on_error),
            ("signal", self._on_signal),
            ("join", self._on_join),
        ):
            self._client.on(event, handler)
        token = auth.get("token")
        try:
            await self._client.connect(
                url.for_peer(self._owner.id),
                headers={} if token is None else {"Authorization": f"Bearer {token}"},
                auth=auth,
                transports=["websocket"],
                namespaces=["/"],
                socketio_path=url.path,
                wait_timeout=HANDSHAKE_TIMEOUT,
            )
        except Exception as error:
            # A server that is none makes the Engine.IO client raise anything at all.
            raise unreachable(url, error, self._refused) from error

    # -- outgoing -----------------------------------------------------------------------------

    def send(self, message: dict[str, object], outcome: asyncio.Future[bool | None]) -> None:
        if not self._acknowledges or len(self._outstanding) >= MAXIMUM_OUTSTANDING:
            self.emit("signal", message)
            outcome.set_result(None)
            return

        def on_acknowledged(*answer: object) -> None:
            if not outcome.done():
                answered = answer[0] if answer else None
                delivered = answered.get("delivered") if isinstance(answered, dict) else None
                outcome.set_result(delivered if isinstance(delivered, bool) else None)

        self._outstanding.add(outcome)
        outcome.add_done_callback(self._outstanding.discard)
        if not self.emit("signal", message, on_acknowledged):
            outcome.set_result(None)

    def emit(
        self, event: str, data: Any, on_acknowledged: Callable[..., None] | None = None
    ) -> bool:
        if self._is_closed or self._unsent() >= MAXIMUM_UNSENT:
            logger.warning("dropped a %s: the signalling server does not take any more", event)
            return False
        self._outbox.put_nowait((event, data, on_acknowledged))
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())
        return True

    def _unsent(self) -> int:
        return self._outbox.qsize() + int(self._client.eio.queue.qsize())

    async def _write(self) -> None:
        while True:
            event, data, on_acknowledged = await self._outbox.get()
            try:
                await self._client.emit(event, data, callback=on_acknowledged)
            except socketio.exceptions.BadNamespaceError:
                logger.debug("a %s was lost with the signalling connection", event)

    # -- incoming: plain functions, so that python-socketio runs them in the order of arrival ---

    def _on_connect(self) -> None:
        self._owner._connected(self)

    def _on_connect_error(self, *details: object) -> None:
        if self._client.eio.state != "connected":
            # No words of the server's: the connection itself failed, and an exception tells why.
            return
        if self._opened.done():
            # A ready connection is taken back, in an unusual way.
            self._on_disconnect()
            return
        detail = details[0] if details else None
        if isinstance(detail, dict):
            detail = detail.get("message")
        self._refused = str(detail)[:200] if detail else None

    def _on_open(self, *arguments: object) -> None:
        if self._opened.done():
            return
        peer_id = arguments[0] if arguments else None
        extra = arguments[1] if len(arguments) > 1 else None
        if not isinstance(extra, dict):
            extra = {}
        resume = extra.get("resume")
        self._acknowledges = extra.get("acknowledges") is True
        self._opened.set_result(None)
        ready_id = peer_id if isinstance(peer_id, str) and peer_id else self._owner.id
        if self._owner._ready(self, ready_id, resume if isinstance(resume, str) else None):
            self._tell("on_ready", ready_id)

    def _on_error(self, *arguments: object) -> None:
        error = refusal(str(arguments[0])[:200] if arguments else "", self._owner.id)
        if self._opened.done():
            self._tell("on_error", error)
        else:
            self._opened.set_exception(error)

    def _on_signal(self, *arguments: object) -> None:
        message = arguments[0] if arguments else None
        if not isinstance(message, dict):
            logger.warning("dropped a signal that is no mapping")
        elif self._opened.done():
            self._tell("on_signal", message)

    def _on_join(self, *arguments: object) -> None:
        room, peer_id, metadata = (*arguments, None, None, None)[:3]
        if not isinstance(room, str) or not isinstance(peer_id, str):
            logger.warning("dropped a join without a room and a peer id")
        elif self._opened.done():
            self._tell("on_join", room, peer_id, metadata if isinstance(metadata, str) else None)

    def _on_disconnect(self, *reason: object) -> None:
        was_ready = self._opened.done() and not self._opened.cancelled()
        was_ready = was_ready and self._opened.exception() is None
        if not self._opened.done():
            self._opened.set_exception(
                SignalingError("The signalling server closed the connection.")
            )
            # Nobody waits for it where the connection is being given up anyway.
            self._opened.exception()
        self._settle()
        if was_ready and self._owner._lost(self):
            self._tell("on_disconnected")

    def _tell(self, method: str, *arguments: object) -> None:
        if self._is_closed and method != "on_disconnected":
            return
        try:
            getattr(self._listener, method)(*arguments)
        except Exception:
            logger.exception("unexpected error in %s", method)

    def _settle(self) -> None:
        for outcome in list(self._outstanding):
            if not outcome.done():
                outcome.set_result(None)

    # -- the end ------------------------------------------------------------------------------

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait({self._writer})
        if self._client is not None:
            await self._end_client(self._client.eio)
        if self._http is not None:
            await self._http.close()
        if not self._opened.done():
            self._opened.cancel()
        self._settle()

    async def _end_client(self, engine: Any) -> None:
        """Say good-bye, and cut the connection of a server that does not answer."""
        ending = asyncio.ensure_future(self._client.disconnect())
        done, _ = await asyncio.wait({ending}, timeout=2 * GOODBYE_TIMEOUT)
        left = {ending, engine.read_loop_task, engine.write_loop_task} - {None}
        if not done:
            for task in left:
                task.cancel()
            await engine.disconnect(abort=True)
        if left:
            await asyncio.wait(left, timeout=GOODBYE_TIMEOUT)
        for task in left:
            if task.done() and not task.cancelled() and task.exception() is not None:
                logger.debug("while disconnecting: %r", task.exception())
