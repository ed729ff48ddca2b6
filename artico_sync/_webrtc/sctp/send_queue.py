"""Messages waiting to be sent, and their fragmentation into DATA chunks (RFC 9260 6.9)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from artico_sync._protocol.bounds import OVERHEAD
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


class OutboundMessage:
    """A user message, or the rest of it that has not been fragmented yet."""

    __slots__ = ("stream", "protocol", "data", "unordered", "position", "ssn", "buffered_bytes")

    def __init__(self, stream: int, protocol: int, data: bytes, unordered: bool) -> None:
        self.stream = stream
        self.protocol = protocol
        self.data = data
        self.unordered = unordered
        self.position = 0
        self.ssn = 0
        self.buffered_bytes = len(data) + OVERHEAD


class OutboundChunk:
    """A DATA chunk that has a TSN: in flight, or to be retransmitted."""

    __slots__ = (
        "tsn",
        "header",
        "payload",
        "size",
        "wire_size",
        "flight_size",
        "buffered_bytes",
        "packet",
        "sent_at",
        "transmissions",
        "miss_indications",
    )

    def __init__(
        self,
        tsn: int,
        header: bytes,
        payload: bytes | memoryview,
        buffered_bytes: int,
        packet: int,
        now: float,
    ) -> None:
        self.tsn = tsn
        self.header = header
        self.payload = payload
        self.size = size = len(payload)
        #: Bytes in a packet, and the share of cwnd it takes while in flight.
        self.wire_size = self.flight_size = DATA_HEADER_LENGTH + size + (-size & 3)
        #: The amount by which its acknowledgement lowers `pending`.
        self.buffered_bytes = buffered_bytes
        #: Number and time of the last packet that carried it.
        self.packet = packet
        self.sent_at = now
        self.transmissions = 1
        #: Acknowledged packets that were sent later.
        self.miss_indications = 0

    def append_to(self, parts: list[bytes | memoryview]) -> None:
        """Append the encoded chunk to the parts of a packet."""
        parts.append(self.header)
        parts.append(self.payload)
        if self.size & 3:
            parts.append(padding(self.size))


class SendQueue:
    """Waiting messages, and the next TSN and stream sequence numbers."""

    def __init__(self, initial_tsn: int) -> None:
        self.messages: deque[OutboundMessage] = deque()
        #: The next stream sequence number by stream; a stream reset removes its entry.
        self.next_ssn: dict[int, int] = {}
        #: Unbounded, and kept far above zero, so that TSN arithmetic never goes negative.
        self.next_tsn = initial_tsn + TSN_MODULO
        #: Set the I bit of the last waiting chunk, so that its SACK is not delayed (RFC 7053).
        self.sack_immediately = False

    def has_messages_for(self, stream: int) -> bool:
        """Return True if a message of the stream waits."""
        return any(message.stream == stream for message in self.messages)

    def smallest_useful_fragment(self, largest_chunk: int) -> int:
        """Return the bytes a packet must have left to begin a fragment of the next message.

        With less, a fragment would only cost another chunk header.
        """
        message = self.messages[0]
        left = len(message.data) - message.position + DATA_HEADER_LENGTH
        half = largest_chunk // 2
        return left + (-left & 3) if left <= half else half

    def produce_chunk(self, budget: int, packet: int, now: float) -> OutboundChunk:
        """Cut the next chunk, of at most `budget` bytes of data, for the packet of that number."""
        message = self.messages[0]
        data, position = message.data, message.position
        size = left = len(data) - position
        if left > budget:
            size = budget & ~3
        flags = FLAG_UNORDERED if message.unordered else 0
        if not position:
            flags |= FLAG_BEGIN
            if not message.unordered:
                message.ssn = ssn = self.next_ssn.get(message.stream, 0)
                self.next_ssn[message.stream] = (ssn + 1) & 0xFFFF
        buffered_bytes = size
        if size == left:
            flags |= FLAG_END
            buffered_bytes += OVERHEAD
            self.messages.popleft()
            if self.sack_immediately and not self.messages:
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
            message.ssn,
            message.protocol,
        )
        return OutboundChunk(tsn, header, payload, buffered_bytes, packet, now)


@dataclass
class SendCounters:
    """Totals since the start."""

    messages: int = 0
    bytes: int = 0
    packets: int = 0
    retransmissions: int = 0
    timeouts: int = 0


class ZeroWindowProbing:
    """Probes of a peer that announces a zero window (RFC 9260 6.1 A)."""

    def __init__(self) -> None:
        self.sent = 0
        self.is_due = False

    def on_sent(self) -> None:
        """Count the probe that was just sent."""
        self.is_due = False
        self.sent = min(self.sent + 1, 16)

    def reset(self) -> None:
        """The window is open."""
        self.sent = 0
        self.is_due = False
