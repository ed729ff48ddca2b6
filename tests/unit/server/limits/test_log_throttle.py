"""Log lines caused by clients: few, however many requests, and without secrets."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from artico_sync import ArticoServer
from artico_sync.cli.serve import _make_auth
from artico_sync.server.server import ServerLimits
from tests.unit.server.raw_peer import RawPeer

TIMES = 50
# Maximum number of warnings in a test.
FEW = 5


async def request_refused_sockets(server: ArticoServer, origin: str | None = None) -> None:
    """Request a WebSocket that is refused, many times."""
    url = server.url + "/socket.io/?EIO=4&transport=websocket&id=x"
    async with aiohttp.ClientSession() as session:
        for _ in range(TIMES):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(url, origin=origin)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of this library; asyncio logs callbacks that are slow."""
    return [
        line.getMessage()
        for line in caplog.records
        if line.levelno >= logging.WARNING and line.name.startswith("artico_sync")
    ]


def test_a_query_of_many_fields_is_refused(
    server: ArticoServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
            async with RawPeer(server.url, "x", path="/socket.io/?" + "&".join(["a=1"] * 200)):
                pytest.fail("it was accepted")

    asyncio.run(ask())
    assert warnings(caplog) == []


def test_pages_that_are_not_allowed(server: ArticoServer, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(request_refused_sockets(server, "https://elsewhere.example"))
    assert 1 <= len(warnings(caplog)) <= FEW


def test_too_many_new_connections(caplog: pytest.LogCaptureFixture) -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice"):
            await request_refused_sockets(server)

    limits = ServerLimits(connections_per_second=0.001, connections_burst=1)
    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(visit(server))
    assert 1 <= len(warnings(caplog)) <= FEW


@pytest.mark.parametrize(
    "send",
    [
        lambda peer: peer.send_frame("nonsense"),
        lambda peer: peer.send_frame("42nonsense"),
        lambda peer: peer.emit("signal", 5),
        lambda peer: peer.emit("join", 5),
    ],
    ids=["frame", "packet", "signal", "join"],
)
def test_malformed_messages(
    server: ArticoServer,
    caplog: pytest.LogCaptureFixture,
    send: Callable[[RawPeer], Awaitable[None]],
) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "mallory") as mallory:
            await mallory.enter()
            for _ in range(TIMES):
                await send(mallory)
            await mallory.signal("nobody", {}, request=1)
            await mallory.acknowledged(1)

    asyncio.run(visit())
    assert 1 <= len(warnings(caplog)) <= FEW


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(bytes(1_000_000))])
def test_bodies_are_not_inflated(
    server: ArticoServer, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    async def post() -> None:
        async with aiohttp.ClientSession() as session:
            headers = {"Content-Encoding": "gzip"}
            async with session.post(server.url, data=body, headers=headers) as answer:
                assert answer.status == 405
            async with session.get(server.url) as answer:
                assert answer.status == 200

    asyncio.run(post())
    assert warnings(caplog) == []


@pytest.mark.parametrize("token", ["\ud800", "wrong", "tökén\udfff"])
def test_a_token_with_unpaired_surrogates_is_rejected(
    token: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", auth={"token": token}) as alice:
            assert await alice.refused() == "unauthorized"
        async with RawPeer(server.url, "alice", auth={"token": "tökén"}) as alice:
            await alice.enter()

    with ArticoServer(port=0, auth=_make_auth("tökén")) as server:
        asyncio.run(visit(server))
    assert warnings(caplog) == []


def test_an_expected_token_with_unpaired_surrogates_admits_no_client() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice", auth={"token": "token"}) as alice:
            assert await alice.refused() == "unauthorized"

    # Python decodes bytes of the command line that are not UTF-8 to such characters.
    with ArticoServer(port=0, auth=_make_auth("token\udcff")) as server:
        asyncio.run(visit(server))


def test_tokens_among_the_subprotocols_are_not_logged(
    server: ArticoServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def visit() -> None:
        headers = {"Sec-WebSocket-Protocol": "bearer, hunter2"}
        async with RawPeer(server.url, "alice", headers=headers) as alice:
            await alice.enter()

    caplog.set_level(logging.DEBUG)
    asyncio.run(visit())
    # `caplog` does not contain the log of this test's client.
    assert "hunter2" not in caplog.text
