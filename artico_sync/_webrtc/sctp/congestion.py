"""Congestion control, retransmission timeout, pacing, loss detection and fast recovery.

RFC 9260 section 7 (slow start and congestion avoidance by acknowledged bytes, one reduction per
window), RFC 6298 (RTO), RFC 6928 (initial window), RFC 4015 (Eifel response), RFC 8985 (loss
detection by time), and a token bucket that spreads a window over the round trip. Miss indications
are counted in packets, so that a SACK for several packets counts as several. Times are seconds of
any monotonic clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from artico_sync._webrtc.sctp.send_queue import OutboundChunk

RTO_INITIAL_SECONDS = 1.0
#: TCP implementations use 200 ms instead of RFC 9260's second. Browsers delay a SACK for at most
#: 200 ms, and artico_sync peers are asked for it at once.
RTO_MIN_SECONDS = 0.2
#: A path that works again is noticed within this time, however long it was down.
RTO_MAX_SECONDS = 10.0
CLOCK_GRANULARITY_SECONDS = 0.001

#: RFC 6928's ten packets instead of the three to four of RFC 9260: measurements on the Internet
#: found no increase of losses.
INITIAL_WINDOW_PACKETS = 10
MINIMUM_WINDOW_PACKETS = 4

#: On a path without delay, data in flight sits in buffers, and the receiving socket's buffer drops
#: the excess. More than this plus the bandwidth-delay product at a rate Python does not reach is
#: never useful.
CWND_CAP_BYTES = 96 * 1024
CWND_CAP_RATE = 64 * 1024 * 1024
#: Between processes of one host the socket buffers are known, in the kernel's accounting: twice
#: the content of large datagrams, of which half stays in reserve.
BUFFER_SHARE = 1 / 4
CWND_CAP_MAX_BYTES = 384 * 1024

#: Packets that may be sent back to back, or those due within this time, because timers of the
#: event loop are late by a millisecond and more.
BURST_PACKETS = 16
BURST_SECONDS = 0.004
#: Shorter round trips are not paced: timers are not precise enough.
PACED_SRTT_SECONDS = 0.004
SLOW_START_GAIN = 2.0
AVOIDANCE_GAIN = 1.25

#: Miss indications after which a chunk is taken as lost, raised up to the maximum on a path that
#: turns out to reorder.
MISS_INDICATIONS = 3
MISS_INDICATIONS_MAX = 32
#: Reordering in time that is tolerated: a share of the round trip, and at least this much.
REORDERING_SHARE = 0.25
REORDERING_MIN_SECONDS = 0.001


def cwnd_cap(receive_buffer: int) -> int:
    """Return the bytes that may be in flight to a socket with this buffer, without path delay."""
    return max(CWND_CAP_BYTES, min(int(receive_buffer * BUFFER_SHARE), CWND_CAP_MAX_BYTES))


class RetransmissionTimeout:
    """The round-trip time and the RTO derived from it (RFC 6298)."""

    def __init__(self) -> None:
        self.srtt: float | None = None
        self.rttvar = 0.0
        self.min_rtt: float | None = None
        self.rto = RTO_INITIAL_SECONDS

    def add_sample(self, rtt: float) -> None:
        """Take a round trip, measured on a chunk that was sent once (Karn's algorithm)."""
        rtt = max(rtt, 0.0)
        if self.srtt is None or self.min_rtt is None:
            self.srtt = rtt
            self.rttvar = rtt / 2
            self.min_rtt = rtt
        else:
            self.rttvar += (abs(self.srtt - rtt) - self.rttvar) / 4
            self.srtt += (rtt - self.srtt) / 8
            self.min_rtt = min(self.min_rtt, rtt)
        rto = self.srtt + max(CLOCK_GRANULARITY_SECONDS, 4 * self.rttvar)
        self.rto = min(max(rto, RTO_MIN_SECONDS), RTO_MAX_SECONDS)

    def back_off(self) -> None:
        """Double the RTO (RFC 6298 5.5)."""
        self.rto = min(self.rto * 2, RTO_MAX_SECONDS)


class CongestionWindow:
    """The number of bytes that may be in flight: cwnd and ssthresh."""

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu
        self.cwnd = INITIAL_WINDOW_PACKETS * mtu
        self.ssthresh: float = float("inf")
        self._partial_bytes_acked = 0
        self._before_reduction = (self.cwnd, self.ssthresh)
        #: Upper limit of `limit` on a path without delay.
        self.cap = CWND_CAP_BYTES

    @property
    def in_slow_start(self) -> bool:
        """True while cwnd is below ssthresh."""
        return self.cwnd < self.ssthresh

    def limit(self, min_rtt: float | None) -> int:
        """Return the effective window: cwnd, capped by the capacity of path and sockets."""
        if min_rtt is None:
            return self.cwnd
        return min(self.cwnd, self.cap + int(CWND_CAP_RATE * min_rtt))

    def on_acknowledged(self, size: int) -> None:
        """Grow for `size` acknowledged bytes.

        To be called only outside of fast recovery and while the window limits sending: a window
        that is not used up is no evidence that it could be larger.
        """
        if self.in_slow_start:
            self.cwnd = int(min(self.cwnd + size, self.ssthresh))
        else:
            self._partial_bytes_acked += size
            while self._partial_bytes_acked >= self.cwnd:
                self._partial_bytes_acked -= self.cwnd
                self.cwnd += self.mtu

    def on_loss(self) -> None:
        """Halve the window for the first loss since the last reduction (RFC 9260 7.2.3)."""
        self._before_reduction = (self.cwnd, self.ssthresh)
        self.ssthresh = max(self.cwnd // 2, MINIMUM_WINDOW_PACKETS * self.mtu)
        self.cwnd = int(self.ssthresh)
        self._partial_bytes_acked = 0

    def undo_reduction(self) -> None:
        """Take the last reduction back, because its cause was late, not lost (RFC 4015)."""
        cwnd, ssthresh = self._before_reduction
        self.cwnd = max(self.cwnd, cwnd)
        self.ssthresh = max(self.ssthresh, ssthresh)

    def on_t3_expired(self) -> None:
        """Start again with one packet (RFC 9260 7.2.3)."""
        self._before_reduction = (self.mtu, 0.0)
        self.ssthresh = max(self.cwnd // 2, MINIMUM_WINDOW_PACKETS * self.mtu)
        self.cwnd = self.mtu
        self._partial_bytes_acked = 0

    def on_idle(self, timeouts: int) -> None:
        """Halve the window once per RTO without sending, down to the initial window."""
        minimum = INITIAL_WINDOW_PACKETS * self.mtu
        for _ in range(min(timeouts, 32)):
            if self.cwnd <= minimum:
                return
            self.ssthresh = max(self.ssthresh, self.cwnd) if self.in_slow_start else self.cwnd
            self.cwnd = max(self.cwnd // 2, minimum)


class Pacer:
    """A token bucket that spreads a window over a round trip."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._updated_at: float | None = None

    def allowance(self, now: float, window: CongestionWindow, srtt: float | None) -> float:
        """Return the bytes that may be sent now."""
        if srtt is None or srtt < PACED_SRTT_SECONDS:
            self._updated_at = None
            return float("inf")
        rate = self._rate(window, srtt)
        burst = max(BURST_PACKETS * window.mtu, rate * BURST_SECONDS)
        if self._updated_at is None:
            self._tokens = burst
        else:
            self._tokens += (now - self._updated_at) * rate
        self._updated_at = now
        self._tokens = min(self._tokens, burst)
        return self._tokens

    def spend(self, size: int) -> None:
        """Take `size` bytes from the bucket."""
        self._tokens -= size

    def delay(self, window: CongestionWindow, srtt: float) -> float:
        """Return seconds until a quarter of a burst may be sent, which keeps timers few."""
        wanted = BURST_PACKETS * window.mtu / 4
        return max((wanted - self._tokens) / self._rate(window, srtt), 0.001)

    def _rate(self, window: CongestionWindow, srtt: float) -> float:
        gain = SLOW_START_GAIN if window.in_slow_start else AVOIDANCE_GAIN
        return gain * window.cwnd / srtt


class LossDetector:
    """Distinguishes lost chunks from late ones, and learns how much the path reorders."""

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
