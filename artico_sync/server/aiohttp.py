"""The signalling server as an aiohttp application; the loop that serves."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSMsgType, hdrs, web

from artico_sync.server.app import LoopBoundServer
from artico_sync.server.connection import CONTROL, DISCONNECTED, Message
from artico_sync.server.forwarded import client_address, forwarded_host
from artico_sync.server.http import ROOT, SIGNALING, last_part, text
from artico_sync.server.limits import ServerLimits
from artico_sync.server.socketio_server import Request

logger = logging.getLogger("artico_sync.server")

#: Seconds a client has to answer the closing of its WebSocket.
CLOSE_TIMEOUT = 1.0
#: Seconds for the farewell when the application that serves us shuts down.
SHUTDOWN_TIMEOUT = 3.0


def make_application(
    site: LoopBoundServer, limits: ServerLimits, *, behind_proxy: bool
) -> web.Application:
    """An application to run alone, or under `/socket.io/` or another prefix of another one."""

    async def handle(request: web.Request) -> web.StreamResponse:
        part = last_part(request.path)
        wants_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        # As a sub-application it has a path of its own; its root is then the endpoint.
        if wants_socket and part in (SIGNALING, ROOT, last_part(_prefix(request))):
            return await _serve_socket(site, limits, request, behind_proxy)
        if part == last_part(_prefix(request)):
            part = part if part == SIGNALING else ROOT
        page = site.page(request.method, part)
        return web.Response(
            status=page.status, body=page.body, headers={"Content-Type": page.content_type}
        )

    async def shut_down(application: web.Application) -> None:
        await site.close(SHUTDOWN_TIMEOUT)

    application = web.Application(client_max_size=limits.max_message)
    application.router.add_route("*", "/{tail:.*}", handle)
    application.on_shutdown.append(shut_down)
    return application


def _prefix(request: web.Request) -> str:
    resource = request.match_info.route.resource
    canonical = resource.canonical if resource is not None else ""
    return canonical.removesuffix("/{tail}")


async def _serve_socket(
    site: LoopBoundServer, limits: ServerLimits, request: web.Request, behind_proxy: bool
) -> web.StreamResponse:
    def line(name: str) -> str | None:
        # Where a header comes twice the first may be the client's, and the last the proxy's.
        return ", ".join(request.headers.getall(name, ())) or None

    def header(name: str) -> str | None:
        return forwarded_host(line, behind_proxy) if name == "host" else line(name)

    address = client_address(request.remote, line, behind_proxy)
    asked = Request(address, request.rel_url.raw_query_string, header)
    refused = site.refusal(asked)
    if refused is not None:
        status, reason = refused
        page = text(status, reason + "\n")
        return web.Response(
            status=status, body=page.body, headers={"Content-Type": page.content_type}
        )
    # Compression would cost more than it saves, and opens the door to bombs. Pings answered inside
    # aiohttp are answered as fast as they come, without a turn for anybody else.
    response = web.WebSocketResponse(
        max_msg_size=limits.max_message, timeout=CLOSE_TIMEOUT, compress=False, autoping=False
    )
    if hdrs.SEC_WEBSOCKET_PROTOCOL in request.headers:
        # We have none to choose from, and aiohttp would log the client's: some put tokens there.
        headers = request.headers.copy()
        headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL)
        request = request.clone(headers=headers)
    try:
        await response.prepare(request)
    except ConnectionResetError:
        logger.debug("a client left before its WebSocket was accepted")
        # Goes nowhere; a WebSocket that was not accepted cannot be handed back.
        return web.Response()
    socket = _Socket(response)
    try:
        await site.serve(asked, socket.receive, socket.send)
    finally:
        try:
            await response.close()
        finally:
            _abort_unread(request.transport)
    return response


def _abort_unread(transport: asyncio.Transport | None) -> None:
    # Its time is up; what the other end does not read would keep the connection open for ever.
    if transport is not None and transport.get_write_buffer_size() > 0:
        transport.abort()


class _Socket:
    """Speaks ASGI's messages over aiohttp's WebSocket."""

    def __init__(self, response: web.WebSocketResponse) -> None:
        self._response = response

    async def receive(self) -> Message:
        message = await self._response.receive()
        if message.type is WSMsgType.TEXT:
            return {"type": "websocket.receive", "text": message.data}
        if message.type is WSMsgType.BINARY:
            return {"type": "websocket.receive", "bytes": message.data}
        if message.type is WSMsgType.PING:
            await self._response.pong(message.data)
            return CONTROL
        if message.type is WSMsgType.PONG:
            return CONTROL
        return DISCONNECTED

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.send":
            await self._response.send_str(message["text"])
        elif message["type"] == "websocket.close":
            await self._response.close()
