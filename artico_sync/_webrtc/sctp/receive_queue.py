"""Received data: reassembly, the advertised receiver window, and SACKs (RFC 9260 6.2, 6.9).

Fragments of a message have consecutive TSNs, and the messages of a stream are in TSN order, so
reassembly goes by TSN alone. A message may wait for a lost one of another stream; a call has one
stream.
"""

from __future__ import annotations

import logging
from bisect import bisect_right

from artico_sync._protocol.bounds import OVERHEAD
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
from artico_sync._webrtc.sctp.timers import Timer

logger = logging.getLogger(__name__)

#: Bytes accepted beyond the window, for data in flight when it closed.
WINDOW_SLACK_BYTES = 128 * 1024
#: A smaller window is announced as zero (silly window syndrome avoidance, RFC 9260 6.2).
SMALLEST_WINDOW_BYTES = 1500
DUPLICATES_MAX = 16
#: Packets with data per SACK to an artico_sync peer, which counts acknowledged bytes; other peers
#: get one SACK per packet. The larger number holds in a flood, from `FLOOD_PACKETS` in one
#: pass of the event loop on, because a lost SACK matters less there.
PACKETS_PER_SACK = 4
PACKETS_PER_SACK_IN_FLOOD = 16
FLOOD_PACKETS = 12
#: Time for which the SACK of a single packet waits for data to be bundled with, unless the peer
#: has set the I bit (RFC 7053).
SACK_DELAY_SECONDS = 0.002
_WHOLE = FLAG_BEGIN | FLAG_END


#: A reassembled message: its stream, payload protocol identifier, and content.
Message = tuple[int, int, bytes]


class ReceiveQueue:
    """Received TSNs, and the messages reassembled from them.

    `unread` is the footprint of the delivered messages that the user has not read; the owner
    changes it.
    """

    def __init__(self, capacity: int, maximum_message: int) -> None:
        # A message of the maximum size must fit, or it would never be complete.
        self._capacity = max(capacity, maximum_message + WINDOW_SLACK_BYTES)
        self._maximum_message = maximum_message
        self.cumulative_tsn = 0
        self.unread = 0
        self.duplicates: list[int] = []
        self._out_of_order: dict[int, Data] = {}
        self._out_of_order_bytes = 0
        # First and last TSN of each run beyond the cumulative one: the gap blocks.
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._fragments: list[bytes] = []
        self._fragments_bytes = 0
        self._fragments_stream = 0
        self._discarding = False
        self._announced_rwnd = capacity

    def start(self, initial_tsn: int) -> None:
        """Expect this TSN first. TSNs are unbounded here, and stay far above zero."""
        self.cumulative_tsn = initial_tsn - 1 + TSN_MODULO

    @property
    def buffered(self) -> int:
        """Bytes buffered for reassembly."""
        return self._out_of_order_bytes + self._fragments_bytes

    @property
    def out_of_order_chunks(self) -> int:
        """The number of chunks received beyond a gap."""
        return len(self._out_of_order)

    @property
    def has_gaps(self) -> bool:
        """True if a TSN is missing below the highest one received."""
        return bool(self._starts)

    @property
    def a_rwnd(self) -> int:
        """The window to advertise: bytes the peer may send beyond the acknowledged ones."""
        free = self._capacity - self.unread - self._out_of_order_bytes - self._fragments_bytes
        return free if free >= SMALLEST_WINDOW_BYTES else 0

    def needs_window_update(self) -> bool:
        """Return True if the window has grown enough to be announced without received data."""
        if self._announced_rwnd >= self._capacity // 2:
            return False
        return self.a_rwnd - self._announced_rwnd >= self._capacity // 4 or (
            self.unread == 0 and self.a_rwnd > self._announced_rwnd
        )

    def receive_in_order(
        self, packet: bytes, position: int, messages: list[Message]
    ) -> tuple[int, int]:
        """Receive the chunks of a packet from `position` on while they are DATA in TSN order.

        Appends the messages they complete to `messages`.

        Returns:
            The position of the first chunk that was not received, malformed ones included, or the
            packet's end; and the flags of all received chunks, combined by OR.
        """
        all_flags = 0
        if self._starts:
            return position, all_flags
        limit = len(packet)
        budget = self._capacity + WINDOW_SLACK_BYTES - self.unread
        unpack = DATA_CHUNK.unpack_from
        while position + DATA_HEADER_LENGTH < limit:
            kind, flags, length, tsn, stream, sequence, protocol = unpack(packet, position)
            end = position + length
            size = length - DATA_HEADER_LENGTH
            if (
                kind != DATA
                or (self.cumulative_tsn + 1) & 0xFFFFFFFF != tsn
                or size <= 0
                or end > limit
                or size > budget - self._fragments_bytes
            ):
                break
            self.cumulative_tsn += 1
            all_flags |= flags
            payload = packet[position + DATA_HEADER_LENGTH : end]
            if flags & _WHOLE == _WHOLE and not self._fragments and size <= self._maximum_message:
                self._discarding = False
                messages.append((stream, protocol, payload))
            else:
                self._reassemble(Data(tsn, flags, stream, sequence, protocol, payload), messages)
            position = end + (-length & 3)
        return position, all_flags

    def receive_chunk(self, data: Data) -> list[Message] | None:
        """Receive a chunk.

        Returns:
            The messages it completes, None if it is a duplicate or exceeds the window.
        """
        tsn = unwrap(data.tsn, self.cumulative_tsn)
        if tsn == self.cumulative_tsn + 1:
            if (
                self.unread + self._fragments_bytes + len(data.payload)
                > self._capacity + WINDOW_SLACK_BYTES
            ):
                logger.debug("dropped DATA beyond the window")
                return None
            self.cumulative_tsn = tsn
            messages: list[Message] = []
            self._reassemble(data, messages)
            if self._starts and self._starts[0] == tsn + 1:
                self._close_gap(messages)
            return messages
        if tsn <= self.cumulative_tsn or tsn in self._out_of_order:
            if len(self.duplicates) < DUPLICATES_MAX:
                self.duplicates.append(data.tsn)
            return None
        size = len(data.payload) + OVERHEAD
        if (
            tsn - self.cumulative_tsn > GAP_REACH
            or self.unread + self.buffered + size > self._capacity + WINDOW_SLACK_BYTES
        ):
            logger.debug("dropped DATA beyond the window")
            return None
        self._out_of_order[tsn] = data
        self._out_of_order_bytes += size
        self._add_to_gap_blocks(tsn)
        return []

    def skip_to(self, new_cumulative_tsn: int) -> list[Message]:
        """Skip the missing chunks up to a TSN, which the peer has abandoned (RFC 3758 3.6).

        Returns:
            The messages that were waiting for them.
        """
        target = unwrap(new_cumulative_tsn, self.cumulative_tsn)
        messages: list[Message] = []
        if target <= self.cumulative_tsn or target - self.cumulative_tsn > GAP_REACH:
            return messages
        while self._starts and self._starts[0] <= target:
            if self._starts[0] > self.cumulative_tsn + 1:
                self._drop_fragments()
            self.cumulative_tsn = self._starts[0] - 1
            self._close_gap(messages)
        if target > self.cumulative_tsn:
            self._drop_fragments()
            self.cumulative_tsn = target
            if self._starts and self._starts[0] == target + 1:
                self._close_gap(messages)
        return messages

    def encode_sack(self, budget: int) -> bytes:
        """Return a SACK chunk of at most `budget` bytes."""
        if self._starts or self.duplicates:
            return self.make_sack(budget).encode()
        self._announced_rwnd = a_rwnd = self.a_rwnd
        return encode_plain_sack(self.cumulative_tsn & 0xFFFFFFFF, a_rwnd)

    def make_sack(self, budget: int) -> Sack:
        """Return the same, decoded."""
        blocks = max((budget - 16) // 4, 0)
        gaps = []
        for start, end in zip(self._starts[:blocks], self._ends[:blocks], strict=True):
            gaps.append((start - self.cumulative_tsn, end - self.cumulative_tsn))
        duplicates = tuple(self.duplicates[: blocks - len(gaps)])
        self.duplicates.clear()
        self._announced_rwnd = self.a_rwnd
        return Sack(self.cumulative_tsn % TSN_MODULO, self._announced_rwnd, tuple(gaps), duplicates)

    def _add_to_gap_blocks(self, tsn: int) -> None:
        """Add a TSN beyond the cumulative one to the gap blocks."""
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

    def _close_gap(self, messages: list[Message]) -> None:
        """Reassemble the first gap block, which now follows the cumulative TSN."""
        end = self._ends[0]
        del self._starts[0], self._ends[0]
        for tsn in range(self.cumulative_tsn + 1, end + 1):
            data = self._out_of_order.pop(tsn)
            self._out_of_order_bytes -= len(data.payload) + OVERHEAD
            self._reassemble(data, messages)
        self.cumulative_tsn = end

    def _reassemble(self, data: Data, messages: list[Message]) -> None:
        """Append the next chunk in TSN order to the message at hand."""
        flags = data.flags
        if flags & FLAG_BEGIN:
            if self._fragments:
                logger.debug("dropped a message without its end")
                self._drop_fragments()
            self._discarding = False
            if flags & FLAG_END:
                if len(data.payload) <= self._maximum_message:
                    messages.append((data.stream, data.protocol, data.payload))
                else:
                    logger.warning("dropped a message above the announced maximum")
                return
            self._fragments_stream = data.stream
        elif self._discarding:
            return
        elif not self._fragments or data.stream != self._fragments_stream:
            logger.debug("dropped a fragment without a beginning")
            self._drop_fragments()
            return
        if self._fragments_bytes + len(data.payload) > self._maximum_message:
            logger.warning("dropped a message above the announced maximum")
            self._drop_fragments()
            return
        self._fragments.append(data.payload)
        self._fragments_bytes += len(data.payload)
        if flags & FLAG_END:
            whole = b"".join(self._fragments)
            self._fragments.clear()
            self._fragments_bytes = 0
            messages.append((data.stream, data.protocol, whole))

    def _drop_fragments(self) -> None:
        """Discard the message at hand and its further fragments."""
        self._fragments.clear()
        self._fragments_bytes = 0
        self._discarding = True


class SackScheduler:
    """Decides when received data is acknowledged (RFC 9260 6.2)."""

    def __init__(self, timer: Timer) -> None:
        #: A SACK is to be sent in this pass of the event loop, with data or without.
        self.is_due = False
        #: Packets with data since the last SACK.
        self.unacknowledged_packets = 0
        self._packets_in_pass = 0
        self._delayed_sack = False
        self._timer = timer

    def start(self, *, delayed_sack: bool) -> None:
        """Begin; `delayed_sack` if the peer counts acknowledged bytes rather than SACKs."""
        self._delayed_sack = delayed_sack

    def begin_pass(self) -> None:
        """Note that a pass of the event loop has ended, and with it a possible flood."""
        self._packets_in_pass = 0

    def on_data_packet(self) -> bool:
        """Count a packet with data; return True if a SACK is due at once."""
        self.unacknowledged_packets += 1
        self._packets_in_pass += 1
        return self.unacknowledged_packets >= self._packets_per_sack()

    def _packets_per_sack(self) -> int:
        if not self._delayed_sack:
            return 1
        if self._packets_in_pass > FLOOD_PACKETS:
            return PACKETS_PER_SACK_IN_FLOOD
        return PACKETS_PER_SACK

    def delay_sack(self, now: float) -> bool:
        """Let the SACK of the packet just counted wait for data; return False if it must not."""
        if self._packets_in_pass > 1:
            return False
        self._packets_in_pass = 0
        self._timer.start(now + SACK_DELAY_SECONDS)
        return True

    def on_sack_sent(self) -> None:
        """Start counting from zero after a SACK."""
        self.is_due = False
        self.unacknowledged_packets = 0
        self._timer.stop()
