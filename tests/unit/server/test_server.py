"""`ArticoServer`: start, stop, restart, ports, pages, arguments."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from artico_sync import ArticoServer, ForkError
from artico_sync._bridge.portal import acquire_portal
from tests.unit.server.raw_peer import RawPeer, eventually, two_peers


def get(url: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_serves_between_start_and_stop() -> None:
    server = ArticoServer(port=0)
    assert server.start() is server
    url = server.url
    assert get(f"{url}/health")[0] == 200
    server.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{url}/health", timeout=5)


def test_starting_and_stopping_twice_has_no_effect() -> None:
    server = ArticoServer(port=0)
    server.stop()
    server.start()
    url = server.url
    assert server.start().url == url
    server.stop()
    server.stop()


@pytest.mark.slow
def test_restarts_on_the_same_port_while_old_connections_linger() -> None:
    with ArticoServer(port=0) as first:
        port = int(first.url.rpartition(":")[2])

        async def visit() -> None:
            async with RawPeer(first.url, "alice") as alice:
                await alice.enter()
                await asyncio.to_thread(first.stop)
                await alice.gone()

        asyncio.run(visit())
        again = ArticoServer(port=port)
        with again:
            assert get(f"{again.url}/health")[0] == 200
        with again:
            assert get(f"{again.url}/health")[0] == 200


def test_a_taken_port_is_an_os_error_that_says_what_to_do() -> None:
    with ArticoServer(port=0) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(OSError, match=f"port {port} is in use.*port=0"):
            ArticoServer(port=port).start()
        assert get(f"{server.url}/health")[0] == 200


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_host_of_another_machine_is_an_os_error(host: str) -> None:
    with pytest.raises(OSError, match=host):
        ArticoServer(host, 0).start()


def test_url_before_start() -> None:
    assert ArticoServer().url == "http://127.0.0.1:9000"
    assert ArticoServer("0.0.0.0", 80).url == "http://127.0.0.1:80"
    assert ArticoServer("::", 80).url == "http://[::1]:80"
    with pytest.raises(RuntimeError, match="start"):
        _ = ArticoServer(port=0).url


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_every_address_of_a_name_gets_the_same_port() -> None:
    with ArticoServer("", 0) as server:
        port = server.url.rpartition(":")[2]
        assert get(f"http://127.0.0.1:{port}/health")[0] == 200
        assert get(f"http://[::1]:{port}/health")[0] == 200


def test_servers_are_independent_of_each_other() -> None:
    async def visit(first: ArticoServer, second: ArticoServer) -> None:
        async with RawPeer(first.url, "alice") as one, RawPeer(second.url, "alice") as other:
            await one.enter()
            await other.enter()
            await one.signal("bob", {"type": "sdp"}, request=1)
            assert await one.acknowledged(1) == {"delivered": False}
            assert (first.peers, second.peers) == (("alice",), ("alice",))

    with ArticoServer(port=0) as first, ArticoServer(port=0) as second:
        asyncio.run(visit(first, second))


def test_peers_are_listed_in_the_order_of_arrival() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "zoe") as zoe:
            await zoe.enter()
            async with RawPeer(server.url, "adam") as adam:
                await adam.enter()
                assert list(server.peers) == ["zoe", "adam"]
            await eventually(lambda: list(server.peers) == ["zoe"], "adam has left")
        await eventually(lambda: not server.peers, "zoe has left")

    with ArticoServer(port=0) as server:
        assert server.peers == ()
        asyncio.run(visit(server))
    assert server.peers == ()


@pytest.mark.slow
def test_stop_disconnects_the_peers_promptly() -> None:
    async def visit(server: ArticoServer) -> float:
        async with two_peers(server) as (alice, bob):
            # A silent connection must not delay the stop either.
            async with RawPeer(server.url, "mute"):
                begun = time.monotonic()
                stopping = asyncio.ensure_future(asyncio.to_thread(server.stop, 60))
                assert await alice.frame() == "41"
                assert await bob.frame() == "41"
                await alice.gone()
                await bob.gone()
                await stopping
                return time.monotonic() - begun

    server = ArticoServer(port=0).start()
    assert asyncio.run(visit(server)) < 30
    assert server.peers == ()


def test_stop_cuts_off_a_peer_that_does_not_answer() -> None:
    server = ArticoServer(port=0).start()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as dead:
        dead.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket&id=dead HTTP/1.1\r\n"
            b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert dead.recv(12) == b"HTTP/1.1 101"
        begun = time.monotonic()
        server.stop(timeout=0.2)
        assert time.monotonic() - begun < 15


def test_start_and_stop_from_many_threads() -> None:
    server = ArticoServer(port=0)
    failures: list[BaseException] = []

    def toggle() -> None:
        try:
            for _ in range(5):
                server.start()
                server.stop()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=toggle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    server.stop()


def test_refuses_to_block_the_loop_thread() -> None:
    portal = acquire_portal()
    server = ArticoServer(port=0)

    async def start() -> None:
        server.start()

    try:
        with pytest.raises(RuntimeError, match="loop thread"):
            portal.run(start)
    finally:
        portal.release()


def _use_in_child(server: ArticoServer, answers: multiprocessing.SimpleQueue[str]) -> None:
    try:
        server.stop()
    except ForkError as error:
        answers.put(str(error))
    else:
        answers.put("no error")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_started_server_refuses_in_a_forked_child() -> None:
    context = multiprocessing.get_context("fork")
    with ArticoServer(port=0) as server:
        answers = context.SimpleQueue()
        child = context.Process(target=_use_in_child, args=(server, answers))
        child.start()
        assert "child" in answers.get()
        child.join()
        child.close()
        answers.close()
        assert get(f"{server.url}/health")[0] == 200


def test_the_health_page_has_the_number_of_peers_but_no_ids() -> None:
    async def visit(server: ArticoServer) -> bytes:
        async with RawPeer(server.url, "secretive") as peer:
            await peer.enter()
            status, body = await asyncio.to_thread(get, f"{server.url}/health")
            assert status == 200
            return body

    with ArticoServer(port=0) as server:
        body = asyncio.run(visit(server))
    health = json.loads(body)
    assert health["status"] == "ok"
    assert health["peers"] == 1
    assert b"secretive" not in body


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 200),
        ("/", "HEAD", 200),
        ("/health", "GET", 200),
        ("/health", "POST", 405),
        ("/nothing", "GET", 404),
        ("/socket.io/", "GET", 400),
        ("/socket.io/?EIO=4&transport=polling&id=a", "GET", 400),
        ("/socket.io/?EIO=4&transport=polling&id=a", "POST", 405),
        ("/%ff%00/../..", "GET", 404),
    ],
)
def test_pages(path: str, method: str, status: int) -> None:
    with ArticoServer(port=0) as server:
        assert get(server.url + path, method)[0] == status


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"host": 5}, TypeError),
        ({"port": "9000"}, TypeError),
        ({"port": True}, TypeError),
        ({"port": -1}, ValueError),
        ({"port": 65536}, ValueError),
        ({"auth": "secret"}, TypeError),
        ({"ping_interval": 0}, ValueError),
        ({"ping_timeout": 2.5}, TypeError),
        ({"limits": {}}, TypeError),
        ({"allowed_origins": [5]}, TypeError),
        ({"allowed_origins": ["example.org"]}, ValueError),
        ({"ssl": "cert.pem"}, TypeError),
        ({"keyfile": "key.pem"}, ValueError),
        ({"certfile": "/no/such/file.pem"}, OSError),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        ArticoServer(**arguments)  # type: ignore[arg-type]


def test_a_coroutine_function_cannot_be_auth() -> None:
    async def auth(token: str | None) -> bool:
        return True

    with pytest.raises(TypeError, match="plain function"):
        ArticoServer(auth=auth)  # type: ignore[arg-type]
