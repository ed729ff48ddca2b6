"""HTTP around the WebSockets: the few pages of a server, and the headers of a reverse proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

#: Returns a header by its lower-case name; several lines are joined by commas, in their order.
Header = Callable[[str], str | None]

#: Last parts of the paths that are served.
SIGNALING, HEALTH, ROOT = "socket.io", "health", ""
UNKNOWN_ADDRESS = "unknown"

ABOUT = (
    "This is an Artico signaling server (artico_sync).\n"
    "Point an Artico client at this address; GET /health returns its state.\n"
)
WEBSOCKET_ONLY = "Socket.IO over WebSocket only (EIO=4, transport=websocket)\n"


# -- pages -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """A complete HTTP response."""

    status: int
    content_type: str
    body: bytes


def last_part(path: str) -> str:
    """Return the last part of a path, ignoring a trailing slash."""
    return path.rstrip("/").rpartition("/")[2]


def text_page(status: int, body: str) -> Page:
    """Return a page of plain text."""
    return Page(status, "text/plain; charset=utf-8", body.encode())


def page(method: str, part: str, peers: int, uptime: float) -> Page:
    """Return the response to an HTTP request that does not ask for a WebSocket.

    Args:
        part: The last part of its path.
        peers: Number of connected peers; their ids are never shown.
        uptime: Seconds since the server began to serve.
    """
    if method not in ("GET", "HEAD"):
        return text_page(405, "Method not allowed\n")
    if part == HEALTH:
        health = {
            "status": "ok",
            "server": "artico_sync",
            "peers": peers,
            "uptime": round(uptime, 1),
        }
        return Page(200, "application/json", json.dumps(health).encode())
    if part == SIGNALING:
        return text_page(400, WEBSOCKET_ONLY)
    if part == ROOT:
        return text_page(200, ABOUT)
    return text_page(404, "Not found\n")


# -- reverse proxies -------------------------------------------------------------------------


def client_address(remote: str | None, header: Header, behind_proxy: bool) -> str:
    """Return the client's address.

    Args:
        remote: Remote address of the connection.
        behind_proxy: One proxy stands before the server and appends to `X-Forwarded-For`; the
            entries before its own were written by the client and prove nothing.
    """
    if behind_proxy:
        forwarded = (header("x-forwarded-for") or "").rpartition(",")[2].strip()
        if forwarded:
            return _without_port(forwarded[:64])
    return remote or UNKNOWN_ADDRESS


def _without_port(entry: str) -> str:
    """Return the address in '192.0.2.1:4000' or '[2001:db8::1]:4000', which some proxies write."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, _, rest = entry.partition(":")
    # An entry with more colons is a bare IPv6 address.
    return entry if ":" in rest else host


def forwarded_host(header: Header, behind_proxy: bool) -> str | None:
    """Return the host name that the client's request was sent to."""
    if behind_proxy:
        forwarded = (header("x-forwarded-host") or "").rpartition(",")[2].strip()
        if forwarded:
            return forwarded
    return header("host")
