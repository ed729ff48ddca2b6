"""What came in on an SCTP association: TSNs, reassembly, the advertised window; loop thread.

Fragments of a message have consecutive TSNs and the messages of a stream come in the order of
their TSNs, so everything is put together in the order of the TSNs. A message waits for lost ones
of other streams; a call has one stream.
"""

from __future__ import annotations

import logging
from bisect import bisect_right

from artico_sync._webrtc.sctp.packets import (
    DATA,
    DATA_CHUNK,
    DATA_HEADER_LENGTH,
    FLAG_BEGIN,
    FLAG_END,
    GAP_REACH,
    TSN_MODULO,
    Data,
    Sack,
    encode_plain_sack,
    unwrap,
)

logger = logging.getLogger(__name__)

#: What an object of Python costs beside its bytes; counted, so that tiny ones are bounded too.
OVERHEAD = 128
#: Accepted beyond the window, for what was in flight when it shut.
SLACK = 128 * 1024
#: A window below this is announced as shut (silly window, RFC 9260 6.2).
SMALLEST_WINDOW = 1500
DUPLICATES_MAXIMUM = 16
_WHOLE = FLAG_BEGIN | FLAG_END


#: A whole message as it came: its stream, its payload protocol, its bytes.
Message = tuple[int, int, bytes]


class ReceiveQueue:
    """Received TSNs and the messages in them.

    `taken` counts what is delivered and not yet read; the owner changes it.
    """

    def __init__(self, capacity: int, maximum_message: int) -> None:
        #: A message must fit, or it would never be complete.
        self._capacity = max(capacity, maximum_message + SLACK)
        self._maximum_message = maximum_message
        self.cumulative = 0
        self.taken = 0
        self.duplicates: list[int] = []
        self._held: dict[int, Data] = {}
        self._held_size = 0
        self._starts: list[int] = []  # first and last TSN of each run beyond the cumulative one
        self._ends: list[int] = []
        self._fragments: list[bytes] = []
        self._fragments_size = 0
        self._fragments_stream = 0
        self._discarding = False
        self._announced = capacity

    def start(self, initial_tsn: int) -> None:
        """The peer's first TSN. Kept far from zero, so that arithmetic never goes below."""
        self.cumulative = initial_tsn - 1 + TSN_MODULO

    @property
    def buffered(self) -> int:
        """Bytes held for reassembly."""
        return self._held_size + self._fragments_size

    @property
    def held(self) -> int:
        """Chunks that came before their turn."""
        return len(self._held)

    @property
    def gaps(self) -> bool:
        return bool(self._starts)

    @property
    def window(self) -> int:
        """Bytes the peer may send beyond what is acknowledged."""
        free = self._capacity - self.taken - self._held_size - self._fragments_size
        return free if free >= SMALLEST_WINDOW else 0

    def should_announce(self) -> bool:
        """Has the window reopened enough for the peer to be told unasked?"""
        if self._announced >= self._capacity // 2:
            return False
        return self.window - self._announced >= self._capacity // 4 or (
            self.taken == 0 and self.window > self._announced
        )

    def add_run(self, packet: bytes, position: int, messages: list[Message]) -> tuple[int, int]:
        """Take the chunks of a packet from `position` on as long as they are DATA and next in turn.

        What they complete is appended to `messages`. Returns where the first other chunk begins,
        or the packet's end, and the flags of the chunks taken, ored. A malformed chunk is another.
        """
        all_flags = 0
        if self._starts:
            return position, all_flags
        limit = len(packet)
        room = self._capacity + SLACK - self.taken
        unpack = DATA_CHUNK.unpack_from
        while position + DATA_HEADER_LENGTH < limit:
            kind, flags, length, tsn, stream, sequence, protocol = unpack(packet, position)
            end = position + length
            size = length - DATA_HEADER_LENGTH
            if (
                kind != DATA
                or (self.cumulative + 1) & 0xFFFFFFFF != tsn
                or size <= 0
                or end > limit
                or size > room - self._fragments_size
            ):
                break
            self.cumulative += 1
            all_flags |= flags
            payload = packet[position + DATA_HEADER_LENGTH : end]
            if flags & _WHOLE == _WHOLE and not self._fragments and size <= self._maximum_message:
                self._discarding = False
                messages.append((stream, protocol, payload))
            else:
                self._feed(Data(tsn, flags, stream, sequence, protocol, payload), messages)
            position = end + (-length & 3)
        return position, all_flags

    def add(self, data: Data) -> list[Message] | None:
        """Take a chunk. The messages it completes, or None when it was not new or not taken."""
        tsn = unwrap(data.tsn, self.cumulative)
        if tsn == self.cumulative + 1:
            if self.taken + self._fragments_size + len(data.payload) > self._capacity + SLACK:
                logger.debug("DATA beyond the window dropped")
                return None
            self.cumulative = tsn
            messages: list[Message] = []
            self._feed(data, messages)
            if self._starts and self._starts[0] == tsn + 1:
                self._absorb(messages)
            return messages
        if tsn <= self.cumulative or tsn in self._held:
            if len(self.duplicates) < DUPLICATES_MAXIMUM:
                self.duplicates.append(data.tsn)
            return None
        size = len(data.payload) + OVERHEAD
        if (
            tsn - self.cumulative > GAP_REACH
            or self.taken + self.buffered + size > self._capacity + SLACK
        ):
            logger.debug("DATA beyond the window dropped")
            return None
        self._held[tsn] = data
        self._held_size += size
        self._note(tsn)
        return []

    def forward(self, cumulative: int) -> list[Message]:
        """The peer gave up on everything to this TSN that did not come (RFC 3758)."""
        target = unwrap(cumulative, self.cumulative)
        messages: list[Message] = []
        if target <= self.cumulative or target - self.cumulative > GAP_REACH:
            return messages
        while self._starts and self._starts[0] <= target:
            if self._starts[0] > self.cumulative + 1:
                self._drop_fragments()
            self.cumulative = self._starts[0] - 1
            self._absorb(messages)
        if target > self.cumulative:
            self._drop_fragments()
            self.cumulative = target
            if self._starts and self._starts[0] == target + 1:
                self._absorb(messages)
        return messages

    def encode_sack(self, room: int) -> bytes:
        """The acknowledgement to send now, a chunk of at most `room` bytes."""
        if self._starts or self.duplicates:
            return self.sack(room).encode()
        self._announced = window = self.window
        return encode_plain_sack(self.cumulative & 0xFFFFFFFF, window)

    def sack(self, room: int) -> Sack:
        """The same, not encoded yet."""
        blocks = max((room - 16) // 4, 0)
        gaps = []
        for start, end in zip(self._starts[:blocks], self._ends[:blocks], strict=True):
            gaps.append((start - self.cumulative, end - self.cumulative))
        duplicates = tuple(self.duplicates[: blocks - len(gaps)])
        self.duplicates.clear()
        self._announced = self.window
        return Sack(self.cumulative % TSN_MODULO, self._announced, tuple(gaps), duplicates)

    def _note(self, tsn: int) -> None:
        """Add a TSN to the runs beyond the cumulative one."""
        index = bisect_right(self._starts, tsn)
        joins_before = index > 0 and self._ends[index - 1] == tsn - 1
        joins_after = index < len(self._starts) and self._starts[index] == tsn + 1
        if joins_before and joins_after:
            self._ends[index - 1] = self._ends[index]
            del self._starts[index], self._ends[index]
        elif joins_before:
            self._ends[index - 1] = tsn
        elif joins_after:
            self._starts[index] = tsn
        else:
            self._starts.insert(index, tsn)
            self._ends.insert(index, tsn)

    def _absorb(self, messages: list[Message]) -> None:
        """The first run follows the cumulative TSN: take it in."""
        end = self._ends[0]
        del self._starts[0], self._ends[0]
        for tsn in range(self.cumulative + 1, end + 1):
            data = self._held.pop(tsn)
            self._held_size -= len(data.payload) + OVERHEAD
            self._feed(data, messages)
        self.cumulative = end

    def _feed(self, data: Data, messages: list[Message]) -> None:
        """The next chunk in the order of the TSNs."""
        flags = data.flags
        if flags & FLAG_BEGIN:
            if self._fragments:
                logger.debug("a message without its end was dropped")
                self._drop_fragments()
            self._discarding = False
            if flags & FLAG_END:
                if len(data.payload) <= self._maximum_message:
                    messages.append((data.stream, data.protocol, data.payload))
                else:
                    logger.warning("a message above the announced maximum was dropped")
                return
            self._fragments_stream = data.stream
        elif self._discarding:
            return
        elif not self._fragments or data.stream != self._fragments_stream:
            logger.debug("a fragment without a beginning was dropped")
            self._drop_fragments()
            return
        if self._fragments_size + len(data.payload) > self._maximum_message:
            logger.warning("a message above the announced maximum was dropped")
            self._drop_fragments()
            return
        self._fragments.append(data.payload)
        self._fragments_size += len(data.payload)
        if flags & FLAG_END:
            whole = b"".join(self._fragments)
            self._fragments.clear()
            self._fragments_size = 0
            messages.append((data.stream, data.protocol, whole))

    def _drop_fragments(self) -> None:
        """Give up the message at hand; what follows of it is skipped up to the next beginning."""
        self._fragments.clear()
        self._fragments_size = 0
        self._discarding = True
