"""Loss detection and the state of loss recovery.

Miss indications as in RFC 9260 7.2.4, but counted in packets, so that a SACK for several packets
counts as several. A single one is enough if that packet was sent clearly later (RFC 8985).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from artico_sync._webrtc.sctp.congestion import RetransmissionTimeout
from artico_sync._webrtc.sctp.send_queue import OutboundChunk

#: Miss indications after which a chunk is taken as lost, raised up to the maximum on a path that
#: turns out to reorder.
MISS_INDICATIONS = 3
MISS_INDICATIONS_MAX = 32
#: Reordering in time that is tolerated: a share of the round trip, and at least this much.
REORDERING_SHARE = 0.25
REORDERING_MIN_SECONDS = 0.001


class LossDetector:
    """Tells lost chunks from late ones, and learns how much the path reorders."""

    def __init__(self, timeout: RetransmissionTimeout) -> None:
        self._timeout = timeout
        self._miss_limit = MISS_INDICATIONS
        #: TSNs of the chunks that caused the last window reduction and have not turned out late.
        self._loss_candidates: set[int] = set()

    def sample_mixed(self, acked: list[OutboundChunk], now: float) -> tuple[list[int], float]:
        """Measure the round trip on newly acknowledged chunks, some of them retransmitted.

        Returns:
            The sorted numbers of the packets that certainly arrived, and the time the last of them
            was sent.
        """
        latest: OutboundChunk | None = None
        packets: set[int] = set()
        newest = 0.0
        for chunk in acked:
            if chunk.transmissions == 1:
                if latest is None or chunk.packet > latest.packet:
                    latest = chunk
            elif self.was_first_copy(chunk, now):
                continue
            packets.add(chunk.packet)
            newest = max(newest, chunk.sent_at)
        if latest is not None:
            self._timeout.add_sample(now - latest.sent_at)
        return sorted(packets), newest

    def sample_sent_once(self, acked: list[OutboundChunk], now: float) -> tuple[list[int], float]:
        """Do the same for chunks in TSN order of which none was retransmitted."""
        last = acked[-1]
        self._timeout.add_sample(now - last.sent_at)
        return sorted({chunk.packet for chunk in acked}), last.sent_at

    def was_first_copy(self, chunk: OutboundChunk, now: float) -> bool:
        """Return True if the original arrived: the SACK came too soon for the retransmission.

        RFC 8985 6.2 step 1.
        """
        return chunk.transmissions > 1 and now - chunk.sent_at < (self._timeout.min_rtt or 0.0)

    def find_lost(
        self, in_flight: Iterable[OutboundChunk], packets: list[int], newest: float
    ) -> list[OutboundChunk]:
        """Return the lost chunks among those in flight, given in sending order."""
        if not packets:
            return []
        highest = packets[-1]
        clearly_earlier = newest - self._reordering_window()
        lost: list[OutboundChunk] = []
        for chunk in in_flight:
            if chunk.packet >= highest:
                break
            chunk.miss_indications += len(packets) - bisect_right(packets, chunk.packet)
            if chunk.miss_indications >= self._miss_limit or chunk.sent_at < clearly_earlier:
                lost.append(chunk)
        return lost

    def _reordering_window(self) -> float:
        """Return the seconds by which a later packet may overtake an earlier one."""
        timeout = self._timeout
        if timeout.min_rtt is None or timeout.srtt is None:
            return REORDERING_MIN_SECONDS
        share = REORDERING_SHARE * (self._miss_limit - MISS_INDICATIONS + 1)
        return max(min(share * timeout.min_rtt, timeout.srtt), REORDERING_MIN_SECONDS)

    def add_loss_candidates(self, chunks: list[OutboundChunk], *, window_reduced: bool) -> None:
        """Note chunks taken as lost; `window_reduced` if that has reduced the window."""
        if window_reduced:
            self._loss_candidates.clear()
        self._loss_candidates.update(chunk.tsn for chunk in chunks)

    def on_late_arrival(self, tsn: int) -> bool:
        """Note that the first copy of a chunk arrived.

        Returns:
            True if all chunks behind the last window reduction were only late.
        """
        if tsn not in self._loss_candidates:
            return False
        self._loss_candidates.discard(tsn)
        self._miss_limit = min(self._miss_limit + 1, MISS_INDICATIONS_MAX)
        return not self._loss_candidates

    def on_t3_expired(self) -> None:
        """Forget the candidates: after a timeout a late arrival undoes nothing."""
        self._loss_candidates.clear()


class FastRecovery:
    """The state of loss recovery."""

    def __init__(self) -> None:
        #: Fast recovery ends when this TSN is acknowledged (RFC 9260 7.2.4); None outside of it.
        self.fast_recovery_exit: int | None = None
        #: The first retransmission of a fast recovery ignores cwnd.
        self.force_retransmit = False
        #: The number of the last packet sent before the last window reduction.
        self.reduced_at = 0
        self.tail_loss_probe_sent = False
        #: The first unacknowledged chunk was retransmitted since the owner last cleared this.
        self.earliest_retransmitted = False
        #: T3-rtx expiries since the last SACK.
        self.failures = 0
        #: Probes and expiries since the cumulative TSN ack point last advanced.
        self.stalls = 0

    def leave(self) -> None:
        """End fast recovery."""
        self.fast_recovery_exit = None
        self.force_retransmit = False

    def reset(self, packet: int) -> None:
        """Start over, as after a timeout: losses among earlier packets reduce nothing more."""
        self.leave()
        self.tail_loss_probe_sent = False
        self.reduced_at = packet
