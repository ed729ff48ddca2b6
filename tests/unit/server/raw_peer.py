"""A peer that speaks Socket.IO without a library, to send what no client would send."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import aiohttp

from artico_sync import ArticoServer

# Limit of each single wait of a test, in seconds.
WAIT = 15.0


class RawPeer:
    """One WebSocket to a signaling server.

    Args:
        url: URL of the server.
        id: Peer id in the query; None omits it.
        auth: The Socket.IO auth payload.
    """

    def __init__(
        self,
        url: str,
        id: str | None,
        *,
        auth: object = None,
        headers: Mapping[str, str] | None = None,
        path: str = "/socket.io/",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url + path
        self._query = {"EIO": "4", "transport": "websocket"}
        if id is not None:
            self._query["id"] = id
        self._auth = auth
        self._headers = headers or {}
        self._tls = tls
        self.open: dict[str, Any] = {}
        self.id = id

    async def __aenter__(self) -> RawPeer:
        self._session = aiohttp.ClientSession()
        try:
            self.socket = await self._session.ws_connect(
                self._url,
                params=self._query,
                headers=self._headers,
                ssl=self._tls or True,
                timeout=aiohttp.ClientWSTimeout(ws_close=WAIT),
            )
            handshake = await self.frame()
            assert handshake.startswith("0"), handshake
            self.handshake = json.loads(handshake[1:])
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        bound = self.socket.get_extra_info("socket")
        await self.socket.close()
        await self._session.close()
        if bound is not None:
            # TLS takes some time to close.
            await eventually(lambda: bound.fileno() == -1, "the socket is closed")

    async def enter(self) -> RawPeer:
        """Connect on the Socket.IO level, and receive the server's `open` event."""
        await self.send_frame("40" + (json.dumps(self._auth) if self._auth is not None else ""))
        answer = await self.frame()
        assert answer.startswith("40"), answer
        name, arguments = await self.event()
        assert name == "open", (name, arguments)
        self.open = arguments[1]
        assert arguments[0] == self.id
        return self

    async def refused(self) -> str:
        """Connect on the Socket.IO level, and return the code of the server's `error` event."""
        await self.send_frame("40" + (json.dumps(self._auth) if self._auth is not None else ""))
        assert (await self.frame()).startswith("40")
        name, arguments = await self.event()
        assert name == "error", (name, arguments)
        await self.gone()
        return str(arguments[0])

    async def send_frame(self, text: str) -> None:
        await self.socket.send_str(text)

    async def emit(self, event: str, *arguments: object, request: int | None = None) -> None:
        number = "" if request is None else str(request)
        await self.send_frame(f"42{number}{json.dumps([event, *arguments])}")

    async def signal(self, target: str, signal: object, request: int | None = None) -> None:
        message = {"target": target, "session": "call:0123456789", "signal": signal}
        await self.emit("signal", message, request=request)

    async def frame(self) -> str:
        """Return the next frame that is not a ping; pings are answered."""
        while True:
            message = await asyncio.wait_for(self.socket.receive(), WAIT)
            if message.type is not aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"{message.type!r} {message.data!r}")
            text: str = message.data
            if text != "2":
                return text
            await self.send_frame("3")

    async def event(self) -> tuple[str, list[Any]]:
        """Return the next event: its name and arguments."""
        text = await self.frame()
        assert text.startswith("42"), text
        name, *arguments = json.loads(text[2:])
        return name, arguments

    async def acknowledged(self, request: int) -> object:
        """Return the answer to a request, which must be the next frame."""
        text = await self.frame()
        assert text.startswith(f"43{request}"), text
        return json.loads(text[len(f"43{request}") :])[0]

    async def gone(self) -> None:
        """Wait until the server has ended the connection."""
        try:
            while True:
                await self.frame()
        except ConnectionError:
            return


@asynccontextmanager
async def two_peers(server: ArticoServer) -> AsyncIterator[tuple[RawPeer, RawPeer]]:
    """Connect alice and bob, and yield them when both are admitted."""
    async with RawPeer(server.url, "alice") as alice, RawPeer(server.url, "bob") as bob:
        await alice.enter()
        await bob.enter()
        yield alice, bob


async def eventually(condition: Any, what: str) -> None:
    """Wait until `condition()` is true; `what` describes it."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.005)
    assert condition(), what
