"""The signalling server as an ASGI application; the loop that serves."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from artico_sync.server.app import LoopBoundServer
from artico_sync.server.connection import Message, Receive, Send
from artico_sync.server.forwarded import client_address, forwarded_host
from artico_sync.server.http import SIGNALING, last_part, text
from artico_sync.server.socketio_server import Request

logger = logging.getLogger("artico_sync.server")

ASGIApplication = Callable[[Message, Receive, Send], Awaitable[None]]
#: Seconds for the farewell when the server that serves us shuts down.
SHUTDOWN_TIMEOUT = 3.0
POLICY_VIOLATION = 1008


class SignalingASGI:
    """Signalling under `/socket.io/`, and everything else to another application.

    Args:
        site: The signalling server.
        other: The application for every other path; without one there are a health page and a
            short text.
        behind_proxy: See `proxies`.
    """

    def __init__(
        self, site: LoopBoundServer, other: ASGIApplication | None, *, behind_proxy: bool
    ) -> None:
        self._site = site
        self._other = other
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        part = last_part(_local_path(scope))
        if kind == "websocket" and (part == SIGNALING or (self._other is None and part == "")):
            await self._serve_socket(scope, receive, send)
        elif self._other is not None and part != SIGNALING:
            await self._other(scope, receive, send)
        elif kind == "http":
            await self._answer(scope, part, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    # -- signalling -----------------------------------------------------------------------------

    async def _serve_socket(self, scope: Message, receive: Receive, send: Send) -> None:
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
        request = Request(address, query, header)
        if (await receive())["type"] != "websocket.connect":
            return
        refused = self._site.refusal(request)
        if refused is None:
            await self._site.serve(request, receive, send)
        else:
            await _refuse(scope, send, *refused)

    async def _answer(self, scope: Message, part: str, send: Send) -> None:
        page = self._site.page(scope["method"], part)
        headers = [
            (b"content-type", page.content_type.encode()),
            (b"content-length", str(len(page.body)).encode()),
        ]
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else page.body
        await send({"type": "http.response.body", "body": body})

    # -- life --------------------------------------------------------------------------------------

    async def _lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._other is not None:
            await self._shared_lifespan(scope, receive, send)
            return
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._site.close(SHUTDOWN_TIMEOUT)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _shared_lifespan(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let the other application have its lifespan, and end ours before its own end."""

        async def watch() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self._site.close(SHUTDOWN_TIMEOUT)
            return message

        if self._other is not None:
            await self._other(scope, watch, send)


def _local_path(scope: Message) -> str:
    """The path below the place this application is mounted at."""
    path = str(scope.get("path", ""))
    root = str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        # Mounted at /socket.io itself: its own root is the endpoint.
        return path[len(root) :] if last_part(root) != SIGNALING else path
    return path


async def _refuse(scope: Message, send: Send, status: int, reason: str) -> None:
    if "websocket.http.response" in scope.get("extensions", {}):
        page = text(status, reason + "\n")
        headers = [(b"content-type", page.content_type.encode())]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": page.body})
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
