"""Messages on their way out of an SCTP association, and the chunks they are cut into; loop thread.

No I/O and no clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from artico_sync._webrtc.sctp.packets import (
    DATA,
    DATA_CHUNK,
    DATA_HEADER_LENGTH,
    FLAG_BEGIN,
    FLAG_END,
    FLAG_IMMEDIATE,
    FLAG_UNORDERED,
    TSN_MODULO,
    padding,
)

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
    """A chunk that has a TSN, in flight or to be sent again."""

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

    def __init__(
        self,
        tsn: int,
        header: bytes,
        payload: bytes | memoryview,
        cost: int,
        packet: int,
        now: float,
    ) -> None:
        self.tsn = tsn
        self.header = header
        self.payload = payload
        self.size = size = len(payload)
        #: Bytes in a packet, and what of the congestion window it takes while in flight.
        self.wire = self.charge = DATA_HEADER_LENGTH + size + (-size & 3)
        #: What its acknowledgement takes off `pending`.
        self.cost = cost
        #: Number and time of the last packet that carried it.
        self.packet = packet
        self.sent_at = now
        self.transmissions = 1
        #: Packets sent later that were acknowledged sooner.
        self.misses = 0

    def add_to(self, parts: list[bytes | memoryview]) -> None:
        """Put it into a packet."""
        parts.append(self.header)
        parts.append(self.payload)
        if self.size & 3:
            parts.append(padding(self.size))


class OutboundMessages:
    """Messages that wait, and the numbers their chunks get."""

    def __init__(self, initial_tsn: int) -> None:
        self.messages: deque[OutboundMessage] = deque()
        self.sequences: dict[int, int] = {}
        #: Of the next chunk; kept far from zero, so that arithmetic never goes below.
        self.next_tsn = initial_tsn + TSN_MODULO
        #: The acknowledgement of the last chunk is awaited: it shall not be delayed (RFC 7053).
        self.hurry = False

    def cut(self, room: int, packet: int, now: float) -> OutboundChunk:
        """The next chunk, of at most `room` bytes of data, in the packet of that number."""
        message = self.messages[0]
        data, position = message.data, message.position
        size = left = len(data) - position
        if left > room:
            size = room & ~3
        flags = FLAG_UNORDERED if message.unordered else 0
        if not position:
            flags |= FLAG_BEGIN
            if not message.unordered:
                message.sequence = sequence = self.sequences.get(message.stream, 0)
                self.sequences[message.stream] = (sequence + 1) & 0xFFFF
        cost = size
        if size == left:
            flags |= FLAG_END
            cost += OVERHEAD
            self.messages.popleft()
            if self.hurry and not self.messages:
                flags |= FLAG_IMMEDIATE
        else:
            message.position = position + size
        payload = data if size == len(data) else memoryview(data)[position : position + size]
        tsn = self.next_tsn
        self.next_tsn = tsn + 1
        header = DATA_CHUNK.pack(
            DATA,
            flags,
            DATA_HEADER_LENGTH + size,
            tsn & 0xFFFFFFFF,
            message.stream,
            message.sequence,
            message.protocol,
        )
        return OutboundChunk(tsn, header, payload, cost, packet, now)


@dataclass
class SendCounters:
    """What was sent so far."""

    messages: int = 0
    bytes: int = 0
    packets: int = 0
    retransmissions: int = 0
    timeouts: int = 0
