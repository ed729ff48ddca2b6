"""Which chunks in flight are lost, by what arrived of those sent later; pure, no I/O, no clock.

Miss indications as in RFC 9260 7.2.4, counted in packets, so that an acknowledgement of several
counts as several. One is enough when that packet was sent clearly later (RFC 8985).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from artico_sync._webrtc.sctp.congestion import RetransmissionTimeout
from artico_sync._webrtc.sctp.outbound_queue import OutboundChunk

#: Packets acknowledged after a missing one before that is taken for lost.
MISSES = 3
#: Grows to this where the path turns out to reorder more.
MISSES_MAXIMUM = 32
#: Reordering in time that is allowed for: this part of a round trip, and never less than so many
#: seconds.
REORDERING_SHARE = 0.25
REORDERING_MINIMUM = 0.001


class LossDetector:
    """Learns how much the path reorders."""

    def __init__(self, timeout: RetransmissionTimeout) -> None:
        self._timeout = timeout
        self._limit = MISSES
        #: Chunks that led to the last reduction of the window, unless they were only late.
        self._suspects: set[int] = set()

    def sample(self, newly: list[OutboundChunk], now: float) -> tuple[list[int], float]:
        """Measure the round trip on what was acknowledged just now.

        Returns the numbers of the packets that arrived for certain, sorted, and when the last of
        them was sent.
        """
        latest: OutboundChunk | None = None
        packets: set[int] = set()
        newest = 0.0
        for chunk in newly:
            if chunk.transmissions == 1:
                if latest is None or chunk.packet > latest.packet:
                    latest = chunk
            elif self.was_first_copy(chunk, now):
                continue
            packets.add(chunk.packet)
            newest = max(newest, chunk.sent_at)
        if latest is not None:
            self._timeout.sample(now - latest.sent_at)
        return sorted(packets), newest

    def sample_once_sent(self, newly: list[OutboundChunk], now: float) -> tuple[list[int], float]:
        """As `sample`, for chunks in the order of their TSNs of which none was sent again."""
        last = newly[-1]
        self._timeout.sample(now - last.sent_at)
        return sorted({chunk.packet for chunk in newly}), last.sent_at

    def was_first_copy(self, chunk: OutboundChunk, now: float) -> bool:
        """Acknowledged sooner than a round trip after it was sent again (RFC 8985 6.2)?"""
        return chunk.transmissions > 1 and now - chunk.sent_at < (self._timeout.minimum or 0.0)

    def find(
        self, flying: Iterable[OutboundChunk], packets: list[int], newest: float
    ) -> list[OutboundChunk]:
        """The lost ones of the chunks in flight, which are in the order they were sent in."""
        if not packets:
            return []
        highest = packets[-1]
        clearly_earlier = newest - self._reordering()
        lost: list[OutboundChunk] = []
        for chunk in flying:
            if chunk.packet >= highest:
                break
            chunk.misses += len(packets) - bisect_right(packets, chunk.packet)
            if chunk.misses >= self._limit or chunk.sent_at < clearly_earlier:
                lost.append(chunk)
        return lost

    def _reordering(self) -> float:
        """Seconds by which a later packet may overtake."""
        timeout = self._timeout
        if timeout.minimum is None or timeout.smoothed is None:
            return REORDERING_MINIMUM
        share = REORDERING_SHARE * (self._limit - MISSES + 1)
        return max(min(share * timeout.minimum, timeout.smoothed), REORDERING_MINIMUM)

    def suspect(self, chunks: list[OutboundChunk], *, anew: bool) -> None:
        """These were taken for lost; `anew` if the window was reduced for them."""
        if anew:
            self._suspects.clear()
        self._suspects.update(chunk.tsn for chunk in chunks)

    def was_late(self, tsn: int) -> bool:
        """A chunk arrived in its first copy. Was all that the reduction was for only late?"""
        if tsn not in self._suspects:
            return False
        self._suspects.discard(tsn)
        self._limit = min(self._limit + 1, MISSES_MAXIMUM)
        return not self._suspects

    def forget(self) -> None:
        """A time-out: whatever was suspected is moot."""
        self._suspects.clear()
