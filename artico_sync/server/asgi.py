"""The signaling server as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from artico_sync.server.app import LoopBoundServer
from artico_sync.server.connection import Message, Receive, Send
from artico_sync.server.http import (
    SIGNALING,
    client_address,
    forwarded_host,
    last_part,
    text_page,
)
from artico_sync.server.socketio_server import UpgradeRequest

ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]
#: Seconds for a clean close of the connections when the ASGI server shuts down.
SHUTDOWN_SECONDS = 3.0
#: WebSocket close code (RFC 6455 7.4.1).
POLICY_VIOLATION = 1008


class SignalingASGI:
    """Serves signaling under `/socket.io/`, and passes everything else to another application.

    Args:
        server: The signaling server.
        other: The application for every other path; without one, a health page and a short text
            are served.
        behind_proxy: See `http.client_address`.
    """

    def __init__(
        self, server: LoopBoundServer, other: ASGIApplication | None, *, behind_proxy: bool
    ) -> None:
        self._server = server
        self._other = other
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection or lifespan; the ASGI entry point."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        part = last_part(_local_path(scope))
        if kind == "websocket" and (part == SIGNALING or (self._other is None and part == "")):
            await self._serve_websocket(scope, receive, send)
        elif self._other is not None and part != SIGNALING:
            await self._other(scope, receive, send)
        elif kind == "http":
            await self._serve_page(scope, part, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    # -- connections ----------------------------------------------------------------------------

    async def _serve_websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        headers: dict[str, str] = {}
        for name, value in scope.get("headers", ()):
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            headers[key] = f"{headers[key]}, {text}" if key in headers else text

        def header(name: str) -> str | None:
            if name == "host":
                return forwarded_host(headers.get, self._behind_proxy)
            return headers.get(name)

        client = scope.get("client")
        address = client_address(client[0] if client else None, headers.get, self._behind_proxy)
        query = bytes(scope.get("query_string", b"")).decode("latin-1")
        request = UpgradeRequest(address, query, header)
        if (await receive())["type"] != "websocket.connect":
            return
        refusal = self._server.refusal(request)
        if refusal is None:
            await self._server.serve(request, receive, send)
        else:
            await _refuse(scope, send, *refusal)

    async def _serve_page(self, scope: Message, part: str, send: Send) -> None:
        page = self._server.page(scope["method"], part)
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"content-length", str(len(page.body)).encode()),
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body})

    # -- lifespan ----------------------------------------------------------------------------------

    async def _lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._other is not None:
            await self._shared_lifespan(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._server.close(SHUTDOWN_SECONDS)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _shared_lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the lifespan to the other application, and close the server before it shuts down."""

        async def receive_and_close() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._server.close(SHUTDOWN_SECONDS)
            return message

        if self._other is not None:
            await self._other(scope, receive_and_close, send)


def _local_path(scope: Message) -> str:
    """Return the path relative to where this application is mounted."""
    path = str(scope.get("path", ""))
    root = str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        # Mounted at /socket.io itself, its root is the endpoint.
        return path[len(root) :] if last_part(root) != SIGNALING else path
    return path


async def _refuse(scope: Message, send: Send, status: int, reason: str) -> None:
    if "websocket.http.response" in scope.get("extensions", {}):
        page = text_page(status, reason + "\n")
        headers = [(b"content-type", page.content_type.encode())]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": page.body})
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
