"""Messages and chunks on their way out of an SCTP association; plain data, loop thread."""

from __future__ import annotations

from dataclasses import dataclass

from .sctp_packets import DATA_HEADER_LENGTH

#: What a message costs beside its bytes; counted, so that a queue of tiny ones is bounded too.
OVERHEAD = 128


class OutboundMessage:
    """A message of the user, or what is left of it."""

    __slots__ = ("stream", "protocol", "data", "unordered", "position", "sequence", "cost")

    def __init__(self, stream: int, protocol: int, data: bytes, unordered: bool) -> None:
        self.stream = stream
        self.protocol = protocol
        self.data = data
        self.unordered = unordered
        self.position = 0
        self.sequence = 0
        self.cost = len(data) + OVERHEAD


class OutboundChunk:
    """A chunk that has a TSN."""

    __slots__ = (
        "tsn",
        "header",
        "payload",
        "size",
        "wire",
        "charge",
        "cost",
        "packet",
        "sent_at",
        "transmissions",
        "misses",
    )

    def __init__(self, tsn: int, header: bytes, payload: bytes | memoryview, cost: int) -> None:
        self.tsn = tsn
        self.header = header
        self.payload = payload
        self.size = len(payload)
        #: Bytes in a packet, and what of the congestion window it takes while in flight.
        self.wire = DATA_HEADER_LENGTH + self.size + (-self.size % 4)
        self.charge = 0
        #: What its acknowledgement takes off `pending`.
        self.cost = cost
        #: Number and time of the last packet that carried it.
        self.packet = 0
        self.sent_at = 0.0
        self.transmissions = 0
        #: Packets sent later that were acknowledged sooner.
        self.misses = 0


@dataclass
class SendCounters:
    """What was sent so far."""

    messages: int = 0
    bytes: int = 0
    packets: int = 0
    retransmissions: int = 0
    timeouts: int = 0
