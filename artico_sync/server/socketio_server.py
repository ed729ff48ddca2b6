"""Artico's protocol on python-socketio, between WebSockets and the hub; the loop that serves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs, urlencode

import engineio
import socketio
import socketio.packet

from artico_sync._protocol.strict_socketio import QuietLogger, strict_packet_class
from artico_sync.server.connection import Link, Message, Receive, Send
from artico_sync.server.limits import ServerLimits
from artico_sync.server.limits.address_limits import Address, AddressLimits
from artico_sync.server.limits.log_throttle import LogThrottle
from artico_sync.server.limits.send_budget import TotalSendBudget
from artico_sync.server.origins import OriginPolicy
from artico_sync.server.registry import Hello, Peer, Registry

logger = logging.getLogger("artico_sync.server")

LINK = "artico_sync.link"
_PACKET_TYPES = frozenset(
    {socketio.packet.CONNECT, socketio.packet.DISCONNECT, socketio.packet.EVENT}
)
_EVENTS = frozenset({"signal", "join"})
# The Engine.IO driver looks for these two; it has no business with any other header.
_UPGRADE_HEADERS = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


class _EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """Knows the tasks it has started: a pending ping sleeps on after its connection has ended.

    Whatever Socket.IO sends goes through `send_packet()`: answers, errors and acknowledgements as
    well as events.
    """

    def __init__(self, **options: Any) -> None:
        self.started_tasks: set[asyncio.Task[Any]] = set()
        #: Asked before a packet joins the queue of a session.
        self.may_queue: Callable[[str, str], bool] = lambda session, packet: True
        super().__init__(**options)

    async def send_packet(self, sid: str, pkt: Any) -> None:
        if self.may_queue(sid, pkt.data):
            await super().send_packet(sid, pkt)

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().start_background_task(target, *args, **kwargs)
        self.started_tasks.add(task)
        task.add_done_callback(self.started_tasks.discard)
        return task


class _SocketServer(socketio.AsyncServer):  # type: ignore[misc]
    def _engineio_server_class(self) -> type[_EngineServer]:
        return _EngineServer


class Request:
    """What is asked of a WebSocket request before it is accepted.

    Args:
        address: The client's address.
        query: The raw query string.
        header: Looks a header up, by its lower-case name.
    """

    def __init__(self, address: str, query: str, header: Callable[[str], str | None]) -> None:
        self.address = address
        self.origin = header("origin")
        self.host = header("host")
        self.token = _bearer(header("authorization"))
        try:
            parameters = parse_qs(query, keep_blank_values=True, max_num_fields=100)
        except ValueError:
            # Too many fields: it is refused like any other query that is not Socket.IO's.
            parameters = {}
        self.id = parameters.get("id", [None])[0]
        self.is_engineio_4 = parameters.get("EIO") == ["4"]
        self.is_websocket = parameters.get("transport") == ["websocket"]


class SocketIOServer:
    """Serves a hub's peers over WebSockets, whichever web server has accepted them.

    Args:
        hub: The peers.
        origins: Which pages may come in.
        ping_interval: Seconds between two pings; whole seconds, as Engine.IO announces them.
        ping_timeout: Seconds a peer has for its answer.
    """

    def __init__(
        self,
        hub: Registry,
        origins: OriginPolicy,
        limits: ServerLimits,
        *,
        ping_interval: int,
        ping_timeout: int,
    ) -> None:
        self.hub = hub
        self._origins = origins
        self._limits = limits
        self._addresses = AddressLimits(limits)
        self._backlog = TotalSendBudget(limits.max_unsent_total)
        self._links: dict[Link, asyncio.Task[Any] | None] = {}
        self._sessions: dict[str, Link] = {}
        self._stopping = False
        # Not longer than a ping takes to fail: what the Socket.IO server has given up for lack of
        # an answer, it could no longer let in.
        self._silence = min(limits.handshake_timeout, ping_interval + ping_timeout)
        # Packets are parsed where it is not known whose they are.
        self._complaints = LogThrottle()
        quiet = QuietLogger(logger)
        self._server: Any = _SocketServer(
            async_mode="asgi",
            serializer=strict_packet_class(_PACKET_TYPES, _EVENTS, self._on_malformed),
            # In the order of arrival: a handler ends before the next message is read.
            async_handlers=False,
            # The hub's first words come after the acceptance.
            always_connect=True,
            cors_allowed_origins=[],
            transports=["websocket"],
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=limits.max_message,
            logger=quiet,
            engineio_logger=quiet,
        )
        self._server.eio.may_queue = self._may_queue
        self._server.on("connect", self._on_connect)
        self._server.on("disconnect", self._on_disconnect)
        self._server.on("signal", self._on_signal)
        self._server.on("join", self._on_join)

    def _on_malformed(self, reason: str) -> None:
        self._complaints.say("dropped a malformed packet: %s", reason)

    # -- before a WebSocket is accepted --------------------------------------------------

    def refusal(self, request: Request) -> tuple[int, str] | None:
        """The HTTP status and reason to refuse a request with, or None to accept it."""
        if not request.is_websocket or not request.is_engineio_4:
            return 400, "Socket.IO over WebSocket only (EIO=4, transport=websocket)"
        address = self._addresses[request.address]
        log_misbehaviour = address.complaints.say
        if not self._origins.allows(request.origin, request.host):
            log_misbehaviour("refused a page from %.200r: not an allowed origin", request.origin)
            return 403, "this origin is not allowed"
        if self._stopping:
            return 503, "the server is stopping"
        if not address.connecting.try_take():
            log_misbehaviour("refused %r: too many new connections", request.address)
            return 429, "too many new connections from this address"
        if address.connections >= self._limits.max_peers_per_address:
            log_misbehaviour("refused %r: too many connections", request.address)
            return 429, "too many connections from this address"
        # Connections that have not presented themselves yet count as well.
        if len(self._links) >= 2 * self._limits.max_peers:
            return 503, "the server is full"
        return None

    # -- one WebSocket -------------------------------------------------------------------

    async def serve(self, request: Request, receive: Receive, send: Send) -> None:
        """Serve one WebSocket until it ends; `refusal()` must have let it pass."""
        with self._addresses.connected(request.address) as address:
            await self._serve(request, address, receive, send)

    async def _serve(
        self, request: Request, address: Address, receive: Receive, send: Send
    ) -> None:
        link = Link(
            receive, send, address, self._limits, self._backlog, self._emit, self._on_dropped
        )
        self._links[link] = asyncio.current_task()
        loop = asyncio.get_running_loop()
        late = loop.call_later(self._silence, self._drop_silent, link)
        try:
            await self._server.handle_request(self._scope(request, link), link.receive, link.send)
        finally:
            late.cancel()
            link.drop("ended")
            if link.sid is not None:
                self._sessions.pop(link.sid, None)
            del self._links[link]

    def _scope(self, request: Request, link: Link) -> Message:
        query = {"EIO": "4", "transport": "websocket"}
        return {
            "type": "websocket",
            "path": "/socket.io/",
            "query_string": urlencode(query).encode(),
            "headers": _UPGRADE_HEADERS,
            LINK: link,
            "artico_sync.request": request,
        }

    def _drop_silent(self, link: Link) -> None:
        # Time for `auth` comes on top, and is bounded there.
        if link.sid is None:
            link.drop("it did not present itself in time")

    async def _emit(self, sid: str, packet: str) -> None:
        # The Socket.IO server's own emit() would encode it again for each peer it goes to.
        session = self._server.manager.eio_sid_from_sid(sid, "/")
        if session is not None:
            await self._server.eio.send(session, packet)

    def _may_queue(self, session: str, packet: str) -> bool:
        environ = self._server.environ.get(session)
        if environ is None:
            return True
        link: Link = environ["asgi.scope"][LINK]
        return link.queue(packet)

    # -- events of the Socket.IO server --------------------------------------------------

    async def _on_connect(self, sid: str, environ: Any, auth: object = None) -> None:
        scope = environ["asgi.scope"]
        link, request = scope[LINK], scope["artico_sync.request"]
        link.sid = sid
        self._sessions[sid] = link
        fields = auth if isinstance(auth, dict) else {}
        token, resume = fields.get("token"), fields.get("resume")
        introduction = Hello(
            request.id,
            token if isinstance(token, str) else request.token,
            resume if isinstance(resume, str) else None,
        )
        if not await self.hub.admit(link, introduction):
            await self._server.disconnect(sid)

    def _on_disconnect(self, sid: str, reason: object = None) -> None:
        link = self._sessions.get(sid)
        if link is not None:
            link.drop(f"disconnected: {reason}")

    def _on_dropped(self, link: Link) -> None:
        if link.peer is not None:
            self.hub.remove(link.peer)

    async def _on_signal(self, sid: str, *arguments: object) -> dict[str, object]:
        peer = self._peer(sid)
        if peer is None:
            return {"delivered": False}
        return await self.hub.signal(peer, arguments)

    async def _on_join(self, sid: str, *arguments: object) -> None:
        link = self._sessions.get(sid)
        if link is not None and link.peer is not None:
            link.charge(await self.hub.join(link.peer, arguments))

    def _peer(self, sid: str) -> Peer | None:
        link = self._sessions.get(sid)
        return link.peer if link is not None else None

    # -- the end -------------------------------------------------------------------------

    async def stop(self, timeout: float) -> None:
        """Disconnect every peer, and return when nothing of this server is left running.

        Args:
            timeout: Seconds for the farewell; what has not ended by then is cut off.
        """
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + timeout
        for link in list(self._links):
            if link.sid is not None:
                await self._server.disconnect(link.sid)
        self.hub.drop_all("the server is stopping")
        for link in list(self._links):
            link.drop("the server is stopping")
        await self._ended(deadline)
        for task in self._links.values():
            if task is not None:
                task.cancel()
        await self._ended(deadline + 1.0)
        await self._end_background_tasks()

    async def _ended(self, deadline: float) -> None:
        tasks = {task for task in self._links.values() if task is not None}
        if tasks:
            remaining = deadline - asyncio.get_running_loop().time()
            await asyncio.wait(tasks, timeout=max(0.0, remaining))

    async def _end_background_tasks(self) -> None:
        tasks = set(self._server.eio.started_tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _bearer(authorization: str | None) -> str | None:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
