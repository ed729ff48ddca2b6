"""Hostile HTTP and handshakes against the signaling server; see also `test_server_hostile`."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artico_sync import Artico, ArticoServer
from tests.conftest import RTC_CONFIG
from tests.faults.memory import MIB, resident_memory
from tests.fuzz.profile import fuzzed
from tests.polling import wait_until

pytestmark = pytest.mark.slow

METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"HEAD", b"PRI", b"", b"G\x00T"])
QUERIES = st.sampled_from(
    [
        b"?id=x&EIO=4&transport=websocket",
        b"?id=x&EIO=4&transport=polling",
        b"?EIO=4&transport=websocket",
        b"?id=%00%ff&EIO=4&transport=websocket",
        b"?id=" + b"x" * 5000 + b"&EIO=4&transport=websocket",
        b"?id=x&id=y&EIO=99&transport=websocket",
        b"?" + b"a&" * 3000,
        b"?sid=nobody&EIO=4&transport=websocket",
        b"",
    ]
)
PATHS = st.sampled_from(
    [b"/socket.io/", b"/socket.io", b"/", b"//", b"/../../etc/passwd", b"/%2e%2e/", b"*", b"\xff"]
)
HEADERS = st.lists(
    st.sampled_from(
        [
            b"Host: localhost",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Connection: keep-alive, Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Version: 99",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Key: short",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: chunked, chunked",
            b"Expect: 100-continue",
            b"Origin: null",
            b"Origin: \xff\xfe",
            b"Authorization: Bearer \xc3\xa9",
            b"X: " + b"y" * 20_000,
            b"No colon here",
            b" folded: header",
            b"",
        ]
    )
    | st.binary(max_size=40),
    max_size=8,
)
#: Begin as frames of a WebSocket do.
FRAMES = st.builds(
    lambda head, length, rest: bytes([head, length]) + rest,
    st.sampled_from([0x81, 0x82, 0x88, 0x89, 0x01, 0x80, 0xF1, 0xC1]),
    st.sampled_from([0x80, 0x85, 0xFE, 0xFF, 0x05]),
    st.binary(max_size=60),
)


@pytest.fixture
def well(server: ArticoServer) -> Iterator[ArticoServer]:
    """The server, looked at again after the attack."""
    before = resident_memory()
    yield server
    with Artico(server.url, id="afterwards", rtc_config=dict(RTC_CONFIG)):
        wait_until(lambda: "afterwards" in server.peers, "the server to serve")
    assert resident_memory() - before < 64 * MIB


def send(server: ArticoServer, data: bytes) -> None:
    """Send bytes over a connection of their own, and hang up when the server does, or soon."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.settimeout(0.02)
        try:
            connection.sendall(data)
            while connection.recv(65536):
                continue
        except OSError:
            # It waits for more, or has hung up already.
            return


@pytest.mark.timeout(180)
def test_requests(well: ArticoServer) -> None:
    @fuzzed(120)
    @given(
        method=METHODS,
        path=PATHS,
        query=QUERIES,
        version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTP"]),
        headers=HEADERS,
        body=st.binary(max_size=60),
    )
    def attack(
        method: bytes, path: bytes, query: bytes, version: bytes, headers: list[bytes], body: bytes
    ) -> None:
        first = b" ".join([method, path + query, version])
        send(well, b"\r\n".join([first, *headers, b"", body]))

    attack()


@pytest.mark.timeout(180)
def test_frames_after_a_handshake(well: ArticoServer) -> None:
    handshake = (
        b"GET /socket.io/?id=mallory&EIO=4&transport=websocket HTTP/1.1\r\n"
        b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    @fuzzed(100)
    @given(frames=st.lists(FRAMES | st.binary(max_size=30), max_size=6))
    def attack(frames: list[bytes]) -> None:
        send(well, handshake + b"".join(frames))

    attack()


@pytest.mark.timeout(60)
def test_bytes(well: ArticoServer) -> None:
    @fuzzed(80)
    @given(data=st.binary(max_size=300) | st.just(b"\x16\x03\x01" + b"x" * 200))
    def attack(data: bytes) -> None:
        send(well, data)

    attack()
