"""Path MTU discovery with probe packets (RFC 8899, for SCTP: section 6.2).

A probe is a HEARTBEAT padded to the size under test. Its acknowledgement proves that packets of
this size arrive. A missing acknowledgement proves nothing; the probe is retried once.
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

#: Fits into IPv6's minimum MTU with UDP and DTLS headers (BASE_PLPMTU of RFC 8899).
BASE_MTU = 1188
#: Fill an Ethernet frame with the largest IP and DTLS headers, and the same in a tunnel.
ETHERNET_MTU = 1412
TUNNEL_MTU = 1312
#: One DTLS record: the limit between processes of one host.
DTLS_RECORD_MTU = 16 * 1024
#: Accepted by any peer: WebRTC implementations read into buffers of at least 1 500 bytes.
UNIVERSAL_MTU = 1500

PROBES_PER_SIZE = 2
PROBE_INTERVAL_SECONDS = 1.0

_INFO_PARAMETER = 1
_INFO = Struct("!8sH")


class PathMtuDiscovery:
    """The search for the largest packet. Sizes are of SCTP packets, in bytes."""

    def __init__(self) -> None:
        self.mtu = BASE_MTU
        self._candidates: list[int] = []
        self._probes_sent = 0
        self._next_probe_at = 0.0
        self._nonce = os.urandom(8)

    @property
    def payload_budget(self) -> int:
        """Bytes of a packet that chunks may fill."""
        return self.mtu - COMMON_HEADER_LENGTH

    @property
    def largest_chunk(self) -> int:
        """Bytes one chunk may fill: half a probed packet.

        A chunk keeps its size when it is retransmitted, and must fit if the path MTU shrinks. On
        one host the kernel fragments and reassembles, so a chunk may fill the packet.
        """
        if self.mtu in (BASE_MTU, DTLS_RECORD_MTU):
            return self.payload_budget
        return self.payload_budget // 2 & ~3

    def search(self, peer_maximum: int, same_host: bool, at: float) -> None:
        """Probe for a larger `mtu` from time `at` on, up to the peer's maximum packet size."""
        # Acknowledgements of earlier probes do not count: they may have taken another path.
        self._nonce = os.urandom(8)
        wanted = [TUNNEL_MTU, ETHERNET_MTU, *((DTLS_RECORD_MTU,) if same_host else ())]
        limit = max(peer_maximum, UNIVERSAL_MTU)
        self._candidates = [size for size in wanted if self.mtu < size <= limit]
        self._probes_sent = 0
        self._next_probe_at = at

    def probe(self, now: float) -> list[bytes | memoryview] | None:
        """Return the chunks of a probe packet if one is due."""
        if not self._candidates or now < self._next_probe_at:
            return None
        if self._probes_sent >= PROBES_PER_SIZE:
            self._candidates.pop()
            self._probes_sent = 0
            if not self._candidates:
                return None
        size = self._candidates[-1]
        self._probes_sent += 1
        self._next_probe_at = now + PROBE_INTERVAL_SECONDS
        info = encode_parameters(((_INFO_PARAMETER, _INFO.pack(self._nonce, size)),))
        heartbeat = chunk(HEARTBEAT, info)
        rest = size - COMMON_HEADER_LENGTH - len(heartbeat) - CHUNK_HEADER_LENGTH
        return [heartbeat, chunk(PAD, bytes(rest))]

    def on_heartbeat_ack(self, body: bytes) -> bool:
        """Return True if the acknowledgement has raised `mtu`; raise ValueError if malformed."""
        for kind, value in decode_parameters(body):
            if kind == _INFO_PARAMETER and len(value) == _INFO.size:
                nonce, size = _INFO.unpack(value)
                if nonce == self._nonce and size in self._candidates:
                    self.mtu = size
                    self._candidates = []
                    return True
        return False

    def reset_to_base_mtu(self) -> bool:
        """Go back to the base size, as after a black hole; return True if `mtu` has shrunk."""
        if self.mtu == BASE_MTU:
            return False
        self.mtu = BASE_MTU
        return True
