"""Congestion control and retransmission time-out of an SCTP association; pure, no I/O, no clock.

RFC 9260 section 7 (slow start and congestion avoidance by acknowledged bytes, one reduction per
window), RFC 6298 (RTO), RFC 6928 (initial window), and a token bucket that spreads what the
window allows over the round trip. The times passed in are seconds of any monotonic clock.
"""

from __future__ import annotations

RTO_INITIAL = 1.0
#: The RFC's second is for 1980s clocks; 200 ms is what TCP implementations use. Browsers do
#: not delay an acknowledgement for longer than this, and ours asks for it at once.
RTO_MINIMUM = 0.2
#: A link that comes back is tried again within this many seconds, however long it was gone.
RTO_MAXIMUM = 10.0
#: A sample within the clock's own grain is no variance.
CLOCK_GRANULARITY = 0.001

#: Packets in flight before the first acknowledgement: RFC 6928's ten, which Internet-wide
#: measurements found harmless, instead of the three to four of RFC 9260.
INITIAL_PACKETS = 10
MINIMUM_PACKETS = 4

#: On a path without delay only buffers hold what is in flight, and those of the receiving
#: socket drop what is too much. More than this plus what a round trip can carry at a speed
#: that Python does not reach is therefore never useful.
WINDOW_FLOOR = 96 * 1024
WINDOW_RATE = 64 * 1024 * 1024
#: Between processes of one host their socket buffers are known, as the kernel counts them: twice
#: what it holds of large datagrams, of which half is left as a reserve.
BUFFER_SHARE = 1 / 4
WINDOW_FLOOR_MAXIMUM = 384 * 1024

#: Packets that may leave back to back, or what is due for so many seconds: a timer of the loop
#: is not finer than one millisecond and often later.
BURST_PACKETS = 16
BURST_TIME = 0.004
#: Round trips below this many seconds are not paced: timers are no finer.
PACED_ROUND_TRIP = 0.004
SLOW_START_GAIN = 2.0
AVOIDANCE_GAIN = 1.25


def window_floor(receive_buffer: int) -> int:
    """What may be in flight on a path without delay to a socket that has that buffer, in bytes."""
    return max(WINDOW_FLOOR, min(int(receive_buffer * BUFFER_SHARE), WINDOW_FLOOR_MAXIMUM))


class RetransmissionTimeout:
    """Round-trip time and the time-out derived from it (RFC 6298)."""

    def __init__(self) -> None:
        self.smoothed: float | None = None
        self.variance = 0.0
        self.minimum: float | None = None
        self.value = RTO_INITIAL

    def sample(self, seconds: float) -> None:
        """A round trip measured on a chunk that was sent once (Karn)."""
        seconds = max(seconds, 0.0)
        if self.smoothed is None or self.minimum is None:
            self.smoothed = seconds
            self.variance = seconds / 2
            self.minimum = seconds
        else:
            self.variance += (abs(self.smoothed - seconds) - self.variance) / 4
            self.smoothed += (seconds - self.smoothed) / 8
            self.minimum = min(self.minimum, seconds)
        value = self.smoothed + max(CLOCK_GRANULARITY, 4 * self.variance)
        self.value = min(max(value, RTO_MINIMUM), RTO_MAXIMUM)

    def back_off(self) -> None:
        self.value = min(self.value * 2, RTO_MAXIMUM)


class CongestionWindow:
    """How many bytes may be in flight."""

    def __init__(self, mtu: int) -> None:
        self.mtu = mtu
        self.size = INITIAL_PACKETS * mtu
        self.threshold: float = float("inf")
        self._partial = 0
        self._before_loss = (self.size, self.threshold)
        #: What may be in flight at least if the window is that large.
        self.floor = WINDOW_FLOOR

    @property
    def in_slow_start(self) -> bool:
        return self.size < self.threshold

    def limit(self, minimum_round_trip: float | None) -> int:
        """The window in force: never more than the path and the sockets can hold."""
        if minimum_round_trip is None:
            return self.size
        return min(self.size, self.floor + int(WINDOW_RATE * minimum_round_trip))

    def acknowledged(self, size: int) -> None:
        """`size` bytes were acknowledged, outside of a recovery and while the window was used up.

        To be called only then: a window that is not used is no evidence that it could be larger.
        """
        if self.in_slow_start:
            self.size = int(min(self.size + size, self.threshold))
        else:
            self._partial += size
            while self._partial >= self.size:
                self._partial -= self.size
                self.size += self.mtu

    def lost(self) -> None:
        """Something sent since the last reduction was lost: halve."""
        self._before_loss = (self.size, self.threshold)
        self.threshold = max(self.size // 2, MINIMUM_PACKETS * self.mtu)
        self.size = int(self.threshold)
        self._partial = 0

    def undo(self) -> None:
        """What made us halve last was late, not lost (RFC 4015)."""
        size, threshold = self._before_loss
        self.size = max(self.size, size)
        self.threshold = max(self.threshold, threshold)

    def timed_out(self) -> None:
        """Nothing came back in time: start again with one packet."""
        self._before_loss = (self.mtu, 0.0)
        self.threshold = max(self.size // 2, MINIMUM_PACKETS * self.mtu)
        self.size = self.mtu
        self._partial = 0

    def idle(self, timeouts: int) -> None:
        """Nothing was sent for that many time-outs: halve for each, down to the initial window."""
        floor = INITIAL_PACKETS * self.mtu
        for _ in range(min(timeouts, 32)):
            if self.size <= floor:
                return
            self.threshold = max(self.threshold, self.size) if self.in_slow_start else self.size
            self.size = max(self.size // 2, floor)


class Pacer:
    """A token bucket that lets a window out over a round trip instead of all at once."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._updated: float | None = None

    def allowance(self, now: float, window: CongestionWindow, smoothed: float | None) -> float:
        """Bytes that may leave now."""
        if smoothed is None or smoothed < PACED_ROUND_TRIP:
            self._updated = None
            return float("inf")
        rate = self._rate(window, smoothed)
        burst = max(BURST_PACKETS * window.mtu, rate * BURST_TIME)
        if self._updated is None:
            self._tokens = burst
        else:
            self._tokens += (now - self._updated) * rate
        self._updated = now
        self._tokens = min(self._tokens, burst)
        return self._tokens

    def spend(self, size: int) -> None:
        self._tokens -= size

    def delay(self, window: CongestionWindow, smoothed: float) -> float:
        """Seconds until a quarter of the packets of a burst may leave: few timers are needed."""
        wanted = BURST_PACKETS * window.mtu / 4
        return max((wanted - self._tokens) / self._rate(window, smoothed), 0.001)

    def _rate(self, window: CongestionWindow, smoothed: float) -> float:
        gain = SLOW_START_GAIN if window.in_slow_start else AVOIDANCE_GAIN
        return gain * window.size / smoothed
