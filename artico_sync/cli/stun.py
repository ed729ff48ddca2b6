"""Ask STUN servers how this machine looks from outside (RFC 8489); any thread."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import struct
from time import monotonic

_REQUEST = 0x0001
_SUCCESS = 0x0101
_COOKIE = 0x2112A442
_XOR_MAPPED_ADDRESS = 0x0020
_MAPPED_ADDRESS = 0x0001
_HEADER = struct.Struct("!HHI12s")
# Seconds after which a request is sent again; doubled each time (RFC 8489 section 6.2.1).
FIRST_PAUSE = 0.25

_URL = re.compile(r"stuns?:(\[[^\]]+\]|[^:?]+)(?::(\d+))?")

Address = tuple[str, int]


def parse_url(url: str) -> Address:
    """Host and port of a STUN server's URL."""
    match = _URL.match(url)
    if match is None:
        raise ValueError(f"not the URL of a STUN server: {url!r}")
    return match[1].strip("[]"), int(match[2] or 3478)


def ask(endpoint: socket.socket, server: Address, timeout: float) -> Address:
    """Our own address as a STUN server sees it.

    Args:
        endpoint: An unconnected IPv4 UDP socket.
        server: Host and port.
        timeout: Seconds.

    Raises:
        TimeoutError: No answer came.
        OSError: The server cannot be found or reached.
    """
    address = socket.getaddrinfo(*server, family=endpoint.family, type=socket.SOCK_DGRAM)[0][4]
    transaction = secrets.token_bytes(12)
    end = monotonic() + timeout
    pause = FIRST_PAUSE
    while True:
        endpoint.sendto(_HEADER.pack(_REQUEST, 0, _COOKIE, transaction), address)
        again = min(end, monotonic() + pause)
        pause *= 2
        while (left := again - monotonic()) > 0:
            endpoint.settimeout(left)
            try:
                answer = endpoint.recv(2048)
            except TimeoutError:
                break
            mapped = _parse_answer(answer, transaction)
            if mapped is not None:
                return mapped
        if monotonic() >= end:
            raise TimeoutError("no answer")


def _parse_answer(answer: bytes, transaction: bytes) -> Address | None:
    if len(answer) < _HEADER.size:
        return None
    kind, length, cookie, got = _HEADER.unpack_from(answer)
    if (kind, cookie, got) != (_SUCCESS, _COOKIE, transaction):
        return None
    position, end = _HEADER.size, min(len(answer), _HEADER.size + length)
    mapped = None
    while position + 4 <= end:
        attribute, size = struct.unpack_from("!HH", answer, position)
        value = answer[position + 4 : min(end, position + 4 + size)]
        if attribute == _XOR_MAPPED_ADDRESS:
            return _parse_address(value, struct.pack("!I", _COOKIE) + transaction)
        if attribute == _MAPPED_ADDRESS:
            mapped = _parse_address(value, bytes(16))
        position += 4 + (size + 3 & ~3)
    return mapped


def _parse_address(value: bytes, mask: bytes) -> Address | None:
    if len(value) not in (8, 20):
        return None
    port = struct.unpack_from("!H", value, 2)[0] ^ struct.unpack_from("!H", mask)[0]
    raw = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
    return str(ipaddress.ip_address(raw)), port
