"""The four-way handshake that sets up an association (RFC 9260 5).

No state is kept for an INIT: everything it said returns in the signed State Cookie. Neither a
repeated nor a late INIT can change an established association. Both peers send an INIT (RFC 8841
9.3), so INITs collide in every handshake.
"""

from __future__ import annotations

import enum
import hmac
import logging
import os
from dataclasses import dataclass
from struct import Struct
from typing import Protocol

from artico_sync._webrtc.sctp.packets import (
    CAUSE_STALE_COOKIE,
    COOKIE_ACK,
    COOKIE_ECHO,
    ERROR,
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
    encode_parameters,
)
from artico_sync._webrtc.sctp.timers import Timer

logger = logging.getLogger(__name__)

HANDSHAKE_CHUNKS = frozenset((INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK))
#: Retransmissions of INIT and COOKIE ECHO (Max.Init.Retransmits).
MAX_INIT_RETRANSMITS = 8
INIT_INTERVAL_MAX_SECONDS = 10.0
COOKIE_LIFETIME_SECONDS = 60.0
STREAMS = 65535
SUPPORTED_CHUNKS_MAX = 32

_STAMP = Struct("!d")
_ARTICO_SYNC = Struct("!4sHH")
_MAGIC = b"arti"
_VERSION = 1
_DIGEST_SIZE = 32


class State(enum.Enum):
    """The states of an association (RFC 9260 4)."""

    NEW = "NEW"
    COOKIE_WAIT = "COOKIE-WAIT"
    COOKIE_ECHOED = "COOKIE-ECHOED"
    ESTABLISHED = "ESTABLISHED"
    SHUTDOWN_RECEIVED = "SHUTDOWN-RECEIVED"
    CLOSED = "CLOSED"


class StaleCookieError(Exception):
    """The cookie is authentic, but older than its lifetime."""


@dataclass(frozen=True)
class PeerParameters:
    """The properties of the peer, from its INIT or INIT ACK."""

    tag: int
    a_rwnd: int
    initial_tsn: int
    outbound_streams: int
    inbound_streams: int
    resets_streams: bool
    #: Largest SCTP packet an artico_sync peer accepts, in bytes; 0 for other peers.
    packet_maximum: int

    @property
    def is_artico_sync(self) -> bool:
        """True if the peer runs this library."""
        return self.packet_maximum > 0


def read_parameters(init: Init) -> PeerParameters:
    """Read the parameters of an INIT or INIT ACK."""
    chunks = init.parameter(PARAMETER_SUPPORTED_CHUNKS) or b""
    own = init.parameter(PARAMETER_ARTICO_SYNC) or b""
    packet_maximum = 0
    if len(own) >= _ARTICO_SYNC.size:
        magic, version, announced = _ARTICO_SYNC.unpack_from(own)
        if magic == _MAGIC and version >= _VERSION:
            packet_maximum = announced
    return PeerParameters(
        tag=init.tag,
        a_rwnd=init.a_rwnd,
        initial_tsn=init.initial_tsn,
        outbound_streams=init.outbound_streams,
        inbound_streams=init.inbound_streams,
        resets_streams=RECONFIG in chunks,
        packet_maximum=packet_maximum,
    )


class HandshakeChunks:
    """Encodes INIT and INIT ACK, and signs and verifies cookies."""

    def __init__(self, tag: int, initial_tsn: int, a_rwnd: int, packet_maximum: int) -> None:
        self._tag = tag
        self._initial_tsn = initial_tsn
        self._a_rwnd = a_rwnd
        self._packet_maximum = packet_maximum
        self._key = os.urandom(32)

    def init(self) -> bytes:
        """Encode an INIT chunk."""
        return chunk(INIT, self._body(()).encode())

    def init_ack(self, init: Init, now: float) -> bytes:
        """Encode the INIT ACK chunk for an INIT."""
        return chunk(INIT_ACK, self._body(((PARAMETER_COOKIE, self._cookie(init, now)),)).encode())

    def read_cookie(self, cookie: bytes, now: float) -> PeerParameters:
        """Return the parameters of the INIT a cookie was made for.

        Raises:
            ValueError: The cookie was not made here.
            StaleCookieError: It was, but too long ago.
        """
        signed, digest = cookie[:-_DIGEST_SIZE], cookie[-_DIGEST_SIZE:]
        if len(signed) < _STAMP.size or not hmac.compare_digest(self._sign(signed), digest):
            raise ValueError("cookie with a wrong signature")
        stamp = _STAMP.unpack_from(signed)[0]
        if not stamp <= now <= stamp + COOKIE_LIFETIME_SECONDS:
            raise StaleCookieError
        return read_parameters(Init.decode(signed[_STAMP.size :]))

    def _body(self, more: tuple[tuple[int, bytes], ...]) -> Init:
        parameters: tuple[tuple[int, bytes], ...] = (
            (PARAMETER_FORWARD_TSN, b""),
            (PARAMETER_SUPPORTED_CHUNKS, bytes((FORWARD_TSN, RECONFIG))),
        )
        if self._packet_maximum:
            own = _ARTICO_SYNC.pack(_MAGIC, _VERSION, self._packet_maximum)
            parameters += ((PARAMETER_ARTICO_SYNC, own),)
        return Init(self._tag, self._a_rwnd, STREAMS, STREAMS, self._initial_tsn, parameters + more)

    def _cookie(self, init: Init, now: float) -> bytes:
        parameters = tuple(
            (kind, value[:SUPPORTED_CHUNKS_MAX])
            for kind in (PARAMETER_SUPPORTED_CHUNKS, PARAMETER_ARTICO_SYNC)
            if (value := init.parameter(kind)) is not None
        )
        body = Init(
            init.tag,
            init.a_rwnd,
            init.outbound_streams,
            init.inbound_streams,
            init.initial_tsn,
            parameters,
        )
        signed = _STAMP.pack(now) + body.encode()
        return signed + self._sign(signed)

    def _sign(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")


class HandshakeOwner(Protocol):
    """The association as the handshake sees it."""

    state: State
    #: True while data may be sent and received.
    is_established: bool
    peer: PeerParameters | None

    @property
    def rto(self) -> float: ...

    def change_state(self, state: State) -> None: ...

    def send_chunk_to(self, tag: int, encoded: bytes) -> None:
        """Send a chunk under this verification tag."""

    def send_chunk(self, encoded: bytes) -> None:
        """Send a chunk under the peer's verification tag."""

    def take_reply_budget(self) -> bool:
        """Count a reply; return False if the peer has had enough of them in this pass."""

    def adopt_peer(self, peer: PeerParameters) -> None: ...

    def establish(self, now: float) -> None: ...

    def close(self) -> None: ...


class Handshake:
    """Sends INIT and COOKIE ECHO, with retransmission (T1), and answers those of the peer."""

    def __init__(self, owner: HandshakeOwner, chunks: HandshakeChunks, timer: Timer) -> None:
        self._owner = owner
        self._chunks = chunks
        self._timer = timer
        self._last_chunk = b""
        self._retransmits = 0

    def start(self, now: float) -> None:
        """Send an INIT."""
        self._owner.change_state(State.COOKIE_WAIT)
        self._send(self._chunks.init(), now)

    def on_stale_cookie(self) -> None:
        """Go back to INIT: the peer found its cookie too old."""
        if self._owner.state is State.COOKIE_ECHOED:
            self._owner.change_state(State.COOKIE_WAIT)
            self._last_chunk = self._chunks.init()

    def on_chunk(self, kind: int, body: bytes, now: float) -> None:
        """Process a chunk of the handshake; raise ValueError if it is malformed."""
        if kind == INIT:
            self._on_init(body, now)
        elif kind == INIT_ACK:
            self._on_init_ack(body, now)
        elif kind == COOKIE_ECHO:
            self._on_cookie_echo(body, now)
        elif kind == COOKIE_ACK and self._owner.state is State.COOKIE_ECHOED:
            self._establish(now)

    def on_t1_expired(self, now: float) -> None:
        """Retransmit the last chunk, or give up."""
        self._retransmits += 1
        if self._retransmits > MAX_INIT_RETRANSMITS:
            logger.debug("no association: the peer does not answer")
            self._owner.close()
            return
        self._transmit()
        interval = self._owner.rto * (1 << self._retransmits)
        self._timer.start(now + min(interval, INIT_INTERVAL_MAX_SECONDS))

    def _send(self, encoded: bytes, now: float) -> None:
        self._last_chunk = encoded
        self._retransmits = 0
        self._transmit()
        self._timer.start(now + self._owner.rto)

    def _transmit(self) -> None:
        if self._owner.state is State.COOKIE_WAIT:
            self._owner.send_chunk_to(0, self._last_chunk)
        else:
            self._owner.send_chunk(self._last_chunk)

    def _on_init(self, body: bytes, now: float) -> None:
        owner = self._owner
        init = Init.decode(body)
        if owner.is_established and owner.peer and init.tag != owner.peer.tag:
            logger.debug("dropped an INIT of another association")
        elif owner.take_reply_budget():
            owner.send_chunk_to(init.tag, self._chunks.init_ack(init, now))

    def _on_init_ack(self, body: bytes, now: float) -> None:
        owner = self._owner
        if owner.state is not State.COOKIE_WAIT:
            return
        init = Init.decode(body)
        cookie = init.parameter(PARAMETER_COOKIE)
        if cookie is None:
            raise ValueError("INIT ACK without a cookie")
        owner.adopt_peer(read_parameters(init))
        owner.change_state(State.COOKIE_ECHOED)
        self._send(chunk(COOKIE_ECHO, cookie), now)

    def _on_cookie_echo(self, body: bytes, now: float) -> None:
        owner = self._owner
        try:
            peer = self._chunks.read_cookie(body, now)
        except StaleCookieError:
            cause = encode_parameters(((CAUSE_STALE_COOKIE, bytes(4)),))
            if owner.peer is not None and owner.take_reply_budget():
                owner.send_chunk(chunk(ERROR, cause))
            return
        if owner.is_established:
            # The COOKIE ACK was lost.
            if owner.peer is not None and peer.tag == owner.peer.tag and owner.take_reply_budget():
                owner.send_chunk(chunk(COOKIE_ACK))
            return
        owner.adopt_peer(peer)
        owner.send_chunk(chunk(COOKIE_ACK))
        self._establish(now)

    def _establish(self, now: float) -> None:
        self._timer.stop()
        self._owner.establish(now)
