"""Artico's protocol on python-socketio: connects WebSockets with the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode

from artico_sync._protocol._socketio import (
    CONNECT,
    DISCONNECT,
    EVENT,
    QuietLogger,
    StrictServer,
    strict_packet_class,
)
from artico_sync.server.connection import Connection, Message, Receive, Send
from artico_sync.server.limits import LogThrottle, ServerLimits
from artico_sync.server.limits.address_limits import Address, AddressLimits
from artico_sync.server.limits.send_budget import TotalSendBudget
from artico_sync.server.origins import OriginPolicy
from artico_sync.server.registry import Hello, Peer, Registry

logger = logging.getLogger(__name__)

CONNECTION_KEY = "artico_sync.connection"
REQUEST_KEY = "artico_sync.request"
_PACKET_TYPES = frozenset({CONNECT, DISCONNECT, EVENT})
_EVENTS = frozenset({"signal", "join"})
# The Engine.IO driver looks for these two, and is given no other header.
_UPGRADE_HEADERS = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


class UpgradeRequest:
    """A request for a WebSocket, as far as it decides whether the WebSocket is accepted.

    Args:
        address: The client's address.
        query: The raw query string.
        header: Returns the value of a header, given its lower-case name.
    """

    def __init__(self, address: str, query: str, header: Callable[[str], str | None]) -> None:
        self.address = address
        self.origin = header("origin")
        self.host = header("host")
        self.token = _bearer_token(header("authorization"))
        try:
            parameters = parse_qs(query, keep_blank_values=True, max_num_fields=100)
        except ValueError:
            # Too many fields: refused like any other query that is not Socket.IO's.
            parameters = {}
        self.id = parameters.get("id", [None])[0]
        self.is_engineio_4 = parameters.get("EIO") == ["4"]
        self.is_websocket = parameters.get("transport") == ["websocket"]


class SocketIOServer:
    """Serves the peers of a registry over WebSockets that any web server has accepted.

    Args:
        registry: The peers.
        origins: Decides which web pages may connect.
        ping_interval: Seconds between two pings; whole seconds, as Engine.IO announces them.
        ping_timeout: Seconds a peer has for its answer.
    """

    def __init__(
        self,
        registry: Registry,
        origins: OriginPolicy,
        limits: ServerLimits,
        *,
        ping_interval: int,
        ping_timeout: int,
    ) -> None:
        self.registry = registry
        self._origins = origins
        self._limits = limits
        self._addresses = AddressLimits(limits)
        self._send_budget = TotalSendBudget(limits.max_unsent_total)
        self._connections: dict[Connection, asyncio.Task[Any] | None] = {}
        self._sessions: dict[str, Connection] = {}
        self._stopping = False
        # Not longer than a ping takes to fail: after that the Socket.IO server has given the
        # connection up and could not admit it any more.
        self._hello_timeout = min(limits.handshake_timeout, ping_interval + ping_timeout)
        # The parser does not know which connection a packet came from.
        self._log_throttle = LogThrottle()
        self._server = self._make_server(ping_interval, ping_timeout)
        self._server.on("connect", self._on_connect)
        self._server.on("disconnect", self._on_disconnect)
        self._server.on("signal", self._on_signal)
        self._server.on("join", self._on_join)

    def _make_server(self, ping_interval: int, ping_timeout: int) -> StrictServer:
        quiet = QuietLogger(logger)
        return StrictServer(
            self._may_queue,
            async_mode="asgi",
            serializer=strict_packet_class(_PACKET_TYPES, _EVENTS, self._on_malformed),
            # Messages are handled in the order of arrival, one after the other.
            async_handlers=False,
            # The connection is accepted before the registry sends its first event.
            always_connect=True,
            cors_allowed_origins=[],
            transports=["websocket"],
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=self._limits.max_message,
            logger=quiet,
            engineio_logger=quiet,
        )

    def _on_malformed(self, reason: str) -> None:
        self._log_throttle.warn("dropped a malformed packet: %s", reason)

    # -- before a WebSocket is accepted --------------------------------------------------

    def refusal(self, request: UpgradeRequest) -> tuple[int, str] | None:
        """Return the HTTP status and reason to refuse a request with, or None to accept it."""
        if not request.is_websocket or not request.is_engineio_4:
            return 400, "Socket.IO over WebSocket only (EIO=4, transport=websocket)"
        address = self._addresses[request.address]
        log_misbehavior = address.log_throttle.warn
        if not self._origins.allows(request.origin, request.host):
            log_misbehavior("refused a page from %.200r: not an allowed origin", request.origin)
            return 403, "this origin is not allowed"
        if self._stopping:
            return 503, "the server is stopping"
        if not address.new_connections.try_acquire():
            log_misbehavior("refused %r: too many new connections", request.address)
            return 429, "too many new connections from this address"
        if address.connections >= self._limits.max_peers_per_address:
            log_misbehavior("refused %r: too many connections", request.address)
            return 429, "too many connections from this address"
        # Connections that are not admitted yet count as well.
        if len(self._connections) >= 2 * self._limits.max_peers:
            return 503, "the server is full"
        return None

    # -- one WebSocket -------------------------------------------------------------------

    async def serve(self, request: UpgradeRequest, receive: Receive, send: Send) -> None:
        """Serve one WebSocket until it ends; `refusal()` must have returned None for it."""
        with self._addresses.connected(request.address) as address:
            await self._serve(request, address, receive, send)

    async def _serve(
        self, request: UpgradeRequest, address: Address, receive: Receive, send: Send
    ) -> None:
        connection = Connection(
            receive,
            send,
            address,
            self._limits,
            self._send_budget,
            self._server.send_encoded,
            self._on_dropped,
        )
        self._connections[connection] = asyncio.current_task()
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._hello_timeout, self._drop_silent, connection)
        try:
            await self._server.handle_request(
                self._scope(request, connection), connection.receive, connection.send
            )
        finally:
            timer.cancel()
            connection.drop("ended")
            if connection.sid is not None:
                self._sessions.pop(connection.sid, None)
            del self._connections[connection]

    def _scope(self, request: UpgradeRequest, connection: Connection) -> Message:
        query = {"EIO": "4", "transport": "websocket"}
        return {
            "type": "websocket",
            "path": "/socket.io/",
            "query_string": urlencode(query).encode(),
            "headers": _UPGRADE_HEADERS,
            CONNECTION_KEY: connection,
            REQUEST_KEY: request,
        }

    def _drop_silent(self, connection: Connection) -> None:
        # Authentication takes additional time, which it limits itself.
        if connection.sid is None:
            connection.drop("it did not present itself in time")

    def _may_queue(self, session: str, packet: str) -> bool:
        scope = self._server.scope(session)
        if scope is None:
            return True
        connection: Connection = scope[CONNECTION_KEY]
        return connection.reserve_packet(packet)

    # -- events of the Socket.IO server --------------------------------------------------

    async def _on_connect(self, sid: str, environ: Any, auth: object = None) -> None:
        scope = environ["asgi.scope"]
        connection, request = scope[CONNECTION_KEY], scope[REQUEST_KEY]
        connection.sid = sid
        self._sessions[sid] = connection
        fields = auth if isinstance(auth, dict) else {}
        token, resume = fields.get("token"), fields.get("resume")
        hello = Hello(
            request.id,
            token if isinstance(token, str) else request.token,
            resume if isinstance(resume, str) else None,
        )
        if not await self.registry.admit(connection, hello):
            await self._server.disconnect(sid)

    def _on_disconnect(self, sid: str, reason: object = None) -> None:
        connection = self._sessions.get(sid)
        if connection is not None:
            connection.drop(f"disconnected: {reason}")

    def _on_dropped(self, connection: Connection) -> None:
        if connection.peer is not None:
            self.registry.remove(connection.peer)

    async def _on_signal(self, sid: str, *arguments: object) -> dict[str, object]:
        peer = self._peer(sid)
        if peer is None:
            return {"delivered": False}
        return await self.registry.relay_signal(peer, arguments)

    async def _on_join(self, sid: str, *arguments: object) -> None:
        connection = self._sessions.get(sid)
        if connection is not None and connection.peer is not None:
            recipients = await self.registry.join(connection.peer, arguments)
            connection.charge_recipients(recipients)

    def _peer(self, sid: str) -> Peer | None:
        connection = self._sessions.get(sid)
        return connection.peer if connection is not None else None

    # -- the end -------------------------------------------------------------------------

    async def stop(self, timeout: float) -> None:
        """Disconnect every peer, and return when no task of this server is left.

        Args:
            timeout: Seconds for a clean close; connections still open after it are cut.
        """
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + timeout
        for connection in list(self._connections):
            if connection.sid is not None:
                await self._server.disconnect(connection.sid)
        self.registry.drop_all("the server is stopping")
        for connection in list(self._connections):
            connection.drop("the server is stopping")
        await self._wait_ended(deadline)
        for task in self._connections.values():
            if task is not None:
                task.cancel()
        await self._wait_ended(deadline + 1.0)
        await self._end_background_tasks()

    async def _wait_ended(self, deadline: float) -> None:
        tasks = {task for task in self._connections.values() if task is not None}
        if tasks:
            remaining = deadline - asyncio.get_running_loop().time()
            await asyncio.wait(tasks, timeout=max(0.0, remaining))

    async def _end_background_tasks(self) -> None:
        tasks = self._server.background_tasks
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _bearer_token(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
