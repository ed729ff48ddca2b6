"""The few pages a signalling server shows besides signalling; the loop that serves."""

from __future__ import annotations

import json
from dataclasses import dataclass

#: Where a request goes, by the last part of its path.
SIGNALING, HEALTH, ROOT = "socket.io", "health", ""

ABOUT = (
    "This is an Artico signalling server (artico_sync).\n"
    "Point an Artico client at this address; GET /health tells how it is.\n"
)
WEBSOCKET_ONLY = "Socket.IO over WebSocket only (EIO=4, transport=websocket)\n"


@dataclass(frozen=True)
class Page:
    """A finished HTTP answer."""

    status: int
    content_type: str
    body: bytes


def last_part(path: str) -> str:
    """The last part of a path, its trailing slash aside."""
    return path.rstrip("/").rpartition("/")[2]


def text(status: int, body: str) -> Page:
    """A page of plain text."""
    return Page(status, "text/plain; charset=utf-8", body.encode())


def page(method: str, part: str, peers: int, uptime: float) -> Page:
    """The answer to an HTTP request that wants no WebSocket.

    Args:
        part: The last part of its path.
        peers: How many are connected; never who.
        uptime: Seconds since the server began to serve.
    """
    if method not in ("GET", "HEAD"):
        return text(405, "Method not allowed\n")
    if part == HEALTH:
        health = {
            "status": "ok",
            "server": "artico_sync",
            "peers": peers,
            "uptime": round(uptime, 1),
        }
        return Page(200, "application/json", json.dumps(health).encode())
    if part == SIGNALING:
        return text(400, WEBSOCKET_ONLY)
    if part == ROOT:
        return text(200, ABOUT)
    return text(404, "Not found\n")
