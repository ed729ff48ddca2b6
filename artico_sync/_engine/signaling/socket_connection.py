"""One Socket.IO connection to a signalling server, from its opening to its end; loop thread."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp
import socketio
import socketio.exceptions
import socketio.packet

from artico_sync._engine.signaling.connect_errors import refusal, unreachable
from artico_sync._engine.signaling.http_session import HttpSession
from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.transport import SignalingListener
from artico_sync._protocol._socketio import QuietLogger, strict_packet_class
from artico_sync.errors import SignalingError

logger = logging.getLogger("artico_sync._engine.signaling")

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
_EVENTS = frozenset({"open", "error", "signal", "join", "gone", "back"})


def _on_malformed(reason: str) -> None:
    logger.warning("dropped a malformed packet from the signalling server: %s", reason)


_Packet = strict_packet_class(_PACKET_TYPES, _EVENTS, _on_malformed)


class ConnectionOwner(Protocol):
    """The peer that a connection is opened for; loop thread."""

    id: str

    def on_connected(self, connection: SocketConnection) -> None: ...
    def on_ready(self, connection: SocketConnection, peer_id: str, resume: str | None) -> bool:
        """Note that `connection` is ready; whether the listener is to hear of it."""

    def on_lost(self, connection: SocketConnection) -> bool:
        """Note the loss of `connection`; whether the listener is to hear of it."""


class SocketConnection:
    """One Socket.IO connection, used once; everything it starts, `close()` ends."""

    def __init__(self, owner: ConnectionOwner, listener: SignalingListener) -> None:
        self._owner = owner
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._refused: str | None = None
        self._acknowledges = False
        self._outstanding: set[asyncio.Future[bool | None]] = set()
        self._outbox: asyncio.Queue[tuple[str, Any, Callable[..., None] | None]] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._http: HttpSession | None = None
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
        self._http = HttpSession()
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
            ("gone", functools.partial(self._on_presence, "on_peer_left")),
            ("back", functools.partial(self._on_presence, "on_peer_returned")),
        ):
            self._client.on(event, handler)
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
                wait_timeout=HANDSHAKE_TIMEOUT,
            )
        except Exception as error:
            # A server that is none makes the Engine.IO client raise anything at all.
            problem = unreachable(url, error, self._refused)
        if problem is not None:
            # Out here, so that a traceback does not lead to aiohttp's error: that one shows the
            # URL's query and the token.
            raise problem

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
            self._outbox.task_done()

    # -- incoming: plain functions, so that python-socketio runs them in the order of arrival ---

    def _on_connect(self) -> None:
        self._owner.on_connected(self)

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
        if self._owner.on_ready(self, ready_id, resume if isinstance(resume, str) else None):
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

    def _on_presence(self, method: str, *arguments: object) -> None:
        peer_id = arguments[0] if arguments else None
        if not isinstance(peer_id, str):
            logger.warning("dropped the news that nobody is gone or back")
        elif self._opened.done():
            self._tell(method, peer_id)

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
        if was_ready and self._owner.on_lost(self):
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
        try:
            if self._client is not None:
                await self._end_client(self._client.eio)
        finally:
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait({self._writer})
            # Also where the loop ends before the server has answered.
            if self._http is not None:
                await self._http.close()
        if not self._opened.done():
            self._opened.cancel()
        self._settle()

    async def _say_goodbye(self, engine: Any) -> None:
        # The Engine.IO client closes its WebSocket before what waits is written, its own good-bye
        # as well: the server would take it for a lost link, and a peer would ring on.
        await _written(self._outbox, self._writer)
        if engine.state == "connected":
            await engine.send(str(socketio.packet.DISCONNECT))
            await _written(engine.queue, engine.write_loop_task)
        await self._client.disconnect()

    async def _end_client(self, engine: Any) -> None:
        """Say good-bye, and cut the connection of a server that does not answer."""
        ending = asyncio.ensure_future(self._say_goodbye(engine))
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


async def _written(queue: asyncio.Queue[Any], writer: asyncio.Task[None] | None) -> None:
    """Wait until all that is in a queue has been written, or the task that writes has ended."""
    if writer is not None:
        emptied = asyncio.ensure_future(queue.join())
        try:
            await asyncio.wait({emptied, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            emptied.cancel()
