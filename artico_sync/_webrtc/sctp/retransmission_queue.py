"""Sent chunks until they are acknowledged: SACKs, retransmission, fast recovery, T3-rtx.

Until the cumulative TSN ack point passes it, a chunk is in exactly one of three places:
`in_flight` (sent and neither acknowledged nor lost, in sending order), `_sacked` (acknowledged by a
gap block) or `to_retransmit` (taken as lost). If no SACK arrives at all, a tail loss probe sends
the last chunk again to provoke one, well before T3-rtx expires (RFC 8985 7).

Large because sending, SACKs and silence move the same chunks between the same three places.
"""

from __future__ import annotations

from math import inf

from artico_sync._protocol.bounds import OVERHEAD
from artico_sync._webrtc.sctp.congestion import (
    CongestionWindow,
    FastRecovery,
    LossDetector,
    Pacer,
    RetransmissionTimeout,
)
from artico_sync._webrtc.sctp.packets import (
    DATA_HEADER_LENGTH,
    TSN_MODULO,
    Sack,
    unwrap,
)
from artico_sync._webrtc.sctp.send_queue import (
    OutboundChunk,
    OutboundMessage,
    SendCounters,
    SendQueue,
    ZeroWindowProbing,
)

#: A packet takes about this much of the receiving socket's buffer, however small it is.
MINIMUM_FLIGHT_BYTES = 400
#: Time for which the event loop of either side may be busy before a silence means a loss.
PROBE_MARGIN_SECONDS = 0.01
#: Longest interval of zero window probes. The peer announces an open window unasked; the probes
#: are for when that SACK is lost.
ZERO_WINDOW_PROBE_MAX_SECONDS = 5.0
#: T3-rtx expiries in a row after which the peer is given up (Association.Max.Retrans).
ASSOCIATION_MAX_RETRANS = 10


class RetransmissionQueue:
    """Fills packets from a send queue, and keeps every chunk until it is acknowledged.

    Large because each step moves chunks between the three places and keeps the byte counts that
    belong to them.
    """

    def __init__(self, initial_tsn: int, mtu: int) -> None:
        #: Bytes of a packet that chunks may fill, and bytes of it for one chunk.
        self.mtu = mtu
        self.largest_chunk = mtu
        self.window = CongestionWindow(mtu)
        self.timeout = RetransmissionTimeout()
        self.pacer = Pacer()
        self._losses = LossDetector(self.timeout)
        self.counters = SendCounters()
        #: Buffered bytes of everything accepted and not acknowledged.
        self.pending = 0
        self.peer_rwnd = 0
        self.flight_size = 0
        self.send_queue = SendQueue(initial_tsn)
        self._messages = self.send_queue.messages
        self.cumulative_tsn_ack = self.send_queue.next_tsn - 1
        self.in_flight: dict[int, OutboundChunk] = {}
        self._sacked: dict[int, OutboundChunk] = {}
        self.to_retransmit: dict[int, OutboundChunk] = {}
        #: Charged to the peer's window, which counts the overhead of a message as well.
        self._outstanding_bytes = 0
        self._packet = 0
        self._last_sent_at = 0.0
        self.recovery = FastRecovery()
        self.window_probing = ZeroWindowProbing()

    @property
    def outstanding(self) -> bool:
        """True if anything is sent and not acknowledged."""
        return bool(self.in_flight or self.to_retransmit or self._sacked)

    @property
    def has_data_to_send(self) -> bool:
        """True if anything waits to be sent, whether it may be or not."""
        return bool(self._messages or self.to_retransmit)

    @property
    def is_bulk(self) -> bool:
        """True if enough data is queued that larger packets would help."""
        return bool(self._messages) and self.pending > 4 * self.mtu

    @property
    def next_tsn(self) -> int:
        """The TSN of the next new chunk, 32 bits."""
        return self.send_queue.next_tsn % TSN_MODULO

    @property
    def waits_for_rwnd(self) -> bool:
        """True if only the peer's window holds back the waiting messages."""
        return bool(self._messages) and not self.outstanding and not self.window_probing.is_due

    def set_mtu(self, mtu: int, largest_chunk: int) -> None:
        """Fill packets up to `mtu` bytes. Chunks that have a TSN keep their size."""
        self.mtu = self.window.mtu = mtu
        self.largest_chunk = largest_chunk

    def on_path_change(self) -> None:
        """Forget the estimates of the old path, and retransmit all that is in flight on it."""
        self.window = CongestionWindow(self.mtu)
        self.timeout = RetransmissionTimeout()
        self.pacer = Pacer()
        self._losses = LossDetector(self.timeout)
        self.recovery.reset(self._packet)
        self.recovery.failures = self.recovery.stalls = 0
        probing = self.window_probing
        probing.sent = 0
        probing.is_due = self.waits_for_rwnd or probing.is_due
        self._retransmit_in_flight()

    def t3_timeout(self) -> float:
        """Return seconds without a SACK until a probe is sent or T3-rtx expires."""
        timeout = self.timeout
        if not self.outstanding:
            return min(timeout.rto * (1 << self.window_probing.sent), ZERO_WINDOW_PROBE_MAX_SECONDS)
        if self.recovery.tail_loss_probe_sent or timeout.srtt is None:
            return timeout.rto
        probe_timeout = timeout.srtt + max(timeout.srtt, 4 * timeout.rttvar) + PROBE_MARGIN_SECONDS
        return min(probe_timeout, timeout.rto)

    def enqueue_message(self, message: OutboundMessage) -> None:
        """Add a message to the send queue."""
        self._messages.append(message)
        self.pending += message.buffered_bytes

    # Sending

    def send_delay(self, now: float) -> float | None:
        """Return seconds until a packet may be sent, None if that depends on the peer."""
        if not (self.to_retransmit or self._messages) or not self._may_send(first=True):
            return None
        srtt = self.timeout.srtt
        if self.recovery.force_retransmit or self.pacer.allowance(now, self.window, srtt) > 0:
            return 0.0
        assert srtt is not None
        return self.pacer.delay(self.window, srtt)

    def fill_packet(self, budget: int, now: float, single: bool) -> list[bytes | memoryview]:
        """Return the chunks of the next packet, encoded.

        Args:
            budget: Bytes the chunks may take.
            single: Fill in one chunk only.
        """
        parts: list[bytes | memoryview] = []
        if not (self.to_retransmit or self._messages):
            return parts
        self._reduce_after_idle(now)
        self._packet += 1
        used, last = 0, None
        if self.to_retransmit:
            used, last = self._add_retransmissions(parts, budget, now, single)
        if not self.to_retransmit and not (single and parts):
            used, last = self._add_new_chunks(parts, budget, used, last, now, single)
        if last is None:
            self._packet -= 1
            return parts
        if used < MINIMUM_FLIGHT_BYTES:
            last.flight_size += MINIMUM_FLIGHT_BYTES - used
            self.flight_size += MINIMUM_FLIGHT_BYTES - used
        self.counters.packets += 1
        self.pacer.spend(used)
        self._last_sent_at = now
        return parts

    def _add_retransmissions(
        self, parts: list[bytes | memoryview], budget: int, now: float, single: bool
    ) -> tuple[int, OutboundChunk | None]:
        """Add lost chunks to a packet; return the bytes they take and the last of them."""
        used = 0
        last: OutboundChunk | None = None
        while self.to_retransmit and used < budget and self._may_send(first=not parts):
            tsn = next(iter(self.to_retransmit))
            chunk = self.to_retransmit[tsn]
            if used + chunk.wire_size > budget and parts:
                break
            del self.to_retransmit[tsn]
            if tsn == self.cumulative_tsn_ack + 1:
                self.recovery.earliest_retransmitted = True
            self.counters.retransmissions += 1
            self.recovery.force_retransmit = False
            chunk.packet = self._packet
            chunk.sent_at = now
            chunk.transmissions += 1
            chunk.miss_indications = 0
            chunk.flight_size = chunk.wire_size
            self._add_in_flight(chunk)
            chunk.append_to(parts)
            used += chunk.wire_size
            last = chunk
            if single:
                break
        return used, last

    def _add_new_chunks(
        self,
        parts: list[bytes | memoryview],
        budget: int,
        used: int,
        last: OutboundChunk | None,
        now: float,
        single: bool,
    ) -> tuple[int, OutboundChunk | None]:
        """Add new chunks to a packet; return the bytes used and the last chunk of the packet."""
        queue, messages = self.send_queue, self._messages
        limit = self.window.limit(self.timeout.min_rtt)
        while messages and used < budget and self.flight_size < limit:
            if not self._fits_peer_rwnd(first=not parts):
                break
            if used and budget - used < queue.smallest_useful_fragment(self.largest_chunk):
                break
            self.recovery.force_retransmit = False
            if self.window_probing.is_due:
                self.window_probing.on_sent()
            wire_size = budget - used
            if wire_size > self.largest_chunk:
                wire_size = self.largest_chunk
            last = queue.produce_chunk(wire_size - DATA_HEADER_LENGTH, self._packet, now)
            self._add_in_flight(last)
            last.append_to(parts)
            used += last.wire_size
            if single:
                break
        return used, last

    def _may_send(self, *, first: bool) -> bool:
        if self.to_retransmit:
            if self.recovery.force_retransmit or not self.in_flight:
                return first or self.flight_size < self.window.cwnd
            return self.flight_size < self.window.limit(self.timeout.min_rtt)
        if not self._messages or self.flight_size >= self.window.limit(self.timeout.min_rtt):
            return False
        return self._fits_peer_rwnd(first=first)

    def _fits_peer_rwnd(self, *, first: bool) -> bool:
        """Return True if the peer's window admits the next new chunk."""
        message = self._messages[0]
        size = len(message.data) - message.position + OVERHEAD
        if size > self.largest_chunk:
            size = self.largest_chunk
        if self._outstanding_bytes + size <= self.peer_rwnd:
            return True
        # A zero window is probed with one chunk at a time (RFC 9260 6.1 A).
        return first and self.window_probing.is_due and not self.outstanding

    def _add_in_flight(self, chunk: OutboundChunk) -> None:
        self.flight_size += chunk.flight_size
        self._outstanding_bytes += chunk.buffered_bytes
        self.in_flight[chunk.tsn] = chunk

    def _remove_in_flight(self, chunk: OutboundChunk) -> None:
        self.flight_size -= chunk.flight_size
        self._outstanding_bytes -= chunk.buffered_bytes
        del self.in_flight[chunk.tsn]

    def _reduce_after_idle(self, now: float) -> None:
        if not self.in_flight and not self.outstanding and self._last_sent_at:
            timeouts = int((now - self._last_sent_at) / self.timeout.rto)
            if timeouts > 0:
                self.window.on_idle(timeouts)

    # Acknowledgements

    def on_sack(self, sack: Sack, now: float) -> bool:
        """Process a SACK.

        Returns:
            True if the cumulative TSN ack point advanced.

        Raises:
            ValueError: It acknowledges a TSN that was never sent.
        """
        cumulative = unwrap(sack.cumulative_tsn_ack, self.cumulative_tsn_ack)
        if cumulative >= self.send_queue.next_tsn:
            raise ValueError("SACK for a TSN that was never sent")
        if cumulative < self.cumulative_tsn_ack:
            return False
        cwnd_limited = self._is_cwnd_limited()
        recovery = self.recovery
        recovery.failures = 0
        advanced = cumulative > self.cumulative_tsn_ack
        acked = self._advance_cumulative_tsn_ack(cumulative)
        if sack.gaps:
            self._on_gap_blocks(sack, acked)
        for tsn in sack.duplicates:
            self._on_spurious_retransmit(unwrap(tsn, cumulative))
        reduced = self._on_newly_acked(acked, now) if acked else False
        self._update_peer_rwnd(sack.a_rwnd, now)
        if recovery.fast_recovery_exit is not None and cumulative >= recovery.fast_recovery_exit:
            recovery.leave()
        if reduced:
            if recovery.fast_recovery_exit is None:
                recovery.force_retransmit = True
            recovery.fast_recovery_exit = self.send_queue.next_tsn - 1
        elif advanced and recovery.fast_recovery_exit is None and cwnd_limited:
            self.window.on_acknowledged(sum([chunk.flight_size for chunk in acked]))
        return advanced

    def _advance_cumulative_tsn_ack(self, cumulative: int) -> list[OutboundChunk]:
        """Drop the chunks up to a TSN; return those of them that were in flight."""
        acked: list[OutboundChunk] = []
        in_flight = self.in_flight
        for tsn in range(self.cumulative_tsn_ack + 1, cumulative + 1):
            chunk = in_flight.pop(tsn, None)
            if chunk is not None:
                self.flight_size -= chunk.flight_size
                self._outstanding_bytes -= chunk.buffered_bytes
                acked.append(chunk)
            else:
                chunk = self._sacked.pop(tsn, None)
                if chunk is None:
                    chunk = self.to_retransmit.pop(tsn)
                    self._on_spurious_retransmit(tsn)
            self.pending -= chunk.buffered_bytes
        if cumulative > self.cumulative_tsn_ack:
            self.recovery.stalls = 0
            self.cumulative_tsn_ack = cumulative
        return acked

    def _on_gap_blocks(self, sack: Sack, acked: list[OutboundChunk]) -> None:
        limit = self.send_queue.next_tsn - 1
        for start, end in sack.gaps:
            first = self.cumulative_tsn_ack + start
            if first > limit:
                return
            for tsn in range(first, min(self.cumulative_tsn_ack + end, limit) + 1):
                chunk = self.in_flight.get(tsn)
                if chunk is not None:
                    self._remove_in_flight(chunk)
                    acked.append(chunk)
                    self._sacked[tsn] = chunk
                elif tsn in self.to_retransmit:
                    self._sacked[tsn] = self.to_retransmit.pop(tsn)
                    self._on_spurious_retransmit(tsn)

    def _on_newly_acked(self, acked: list[OutboundChunk], now: float) -> bool:
        """Measure the round trip and find losses; return True if that reduced the window."""
        self.recovery.tail_loss_probe_sent = False
        losses, in_flight = self._losses, self.in_flight
        packets: list[int] = []
        newest = 0.0
        retransmitted = [chunk for chunk in acked if chunk.transmissions > 1]
        for chunk in retransmitted:
            if losses.was_first_copy(chunk, now):
                self._on_spurious_retransmit(chunk.tsn)
        if retransmitted:
            packets, newest = losses.sample_mixed(acked, now)
        elif in_flight:
            packets, newest = losses.sample_sent_once(acked, now)
        else:
            self.timeout.add_sample(now - acked[-1].sent_at)
        if not in_flight:
            return False
        return self._mark_lost(losses.find_lost(in_flight.values(), packets, newest))

    def _update_peer_rwnd(self, a_rwnd: int, now: float) -> None:
        if a_rwnd:
            if not self.peer_rwnd:
                # The peer dropped what arrived while its window was closed.
                self._retransmit_in_flight(now - (self.timeout.min_rtt or 0.0))
            self.window_probing.reset()
        self.peer_rwnd = a_rwnd

    def _is_cwnd_limited(self) -> bool:
        """Return True if cwnd or its pacing holds back waiting data, rather than the peer."""
        if not (self.to_retransmit or self._messages):
            return False
        if self._outstanding_bytes + self.mtu > self.peer_rwnd:
            return False
        return self.window.cwnd <= self.window.limit(self.timeout.min_rtt)

    def _on_spurious_retransmit(self, tsn: int) -> None:
        """React to the late arrival of a chunk that was taken as lost (RFC 4015)."""
        if self._losses.on_late_arrival(tsn):
            self.window.undo_reduction()
            self.recovery.leave()

    def _mark_lost(self, lost: list[OutboundChunk]) -> bool:
        """Queue chunks for retransmission; return True if that reduced the window.

        Only the first loss among the packets sent since the last reduction does.
        """
        reduce = False
        if not lost:
            return reduce
        for chunk in lost:
            self._remove_in_flight(chunk)
            self.to_retransmit[chunk.tsn] = chunk
            reduce = reduce or chunk.packet > self.recovery.reduced_at
        if reduce:
            self.window.on_loss()
            self.recovery.reduced_at = self._packet
        self._losses.add_loss_candidates(lost, window_reduced=reduce)
        return reduce

    def _retransmit_in_flight(self, sent_until: float = inf) -> None:
        """Queue the chunks sent until then for retransmission, without taking them as lost."""
        for chunk in list(self.in_flight.values()):
            if chunk.sent_at <= sent_until:
                self._remove_in_flight(chunk)
                self.to_retransmit[chunk.tsn] = chunk
        # In TSN order, because a peer with a small window may accept only the first of them.
        self.to_retransmit = dict(sorted(self.to_retransmit.items()))

    # Silence

    def zero_window_probe(self) -> None:
        """Make a probe of the peer's zero window due."""
        self.window_probing.is_due = bool(self._messages)

    def tail_loss_probe(self) -> bool:
        """Queue a chunk whose retransmission provokes a SACK (RFC 8985 7.3).

        Returns:
            False if that was done already, so that it is T3-rtx that has expired.
        """
        recovery = self.recovery
        if recovery.tail_loss_probe_sent or not self.in_flight:
            return False
        recovery.tail_loss_probe_sent = True
        self._count_stall()
        overtaken = [chunk for chunk in self.in_flight.values() if chunk.miss_indications]
        if overtaken:
            if self._mark_lost(overtaken):
                recovery.fast_recovery_exit = self.send_queue.next_tsn - 1
        else:
            last = next(reversed(self.in_flight.values()))
            self._remove_in_flight(last)
            self.to_retransmit[last.tsn] = last
        recovery.force_retransmit = True
        return True

    def _count_stall(self) -> None:
        # A peer with a zero window drops what arrives, so its silence says nothing of the path.
        if self.peer_rwnd:
            self.recovery.stalls += 1

    def on_t3_expired(self) -> bool:
        """Retransmit everything, beginning with one packet (RFC 9260 6.3.3).

        Returns:
            True if the peer is to be given up.
        """
        self.counters.timeouts += 1
        self.recovery.failures += 1
        self._count_stall()
        # The peer may have dropped what it reported in gap blocks (RFC 9260 6.2.1).
        self.to_retransmit.update(self._sacked)
        self._sacked.clear()
        self._retransmit_in_flight()
        self._losses.on_t3_expired()
        self.recovery.reset(self._packet)
        self.window.on_t3_expired()
        self.timeout.back_off()
        return self.recovery.failures > ASSOCIATION_MAX_RETRANS
