"""A peer that sends but never reads, on a plain socket with a small buffer."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from artico_sync import ArticoServer
from tests.unit.server.raw_peer import WAIT, eventually

UPGRADE = (
    "GET /socket.io/?id={id}&EIO=4&transport=websocket HTTP/1.1\r\n"
    "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, PING, PONG = 1, 9, 10


def websocket_frame(text: str, opcode: int = TEXT) -> bytes:
    """Return a frame of a client, masked with zeros.

    Raises:
        ValueError: The text has more than 65535 bytes.
    """
    data = text.encode()
    if len(data) < 126:
        length = bytes([0x80 | len(data)])
    elif len(data) < 65536:
        length = bytes([0x80 | 126]) + struct.pack(">H", len(data))
    else:
        raise ValueError("too long")
    return bytes([0x80 | opcode]) + length + bytes(4) + data


@asynccontextmanager
async def deaf_peer(server: ArticoServer, id: str) -> AsyncIterator[socket.socket]:
    """Connect a peer, and yield its socket when the server has admitted it."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.socket() as connection:
        connection.settimeout(WAIT)
        # Set before connecting, so that the kernel buffers little from the start.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(UPGRADE.format(id=id).encode() + websocket_frame("40"))
        await eventually(lambda: id in server.peers, f"{id!r} is connected")
        yield connection
