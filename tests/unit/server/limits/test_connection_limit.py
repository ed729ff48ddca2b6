"""Connections without a request, and too many connections of one address."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from artico_sync import Artico, ArticoServer
from artico_sync.server.server import ServerLimits
from tests.certificates import make_certificate
from tests.conftest import RTC_CONFIG
from tests.unit.server.raw_peer import WAIT, RawPeer

HALF_A_REQUEST = b"GET /health HTTP/1.1\r\nHost: loc"


def connect(server: ArticoServer) -> socket.socket:
    host, port = server.url.partition("//")[2].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=WAIT)


def seconds_until_closed(connection: socket.socket) -> float:
    started = time.monotonic()
    try:
        while connection.recv(4096):
            continue
    except ConnectionResetError:
        # Closed before the server has read everything.
        pass
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("first_bytes", [b"", HALF_A_REQUEST], ids=["silent", "half a request"])
def test_a_connection_without_a_request_is_closed(first_bytes: bytes) -> None:
    with ArticoServer(port=0, limits=ServerLimits(handshake_timeout=1.0)) as server:
        started = time.monotonic()
        with connect(server) as connection:
            connection.sendall(first_bytes)
            assert seconds_until_closed(connection) < WAIT
        assert time.monotonic() - started > 0.5


def test_a_connection_that_is_slow_with_its_request_is_closed() -> None:
    with ArticoServer(port=0, limits=ServerLimits(handshake_timeout=0.3)) as server:
        with connect(server) as connection, pytest.raises(ConnectionError):
            started = time.monotonic()
            connection.sendall(HALF_A_REQUEST)
            while time.monotonic() - started < WAIT:
                connection.sendall(b"l")
                time.sleep(0.02)


@pytest.mark.logs_errors  # in development mode asyncio logs each failed handshake
def test_a_connection_without_a_tls_handshake_is_closed(tmp_path: Path) -> None:
    certfile, keyfile = (str(path) for path in make_certificate(tmp_path))
    limits = ServerLimits(handshake_timeout=0.3)
    with ArticoServer(port=0, limits=limits, certfile=certfile, keyfile=keyfile) as server:
        with connect(server) as connection:
            assert seconds_until_closed(connection) < WAIT


@pytest.mark.slow
def test_a_peer_outlives_the_time_for_its_request() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            await asyncio.sleep(3.0)
            await alice.signal("nobody", {}, request=1)
            await alice.acknowledged(1)

    with ArticoServer(port=0, limits=ServerLimits(handshake_timeout=2.0)) as server:
        asyncio.run(visit(server))


def test_connections_are_limited_per_address(caplog: pytest.LogCaptureFixture) -> None:
    limits = ServerLimits(max_peers_per_address=40, handshake_timeout=60.0)
    with ArticoServer(port=0, limits=limits) as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(40)]
        # They do not count as peers.
        with Artico(server.url, id="alice", rtc_config=dict(RTC_CONFIG)):
            assert server.peers == ("alice",)
            for _ in range(60):
                idle.append(stack.enter_context(connect(server)))
            for connection in idle[79:]:
                assert seconds_until_closed(connection) < WAIT
            for connection in idle[:10]:
                connection.setblocking(False)
                with pytest.raises(BlockingIOError):
                    connection.recv(1)
        lines = [line for line in caplog.messages if "too many open connections" in line]
        assert 0 < len(lines) < 10
        # Connections that have ended no longer count.
        for connection in idle:
            connection.close()
        with Artico(server.url, id="bob", rtc_config=dict(RTC_CONFIG)):
            assert server.peers == ("bob",)


def test_the_connections_of_a_proxy_may_be_idle() -> None:
    limits = ServerLimits(handshake_timeout=0.1, max_peers_per_address=1)
    with ArticoServer(port=0, behind_proxy=True, limits=limits) as server, ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(40)]
        time.sleep(0.3)
        for connection in idle:
            connection.sendall(HALF_A_REQUEST + b"alhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
