"""How large a packet may be on this path (RFC 8899 over SCTP); pure, no I/O, no clock.

A probe is a HEARTBEAT padded to the size in question. Its answer proves that such packets arrive;
no answer proves nothing, costs one packet, and is asked for once more.
"""

from __future__ import annotations

import os
from struct import Struct

from artico_sync._webrtc.sctp.packets import (
    CHUNK_HEADER_LENGTH,
    COMMON_HEADER_LENGTH,
    HEARTBEAT,
    PAD,
    chunk,
    decode_parameters,
    encode_parameters,
)

#: Fits into IPv6's smallest MTU with UDP and DTLS around it.
BASE = 1188
#: Fill an Ethernet frame with the largest IP and DTLS headers there are, and a tunnel's frame.
ETHERNET = 1412
TUNNEL = 1312
#: One DTLS record. Between processes of one host nothing smaller limits a datagram.
RECORD = 16 * 1024
#: What any peer takes: WebRTC implementations read into buffers of 1 500 bytes and more.
ANYBODY = 1500

ATTEMPTS = 2
#: Seconds between two probes.
PAUSE = 1.0

_INFO_PARAMETER = 1
_INFO = Struct("!8sH")


class PathMtuDiscovery:
    """The search for the largest packet. Sizes are of SCTP packets, in bytes."""

    def __init__(self) -> None:
        self.size = BASE
        self._candidates: list[int] = []
        self._attempts = 0
        self._next_at = 0.0
        self._nonce = os.urandom(8)

    @property
    def room(self) -> int:
        """Bytes of a packet that chunks may fill."""
        return self.size - COMMON_HEADER_LENGTH

    @property
    def largest_chunk(self) -> int:
        """Bytes of it that one chunk may fill: no chunk sent once can be cut again, and the path
        may come to carry less. On one host the kernel cuts up and puts together instead."""
        if self.size in (BASE, RECORD):
            return self.room
        return self.room // 2 & ~3

    def search(self, peer_maximum: int, same_host: bool, at: float) -> None:
        """Look for more than `size` from then on; the peer takes at most `peer_maximum`."""
        # Answers to earlier probes tell nothing any more.
        self._nonce = os.urandom(8)
        wanted = [TUNNEL, ETHERNET, *((RECORD,) if same_host else ())]
        limit = max(peer_maximum, ANYBODY)
        self._candidates = [size for size in wanted if self.size < size <= limit]
        self._attempts = 0
        self._next_at = at

    def probe(self, now: float) -> list[bytes | memoryview] | None:
        """The chunks of a probe, if one is due."""
        if not self._candidates or now < self._next_at:
            return None
        if self._attempts >= ATTEMPTS:
            self._candidates.pop()
            self._attempts = 0
            if not self._candidates:
                return None
        size = self._candidates[-1]
        self._attempts += 1
        self._next_at = now + PAUSE
        info = encode_parameters(((_INFO_PARAMETER, _INFO.pack(self._nonce, size)),))
        beat = chunk(HEARTBEAT, info)
        rest = size - COMMON_HEADER_LENGTH - len(beat) - CHUNK_HEADER_LENGTH
        return [beat, chunk(PAD, bytes(rest))]

    def answered(self, body: bytes) -> bool:
        """A HEARTBEAT ACK came. Has `size` grown? Raises ValueError for a malformed one."""
        for kind, value in decode_parameters(body):
            if kind == _INFO_PARAMETER and len(value) == _INFO.size:
                nonce, size = _INFO.unpack(value)
                if nonce == self._nonce and size in self._candidates:
                    self.size = size
                    self._candidates = []
                    return True
        return False

    def retreat(self) -> bool:
        """Nothing arrives any more: perhaps the path has changed. Has `size` shrunk?"""
        if self.size == BASE:
            return False
        self.size = BASE
        return True
