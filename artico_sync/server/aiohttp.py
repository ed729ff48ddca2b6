"""The signaling server as an aiohttp application."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSMsgType, hdrs, web

from artico_sync.server.app import LoopBoundServer
from artico_sync.server.connection import CONTROL, DISCONNECTED, Message
from artico_sync.server.http import (
    ROOT,
    SIGNALING,
    Page,
    client_address,
    forwarded_host,
    last_part,
    text_page,
)
from artico_sync.server.limits import ServerLimits
from artico_sync.server.socketio_server import UpgradeRequest

logger = logging.getLogger(__name__)

#: Seconds a client has to answer the closing handshake of its WebSocket.
CLOSE_SECONDS = 1.0
#: Seconds for a clean close of the connections when the application shuts down.
SHUTDOWN_SECONDS = 3.0


def make_application(
    server: LoopBoundServer, limits: ServerLimits, *, behind_proxy: bool
) -> web.Application:
    """Return an application to run alone, or under `/socket.io/` or another prefix."""

    async def handle(request: web.Request) -> web.StreamResponse:
        part = last_part(request.path)
        wants_websocket = request.headers.get("Upgrade", "").lower() == "websocket"
        # The root of a sub-application is the endpoint, whatever its prefix.
        if wants_websocket and part in (SIGNALING, ROOT, last_part(_prefix(request))):
            return await _serve_websocket(server, limits, request, behind_proxy)
        if part == last_part(_prefix(request)):
            part = part if part == SIGNALING else ROOT
        return _response(server.page(request.method, part))

    async def shut_down(application: web.Application) -> None:
        await server.close(SHUTDOWN_SECONDS)

    application = web.Application(client_max_size=limits.max_message)
    application.router.add_route("*", "/{tail:.*}", handle)
    application.on_shutdown.append(shut_down)
    return application


def _prefix(request: web.Request) -> str:
    resource = request.match_info.route.resource
    canonical = resource.canonical if resource is not None else ""
    return canonical.removesuffix("/{tail}")


def _response(page: Page) -> web.Response:
    return web.Response(
        status=page.status, body=page.body, headers={"Content-Type": page.content_type}
    )


def _upgrade_request(request: web.Request, behind_proxy: bool) -> UpgradeRequest:
    def joined(name: str) -> str | None:
        # If a header occurs twice, the first may be the client's and the last the proxy's.
        return ", ".join(request.headers.getall(name, ())) or None

    def header(name: str) -> str | None:
        return forwarded_host(joined, behind_proxy) if name == "host" else joined(name)

    address = client_address(request.remote, joined, behind_proxy)
    return UpgradeRequest(address, request.rel_url.raw_query_string, header)


async def _serve_websocket(
    server: LoopBoundServer, limits: ServerLimits, request: web.Request, behind_proxy: bool
) -> web.StreamResponse:
    upgrade = _upgrade_request(request, behind_proxy)
    refusal = server.refusal(upgrade)
    if refusal is not None:
        status, reason = refusal
        return _response(text_page(status, reason + "\n"))
    # Compression would cost more than it saves, and allows decompression bombs. Pings are not left
    # to aiohttp, which answers them as fast as they come and lets no other task run.
    response = web.WebSocketResponse(
        max_msg_size=limits.max_message, timeout=CLOSE_SECONDS, compress=False, autoping=False
    )
    if hdrs.SEC_WEBSOCKET_PROTOCOL in request.headers:
        # None is supported, and aiohttp would log those offered: some clients put tokens there.
        headers = request.headers.copy()
        headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL)
        request = request.clone(headers=headers)
    try:
        await response.prepare(request)
    except ConnectionResetError:
        logger.debug("a client left before its WebSocket was accepted")
        # Sent to no client; a WebSocket that was not accepted cannot be returned.
        return web.Response()
    adapter = _ASGIAdapter(response)
    try:
        await server.serve(upgrade, adapter.receive, adapter.send)
    finally:
        try:
            await response.close()
        finally:
            _abort_unread(request.transport)
    return response


def _abort_unread(transport: asyncio.Transport | None) -> None:
    # The close has timed out; data that the client does not read would keep the connection open.
    if transport is not None and transport.get_write_buffer_size() > 0:
        transport.abort()


class _ASGIAdapter:
    """Translates between ASGI's messages and aiohttp's WebSocket."""

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
