"""One Socket.IO connection to a signaling server, from its opening to its end."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
import socketio.exceptions

from artico_sync._engine.signaling.connect_errors import refusal, unreachable
from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.transport import SignalingListener
from artico_sync._protocol._socketio import (
    ACK,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    QuietLogger,
    StrictClient,
    strict_packet_class,
)
from artico_sync.errors import SignalingError

logger = logging.getLogger(__name__)

#: Seconds for the TCP, TLS and WebSocket handshakes and the server's `open` event, together.
HANDSHAKE_SECONDS = 10.0
#: Seconds a server has to answer a close before the connection is cut.
CLOSE_SECONDS = 1.0
#: Maximum number of pending acknowledgements; further signals are sent without requesting one.
MAXIMUM_PENDING_ACKS = 1024
#: Maximum number of packets queued for a server that does not read.
MAXIMUM_QUEUED_PACKETS = 4096
#: Largest message accepted from a server, in bytes.
MAXIMUM_MESSAGE = 4 * 1024 * 1024

_PACKET_TYPES = frozenset({CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR})
_EVENTS = frozenset({"open", "error", "signal", "join", "gone", "back"})


def _on_malformed(reason: str) -> None:
    logger.warning("dropped a malformed packet from the signaling server: %s", reason)


_Packet = strict_packet_class(_PACKET_TYPES, _EVENTS, _on_malformed)


class SocketConnectionOwner(Protocol):
    """The transport that opens a connection."""

    id: str

    def on_connected(self, connection: SocketConnection) -> None:
        """Note that the Socket.IO connection is open."""

    def on_ready(self, connection: SocketConnection, peer_id: str, resume: str | None) -> bool:
        """Note that `connection` is ready; return whether to notify the listener."""

    def on_lost(self, connection: SocketConnection) -> bool:
        """Note the loss of `connection`; return whether to notify the listener."""


class SocketConnection:
    """One Socket.IO connection, used once; `close()` ends everything it has started."""

    def __init__(self, owner: SocketConnectionOwner, listener: SignalingListener) -> None:
        self._owner = owner
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._refusal: str | None = None
        self._acknowledges = False
        self._pending_acks: set[asyncio.Future[bool | None]] = set()
        self._outbox: asyncio.Queue[tuple[str, Any, Callable[..., None] | None]] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._http: HttpSession | None = None
        self._client: Any = None
        self._is_closed = False

    def check(self) -> None:
        """Cut the connection if its local address no longer exists."""
        if self._http is not None:
            self._http.check()

    async def open(
        self, url: ServerUrl, auth: dict[str, str], ssl_context: ssl.SSLContext | None
    ) -> None:
        """Connect, and return when the server has sent its `open` event.

        Raises:
            IdTakenError, InvalidIdError, SignalingError: See `SignalingTransport.open`.
        """
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                self._make_client(ssl_context)
                await self._connect(url, auth)
                await self._opened
        except TimeoutError as error:
            raise SignalingError(
                f"The signaling server at {url} did not answer within {HANDSHAKE_SECONDS:g} s:"
                " check that the URL is that of an Artico server, and the network."
            ) from error

    def _make_client(self, ssl_context: ssl.SSLContext | None) -> None:
        self._http = HttpSession()
        quiet = QuietLogger(logger)
        options: dict[str, Any] = {
            "max_msg_size": MAXIMUM_MESSAGE,
            "timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        }
        if ssl_context is not None:
            options["ssl"] = ssl_context
        self._client = StrictClient(
            reconnection=False,
            handle_sigint=False,
            serializer=_Packet,
            logger=quiet,
            engineio_logger=quiet,
            http_session=self._http,
            websocket_extra_options=options,
        )
        # Plain functions, because python-socketio runs these in the order of arrival.
        for event, handler in (
            ("connect", self._on_connect),
            ("connect_error", self._on_connect_error),
            ("disconnect", self._on_disconnect),
            ("open", self._on_open),
            ("error", self._on_error),
            ("signal", self._on_signal),
            ("join", self._on_join),
            ("gone", functools.partial(self._on_presence, "on_peer_left")),
            ("back", functools.partial(self._on_presence, "on_peer_returned")),
        ):
            self._client.on(event, handler)

    async def _connect(self, url: ServerUrl, auth: dict[str, str]) -> None:
        token = auth.get("token")
        problem: SignalingError | None = None
        try:
            await self._client.connect(
                url.for_peer(self._owner.id),
                headers={} if token is None else {"Authorization": f"Bearer {token}"},
                auth=auth,
                transports=["websocket"],
                namespaces=["/"],
                socketio_path=url.path,
                wait_timeout=HANDSHAKE_SECONDS,
            )
        except Exception as error:
            # The Engine.IO client may raise any exception if this is not a Socket.IO server.
            problem = unreachable(url, error, self._refusal)
        if problem is not None:
            # Raised outside the `except` block, so that the traceback does not contain aiohttp's
            # error, which shows the URL's query and the token.
            raise problem

    # -- outgoing -----------------------------------------------------------------------------

    def send_signal(self, message: dict[str, object], outcome: asyncio.Future[bool | None]) -> None:
        """Send a signal, and set `outcome` as `SignalingTransport.send` describes."""
        if not self._acknowledges or len(self._pending_acks) >= MAXIMUM_PENDING_ACKS:
            self.emit("signal", message)
            outcome.set_result(None)
            return

        def on_acknowledged(*answer: object) -> None:
            if not outcome.done():
                answered = answer[0] if answer else None
                delivered = answered.get("delivered") if isinstance(answered, dict) else None
                outcome.set_result(delivered if isinstance(delivered, bool) else None)

        self._pending_acks.add(outcome)
        outcome.add_done_callback(self._pending_acks.discard)
        if not self.emit("signal", message, on_acknowledged):
            outcome.set_result(None)

    def emit(
        self, event: str, data: Any, on_acknowledged: Callable[..., None] | None = None
    ) -> bool:
        """Queue an event, and return False if it was dropped because the server does not read."""
        if self._is_closed or self._queued_packets() >= MAXIMUM_QUEUED_PACKETS:
            logger.warning("dropped a %s: the signaling server does not read any more", event)
            return False
        self._outbox.put_nowait((event, data, on_acknowledged))
        if self._writer is None:
            self._writer = asyncio.ensure_future(self._write())
        return True

    def _queued_packets(self) -> int:
        return self._outbox.qsize() + int(self._client.queued_packets)

    async def _write(self) -> None:
        while True:
            event, data, on_acknowledged = await self._outbox.get()
            try:
                await self._client.emit(event, data, callback=on_acknowledged)
            except socketio.exceptions.BadNamespaceError:
                logger.debug("a %s was lost with the signaling connection", event)
            self._outbox.task_done()

    # -- incoming -----------------------------------------------------------------------------

    def _on_connect(self) -> None:
        self._owner.on_connected(self)

    def _on_connect_error(self, *details: object) -> None:
        if not self._client.is_transport_connected:
            # The connection itself failed, not the server's answer; an exception says why.
            return
        if self._opened.done():
            # An unusual way to disconnect a ready connection.
            self._on_disconnect()
            return
        detail = details[0] if details else None
        if isinstance(detail, dict):
            detail = detail.get("message")
        self._refusal = str(detail)[:200] if detail else None

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
        if self._owner.on_ready(self, ready_id, resume if isinstance(resume, str) else None):
            self._notify("on_ready", ready_id)

    def _on_error(self, *arguments: object) -> None:
        error = refusal(str(arguments[0])[:200] if arguments else "", self._owner.id)
        if self._opened.done():
            self._notify("on_error", error)
        else:
            self._opened.set_exception(error)

    def _on_signal(self, *arguments: object) -> None:
        message = arguments[0] if arguments else None
        if not isinstance(message, dict):
            logger.warning("dropped a signal that is not a mapping")
        elif self._opened.done():
            self._notify("on_signal", message)

    def _on_join(self, *arguments: object) -> None:
        room, peer_id, metadata = (*arguments, None, None, None)[:3]
        if not isinstance(room, str) or not isinstance(peer_id, str):
            logger.warning("dropped a join without a room and a peer id")
        elif self._opened.done():
            self._notify("on_join", room, peer_id, metadata if isinstance(metadata, str) else None)

    def _on_presence(self, method: str, *arguments: object) -> None:
        peer_id = arguments[0] if arguments else None
        if not isinstance(peer_id, str):
            logger.warning("dropped a presence event without a peer id")
        elif self._opened.done():
            self._notify(method, peer_id)

    def _on_disconnect(self, *reason: object) -> None:
        was_ready = self._opened.done() and not self._opened.cancelled()
        was_ready = was_ready and self._opened.exception() is None
        if not self._opened.done():
            self._opened.set_exception(
                SignalingError("The signaling server closed the connection.")
            )
            # Retrieved here, because no task awaits it if the connection is being closed.
            self._opened.exception()
        self._resolve_pending_acks()
        if was_ready and self._owner.on_lost(self):
            self._notify("on_disconnected")

    def _notify(self, method: str, *arguments: object) -> None:
        if self._is_closed and method != "on_disconnected":
            return
        try:
            getattr(self._listener, method)(*arguments)
        except Exception:
            logger.exception("unexpected error in %s", method)

    def _resolve_pending_acks(self) -> None:
        for outcome in list(self._pending_acks):
            if not outcome.done():
                outcome.set_result(None)

    # -- the end ------------------------------------------------------------------------------

    async def close(self) -> None:
        """Disconnect, and return when nothing is left running."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._client is not None:
                await self._end_client()
        finally:
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait({self._writer})
            # Also if the loop ends before the server has answered.
            if self._http is not None:
                await self._http.close()
        if not self._opened.done():
            self._opened.cancel()
        self._resolve_pending_acks()

    async def _disconnect(self) -> None:
        # The Engine.IO client closes its WebSocket before it has written the queued packets and
        # its own close packet: the server would expect a reconnection, and a peer would ring on.
        await _wait_written(self._outbox, self._writer)
        if self._client.is_transport_connected:
            await self._client.send_disconnect()
            await _wait_written(self._client.transport_queue, self._client.writer_task)
        await self._client.disconnect()

    async def _end_client(self) -> None:
        """Disconnect, and cut the connection of a server that does not answer."""
        disconnecting = asyncio.ensure_future(self._disconnect())
        done, _ = await asyncio.wait({disconnecting}, timeout=2 * CLOSE_SECONDS)
        remaining = {disconnecting, *self._client.transport_tasks}
        if not done:
            for task in remaining:
                task.cancel()
            await self._client.abort()
        await asyncio.wait(remaining, timeout=CLOSE_SECONDS)
        for task in remaining:
            if task.done() and not task.cancelled() and task.exception() is not None:
                logger.debug("while disconnecting: %r", task.exception())


async def _wait_written(queue: asyncio.Queue[Any], writer: asyncio.Task[None] | None) -> None:
    """Wait until a queue has been written, or the task that writes it has ended."""
    if writer is not None:
        emptied = asyncio.ensure_future(queue.join())
        try:
            await asyncio.wait({emptied, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            emptied.cancel()


# -- HTTP ------------------------------------------------------------------------------------


class HttpSession:
    """The HTTP session given to the Engine.IO client; it can be cut, and closes its WebSocket.

    The Engine.IO client does not close a WebSocket that fails before the server's first packet.
    """

    def __init__(self) -> None:
        self._connector = _TransportConnector()
        self._session = aiohttp.ClientSession(connector=self._connector)
        self._websocket: aiohttp.ClientWebSocketResponse | None = None

    @property
    def closed(self) -> bool:
        """Return whether the session is closed; read by the Engine.IO client."""
        return self._session.closed

    async def ws_connect(self, url: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket; called by the Engine.IO client."""
        self._websocket = await self._session.ws_connect(url, **options)
        return self._websocket

    def check(self) -> None:
        """Cut the connection if this machine no longer has its local address.

        The operating system would keep retransmitting for minutes.
        """
        transport = self._connector.transport
        if not isinstance(transport, asyncio.WriteTransport) or transport.is_closing():
            return
        address = transport.get_extra_info("sockname")
        if isinstance(address, tuple) and not _is_local(address):
            logger.info("the connection to the server is cut: the address %s is gone", address[0])
            transport.abort()

    async def close(self) -> None:
        """Close the WebSocket, within its own timeout, the session and the connection."""
        try:
            if self._websocket is not None:
                await self._websocket.close()
        finally:
            await self._session.close()
            transport = self._connector.transport
            if isinstance(transport, asyncio.WriteTransport):
                # The closing handshake is over or has timed out. TLS would wait for another one,
                # and a dead network for the unsent rest.
                transport.abort()
                # The socket is closed in the loop's next iteration.
                await asyncio.sleep(0)


class _TransportConnector(aiohttp.TCPConnector):
    """A connector that keeps the transport, so that the connection can be cut."""

    transport: asyncio.BaseTransport | None = None

    async def connect(self, *args: Any, **options: Any) -> Any:
        connection = await super().connect(*args, **options)
        self.transport = connection.transport
        return connection


def _is_local(address: tuple[Any, ...]) -> bool:
    """Return whether this machine has the address of a socket."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
