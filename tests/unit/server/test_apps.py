"""The signaling server inside a user's ASGI or aiohttp application, on one port."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from artico_sync import ArticoServer
from artico_sync.server.asgi import ASGIApplication
from tests.unit.server.raw_peer import WAIT, RawPeer, eventually

Message = MutableMapping[str, Any]
Serve = Callable[[ASGIApplication], Any]


def free_socket() -> socket.socket:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def exchange(url: str, path: str = "/socket.io/") -> None:
    """Connect two peers, and send a signal from one to the other."""
    async with RawPeer(url, "alice", path=path) as alice, RawPeer(url, "bob", path=path) as bob:
        await alice.enter()
        await bob.enter()
        await alice.signal("bob", {"type": "sdp"}, request=1)
        assert await alice.acknowledged(1) == {"delivered": True}
        assert (await bob.event())[1][0]["source"] == "alice"


# -- aiohttp ----------------------------------------------------------------------------------


@asynccontextmanager
async def aiohttp_site(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application)
    await runner.setup()
    bound = free_socket()
    await web.SockSite(runner, bound).start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        await runner.cleanup()


async def page(request: web.Request) -> web.Response:
    return web.Response(text="the user's page")


@pytest.mark.parametrize(
    ("prefix", "path"), [("/socket.io/", "/socket.io/"), ("/artico", "/artico/socket.io/")]
)
def test_an_aiohttp_application_serves_pages_and_signaling(prefix: str, path: str) -> None:
    async def run() -> None:
        server = ArticoServer()
        application = web.Application()
        application.router.add_get("/", page)
        application.add_subapp(prefix, server.aiohttp_app())
        async with aiohttp_site(application) as url:
            assert await get(f"{url}/") == (200, "the user's page")
            await exchange(url, path)
            async with RawPeer(url, "alice", path=path) as alice:
                await alice.enter()
                assert list(server.peers) == ["alice"]
                status, body = await get(f"{url}{prefix.rstrip('/')}/health")
                assert (status, json.loads(body)["peers"]) == (200, 1)
                assert (await get(f"{url}{path}"))[0] in (200, 400)
                assert (await get(f"{url}{prefix.rstrip('/')}/no/such/page"))[0] == 404
        assert server.peers == ()

    asyncio.run(run())


@pytest.mark.slow
def test_an_aiohttp_application_that_ends_disconnects_its_peers() -> None:
    async def run() -> None:
        server = ArticoServer()
        application = web.Application()
        application.add_subapp("/socket.io/", server.aiohttp_app())
        async with aiohttp_site(application) as url:
            alice = await RawPeer(url, "alice").__aenter__()
            await alice.enter()
        assert await alice.frame() == "41"
        await alice.gone()
        await alice.__aexit__(None, None, None)

    asyncio.run(run())


def test_the_same_server_may_be_served_again_by_another_loop() -> None:
    server = ArticoServer()

    async def run() -> None:
        application = web.Application()
        application.add_subapp("/socket.io/", server.aiohttp_app())
        async with aiohttp_site(application) as url:
            await exchange(url)

    asyncio.run(run())
    asyncio.run(run())


@pytest.mark.logs_errors
def test_one_loop_at_a_time_serves() -> None:
    server = ArticoServer()

    async def visit_from_another_loop(url: str) -> None:
        application = web.Application()
        application.add_subapp("/socket.io/", server.aiohttp_app())
        async with aiohttp_site(application) as other:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="500"):
                async with RawPeer(other, "bob"):
                    pass

    async def run() -> None:
        application = web.Application()
        application.add_subapp("/socket.io/", server.aiohttp_app())
        async with aiohttp_site(application) as url, RawPeer(url, "alice") as alice:
            await alice.enter()
            await asyncio.to_thread(asyncio.run, visit_from_another_loop(url))

    asyncio.run(run())


# -- ASGI ---------------------------------------------------------------------------------------


@asynccontextmanager
async def uvicorn_site(application: ASGIApplication) -> AsyncIterator[str]:
    uvicorn = pytest.importorskip("uvicorn")
    bound = free_socket()
    config = uvicorn.Config(application, ws="wsproto", log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    # The signal handlers of the tests stay installed.
    server.capture_signals = _no_signals
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    await eventually(lambda: server.started, "uvicorn has started")
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        bound.close()


class _no_signals:
    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


@asynccontextmanager
async def hypercorn_site(application: ASGIApplication) -> AsyncIterator[str]:
    pytest.importorskip("hypercorn")
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    bound = free_socket()
    port = bound.getsockname()[1]
    bound.listen()
    config = Config()
    config.bind = [f"fd://{bound.fileno()}"]
    config.errorlog = None
    config.graceful_timeout = 2
    stop = asyncio.Event()
    served: Any = application
    serving = asyncio.ensure_future(serve(served, config, shutdown_trigger=stop.wait))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await serving
        bound.detach()


SITES = pytest.mark.parametrize("site", [uvicorn_site, hypercorn_site])


async def pages(scope: Message, receive: Any, send: Any) -> None:
    """A small application of the user, with a lifespan of its own."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


@SITES
def test_an_asgi_application_serves_pages_and_signaling(site: Serve) -> None:
    async def run() -> None:
        server = ArticoServer()
        async with site(server.asgi_app(pages)) as url:
            assert await get(f"{url}/index") == (200, "/index")
            assert (await get(f"{url}/socket.io/"))[0] == 400
            await exchange(url)
        assert server.peers == ()

    asyncio.run(run())


@SITES
def test_an_asgi_application_of_its_own(site: Serve) -> None:
    async def run() -> None:
        server = ArticoServer()
        async with site(server.asgi_app()) as url:
            await exchange(url)
            status, body = await get(f"{url}/health")
            assert (status, json.loads(body)["status"]) == (200, "ok")
            assert (await get(f"{url}/nothing"))[0] == 404

    asyncio.run(run())


def test_an_asgi_server_that_ends_disconnects_its_peers() -> None:
    async def run() -> None:
        server = ArticoServer()
        async with uvicorn_site(server.asgi_app()) as url:
            alice = await RawPeer(url, "alice").__aenter__()
            await alice.enter()
            leaving = asyncio.ensure_future(alice.gone())
        await asyncio.wait_for(leaving, WAIT)
        await alice.__aexit__(None, None, None)
        assert server.peers == ()

    asyncio.run(run())


@SITES
def test_a_page_of_another_origin_is_refused(site: Serve) -> None:
    async def run() -> None:
        server = ArticoServer(allowed_origins=["https://app.example"])
        async with site(server.asgi_app()) as url:
            good, evil = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
            async with RawPeer(url, "alice", headers=good) as alice:
                await alice.enter()
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                async with RawPeer(url, "mallory", headers=evil):
                    pass

    asyncio.run(run())


def test_mounted_under_a_path() -> None:
    """Frameworks pass the whole path, and the path of the mount in `root_path`."""
    server = ArticoServer()
    application = server.asgi_app()

    async def mounted(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope["root_path"] = "/artico"
        await application(scope, receive, send)

    async def run() -> None:
        async with uvicorn_site(mounted) as url:
            await exchange(url, "/artico/socket.io/")
            assert (await get(f"{url}/artico/health"))[0] == 200
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with RawPeer(url, "alice", path="/artico/elsewhere/"):
                    pass

    asyncio.run(run())


def test_a_websocket_of_the_users_own_goes_to_the_users_application() -> None:
    async def echo(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await pages(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "the user's"})
        await send({"type": "websocket.close"})

    async def run() -> None:
        server = ArticoServer()
        async with uvicorn_site(server.asgi_app(echo)) as url, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{url}/chat") as chat:
                assert await chat.receive_str() == "the user's"
            await exchange(url)

    asyncio.run(run())


def test_standalone_and_mounted_are_two_servers_of_one_configuration() -> None:
    async def run() -> None:
        server = ArticoServer(port=0)
        application = web.Application()
        application.add_subapp("/socket.io/", server.aiohttp_app())
        await asyncio.to_thread(server.start)
        try:
            async with aiohttp_site(application) as url:
                async with RawPeer(url, "alice") as alice, RawPeer(server.url, "bob") as bob:
                    await alice.enter()
                    await bob.enter()
                    assert sorted(server.peers) == ["alice", "bob"]
        finally:
            await asyncio.to_thread(server.stop)

    asyncio.run(run())
