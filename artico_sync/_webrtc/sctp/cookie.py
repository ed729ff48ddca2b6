"""The four-way handshake of SCTP, without keeping state for an INIT; pure, loop thread.

Everything an INIT said comes back to us in the cookie, signed. So neither a repeated INIT nor a
late one can change an association that is up.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from struct import Struct

from artico_sync._webrtc.sctp.packets import (
    FORWARD_TSN,
    INIT,
    INIT_ACK,
    PARAMETER_ARTICO_SYNC,
    PARAMETER_COOKIE,
    PARAMETER_FORWARD_TSN,
    PARAMETER_SUPPORTED_CHUNKS,
    RECONFIG,
    Init,
    chunk,
)

#: Seconds for which a cookie is good.
COOKIE_LIFETIME = 60.0
STREAMS = 65535
SUPPORTED_CHUNKS_MAXIMUM = 32

_STAMP = Struct("!d")
_OURS = Struct("!4sHH")
_MAGIC = b"arti"
_VERSION = 1
_DIGEST_SIZE = 32


class StaleCookieError(Exception):
    """The cookie is genuine and too old."""


@dataclass(frozen=True)
class Peer:
    """What the other side said of itself."""

    tag: int
    window: int
    initial_tsn: int
    outbound_streams: int
    inbound_streams: int
    resets_streams: bool
    #: Largest SCTP packet it takes, in bytes, when it is one of our own; else 0.
    packet_maximum: int

    @property
    def is_ours(self) -> bool:
        return self.packet_maximum > 0


def describe(init: Init) -> Peer:
    """Read an INIT or INIT ACK."""
    chunks = init.parameter(PARAMETER_SUPPORTED_CHUNKS) or b""
    ours = init.parameter(PARAMETER_ARTICO_SYNC) or b""
    packet_maximum = 0
    if len(ours) >= _OURS.size:
        magic, version, announced = _OURS.unpack_from(ours)
        if magic == _MAGIC and version >= _VERSION:
            packet_maximum = announced
    return Peer(
        tag=init.tag,
        window=init.window,
        initial_tsn=init.initial_tsn,
        outbound_streams=init.outbound_streams,
        inbound_streams=init.inbound_streams,
        resets_streams=RECONFIG in chunks,
        packet_maximum=packet_maximum,
    )


class Handshake:
    """Makes and reads the chunks that set an association up."""

    def __init__(self, tag: int, initial_tsn: int, window: int, packet_maximum: int) -> None:
        self._tag = tag
        self._initial_tsn = initial_tsn
        self._window = window
        self._packet_maximum = packet_maximum
        self._key = os.urandom(32)

    def init(self) -> bytes:
        return chunk(INIT, self._body(()).encode())

    def init_ack(self, init: Init, now: float) -> bytes:
        return chunk(INIT_ACK, self._body(((PARAMETER_COOKIE, self._cookie(init, now)),)).encode())

    def read_cookie(self, cookie: bytes, now: float) -> Peer:
        """Who sent the INIT. Raises ValueError for a false, StaleCookieError for an old one."""
        signed, digest = cookie[:-_DIGEST_SIZE], cookie[-_DIGEST_SIZE:]
        if len(signed) < _STAMP.size or not hmac.compare_digest(self._sign(signed), digest):
            raise ValueError("cookie that is not ours")
        stamp = _STAMP.unpack_from(signed)[0]
        if not stamp <= now <= stamp + COOKIE_LIFETIME:
            raise StaleCookieError
        return describe(Init.decode(signed[_STAMP.size :]))

    def _body(self, more: tuple[tuple[int, bytes], ...]) -> Init:
        parameters: tuple[tuple[int, bytes], ...] = (
            (PARAMETER_FORWARD_TSN, b""),
            (PARAMETER_SUPPORTED_CHUNKS, bytes((FORWARD_TSN, RECONFIG))),
        )
        if self._packet_maximum:
            ours = _OURS.pack(_MAGIC, _VERSION, self._packet_maximum)
            parameters += ((PARAMETER_ARTICO_SYNC, ours),)
        return Init(self._tag, self._window, STREAMS, STREAMS, self._initial_tsn, parameters + more)

    def _cookie(self, init: Init, now: float) -> bytes:
        kept = tuple(
            (kind, value[:SUPPORTED_CHUNKS_MAXIMUM])
            for kind in (PARAMETER_SUPPORTED_CHUNKS, PARAMETER_ARTICO_SYNC)
            if (value := init.parameter(kind)) is not None
        )
        body = Init(
            init.tag,
            init.window,
            init.outbound_streams,
            init.inbound_streams,
            init.initial_tsn,
            kept,
        )
        signed = _STAMP.pack(now) + body.encode()
        return signed + self._sign(signed)

    def _sign(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")
