"""What goes out on an SCTP association: messages, chunks in flight, acknowledgements; loop thread.

No I/O and no clock: the owner passes the time in and sends what `fill` yields.

A chunk is in exactly one of three places until the cumulative TSN passes it: `_flying` (sent and
not heard of, in the order it was last sent), `_sacked` (reported beyond a gap) or `_lost` (to be
sent again). Where no acknowledgement comes at all, the last chunk is sent again to provoke one,
well before the retransmission time-out (RFC 8985 7).
"""

from __future__ import annotations

from collections import deque

from .sctp_congestion import CongestionWindow, Pacer, RetransmissionTimeout
from .sctp_loss import LossDetector
from .sctp_outbound import OVERHEAD, OutboundChunk, OutboundMessage, SendCounters
from .sctp_packets import (
    DATA_HEADER_LENGTH,
    FLAG_BEGIN,
    FLAG_END,
    FLAG_IMMEDIATE,
    FLAG_UNORDERED,
    TSN_MODULO,
    Sack,
    data_header,
    padding,
    unwrap,
)

#: A packet costs the receiving socket about this much, however small it is.
SMALLEST_CHARGE = 400
#: Seconds that either side's loop may be busy before the silence means something.
PROBE_MARGIN = 0.01
#: Longest pause between probes of a shut window, in seconds. The peer says when it opens; this
#: is for when that gets lost.
WINDOW_PROBE_MAXIMUM = 5.0
#: Time-outs in a row after which the peer is given up (Association.Max.Retrans).
TIMEOUTS_MAXIMUM = 10


class SendQueue:
    """Messages to send and chunks to be acknowledged."""

    def __init__(self, initial_tsn: int, mtu: int) -> None:
        #: Bytes of room for chunks in a packet.
        self.mtu = mtu
        self.window = CongestionWindow(mtu)
        self.timeout = RetransmissionTimeout()
        self.pacer = Pacer()
        self._losses = LossDetector(self.timeout)
        self.counters = SendCounters()
        #: Cost of what is accepted and not acknowledged.
        self.pending = 0
        self.peer_window = 0
        self.flight = 0
        #: The acknowledgement of the last chunk is awaited: it shall not be delayed (RFC 7053).
        self.hurry = False
        #: Time-outs without a word from the peer since.
        self.failures = 0
        self.sequences: dict[int, int] = {}
        self._queue: deque[OutboundMessage] = deque()
        self._next_tsn = initial_tsn + TSN_MODULO
        self._acknowledged = self._next_tsn - 1
        self._flying: dict[int, OutboundChunk] = {}
        self._sacked: dict[int, OutboundChunk] = {}
        self._lost: dict[int, OutboundChunk] = {}
        self._outstanding = 0  # user bytes the peer's window is charged with
        self._packet = 0
        self._last_sent = 0.0
        self._recovery_exit: int | None = None
        self._reduced_at = 0  # packets up to this one were sent before the last reduction
        self._rescue = False  # the first retransmission of a recovery ignores the window
        self._probed = False  # the last chunk was sent again to provoke an acknowledgement
        self._window_probes = 0  # how often the shut window was probed
        self._window_probe_due = False
        #: The earliest chunk without acknowledgement was sent again since the owner last looked.
        self.earliest_resent = False

    @property
    def outstanding(self) -> bool:
        """Is anything sent and not acknowledged?"""
        return bool(self._flying or self._lost or self._sacked)

    @property
    def to_resend(self) -> bool:
        return bool(self._lost)

    @property
    def backlog(self) -> bool:
        """Is there enough to send that packets might be larger?"""
        return bool(self._queue) and self.pending > 4 * self.mtu

    def resize(self, mtu: int) -> None:
        """Fill packets of this many bytes from now on. What has a TSN keeps its size."""
        self.mtu = self.window.mtu = mtu

    @property
    def next_tsn(self) -> int:
        """The TSN of the next new chunk, 32 bits."""
        return self._next_tsn % TSN_MODULO

    @property
    def waits_for_window(self) -> bool:
        """Does the peer's window alone keep back what is queued?"""
        return bool(self._queue) and not self.outstanding and not self._window_probe_due

    def timer(self) -> float:
        """Seconds of silence until `timed_out` or, sooner, `probe` is to be called."""
        timeout = self.timeout
        if not self.outstanding:
            return min(timeout.value * (1 << self._window_probes), WINDOW_PROBE_MAXIMUM)
        if self._probed or timeout.smoothed is None:
            return timeout.value
        patience = timeout.smoothed + max(timeout.smoothed, 4 * timeout.variance) + PROBE_MARGIN
        return min(patience, timeout.value)

    def has_queued(self, stream: int) -> bool:
        return any(message.stream == stream for message in self._queue)

    def put(self, message: OutboundMessage) -> None:
        self._queue.append(message)
        self.pending += message.cost

    # Sending

    def ready(self, now: float) -> float | None:
        """Seconds until something may be sent: 0 for now, None while only the peer can say."""
        if not (self._lost or self._queue) or not self._may_send(first=True):
            return None
        smoothed = self.timeout.smoothed
        if self._rescue or self.pacer.allowance(now, self.window, smoothed) > 0:
            return 0.0
        assert smoothed is not None
        return self.pacer.delay(self.window, smoothed)

    def fill(self, room: int, now: float, single: bool) -> list[bytes | memoryview]:
        """The chunks of one packet, in at most `room` bytes and one chunk if `single`."""
        parts: list[bytes | memoryview] = []
        if not (self._lost or self._queue):
            return parts
        self._after_idle(now)
        self._packet += 1
        used = 0
        last: OutboundChunk | None = None
        while used < room and self._may_send(first=not parts):
            if self._lost:
                tsn = next(iter(self._lost))
                chunk = self._lost[tsn]
                if used + chunk.wire > room and parts:
                    break
                del self._lost[tsn]
                if tsn == self._acknowledged + 1:
                    self.earliest_resent = True
                self.counters.retransmissions += 1
            elif self._queue and (used == 0 or room - used >= self._least(self._queue[0])):
                chunk = self._cut(room - used)
            else:
                break
            self._rescue = False
            if self._window_probe_due:
                self._window_probe_due = False
                self._window_probes = min(self._window_probes + 1, 16)
            chunk.charge = chunk.wire
            self._launch(chunk, now)
            parts.append(chunk.header)
            parts.append(chunk.payload)
            if chunk.size % 4:
                parts.append(padding(chunk.size))
            used += chunk.wire
            last = chunk
            if single:
                break
        if last is None:
            self._packet -= 1
            return parts
        if used < SMALLEST_CHARGE:
            last.charge += SMALLEST_CHARGE - used
            self.flight += SMALLEST_CHARGE - used
        self.counters.packets += 1
        self.pacer.spend(used)
        self._last_sent = now
        return parts

    def _may_send(self, *, first: bool) -> bool:
        if self._lost:
            if self._rescue or not self._flying:
                return first or self.flight < self.window.size
            return self.flight < self.window.limit(self.timeout.minimum)
        if not self._queue:
            return False
        if self.flight >= self.window.limit(self.timeout.minimum):
            return False
        message = self._queue[0]
        size = min(len(message.data) - message.position, self.mtu - DATA_HEADER_LENGTH)
        if self._outstanding + size <= self.peer_window:
            return True
        # A shut window is probed with one chunk at a time (RFC 9260 6.1 A).
        return first and self._window_probe_due and not self.outstanding

    def _least(self, message: OutboundMessage) -> int:
        """The room below which beginning this message in a packet only makes another chunk."""
        left = len(message.data) - message.position + DATA_HEADER_LENGTH
        return left + (-left % 4) if left <= self.mtu // 2 else self.mtu // 2

    def _cut(self, room: int) -> OutboundChunk:
        """The next chunk of the first message in the queue."""
        message = self._queue[0]
        position = message.position
        total = len(message.data)
        size = min(total - position, (room - DATA_HEADER_LENGTH) & ~3)
        flags = FLAG_UNORDERED if message.unordered else 0
        if not position:
            flags |= FLAG_BEGIN
            if not message.unordered:
                message.sequence = self.sequences.get(message.stream, 0)
                self.sequences[message.stream] = (message.sequence + 1) & 0xFFFF
        cost = size
        payload: bytes | memoryview
        if position + size == total:
            flags |= FLAG_END
            cost += OVERHEAD
            payload = memoryview(message.data)[position:] if position else message.data
            self._queue.popleft()
            if self.hurry and not self._queue:
                flags |= FLAG_IMMEDIATE
        else:
            message.position = position + size
            payload = memoryview(message.data)[position : position + size]
        tsn = self._next_tsn
        self._next_tsn += 1
        header = data_header(
            flags, size, tsn & 0xFFFFFFFF, message.stream, message.sequence, message.protocol
        )
        return OutboundChunk(tsn, header, payload, cost)

    def _launch(self, chunk: OutboundChunk, now: float) -> None:
        chunk.packet = self._packet
        chunk.sent_at = now
        chunk.transmissions += 1
        chunk.misses = 0
        self.flight += chunk.charge
        self._outstanding += chunk.size
        self._flying[chunk.tsn] = chunk

    def _after_idle(self, now: float) -> None:
        if not self.outstanding and self._last_sent:
            idle = int((now - self._last_sent) / self.timeout.value)
            if idle > 0:
                self.window.idle(idle)

    # Acknowledgements

    def acknowledge(self, sack: Sack, now: float) -> bool:
        """Take in a SACK. Did the cumulative TSN advance? Raises ValueError for a false one."""
        cumulative = unwrap(sack.cumulative, self._acknowledged)
        if cumulative >= self._next_tsn:
            raise ValueError("SACK for a TSN that was never sent")
        if cumulative < self._acknowledged:
            return False
        limited = self._limited()
        self.failures = 0
        newly: list[OutboundChunk] = []
        for tsn in range(self._acknowledged + 1, cumulative + 1):
            chunk = self._flying.pop(tsn, None)
            if chunk is not None:
                self._land(chunk)
                newly.append(chunk)
            else:
                chunk = self._sacked.pop(tsn, None)
                if chunk is None:
                    chunk = self._lost.pop(tsn)
                    self._was_late(tsn)
            self.pending -= chunk.cost
        advanced = cumulative > self._acknowledged
        self._acknowledged = cumulative
        if sack.gaps:
            self._take_gaps(sack, newly)
        for tsn in sack.duplicates:
            self._was_late(unwrap(tsn, cumulative))
        lost = False
        if newly:
            self._probed = False
            for chunk in newly:
                if chunk.transmissions > 1 and self._losses.was_first_copy(chunk, now):
                    self._was_late(chunk.tsn)
            packets, newest = self._losses.sample(newly, now)
            lost = self._lose(self._losses.find(self._flying.values(), packets, newest))
        if sack.window and not self.peer_window and self._window_probes:
            # What probed the shut window was refused; it is welcome now.
            self._give_up_flying()
        if sack.window:
            self._window_probes = 0
            self._window_probe_due = False
        self.peer_window = sack.window
        if self._recovery_exit is not None and cumulative >= self._recovery_exit:
            self._recovery_exit = None
            self._rescue = False
        if lost:
            if self._recovery_exit is None:
                self._rescue = True
            self._recovery_exit = self._next_tsn - 1
        elif advanced and self._recovery_exit is None and limited:
            self.window.acknowledged(sum(chunk.charge for chunk in newly))
        return advanced

    def _limited(self) -> bool:
        """Is it the congestion window, or its pace, that keeps back what waits?"""
        if not (self._lost or self._queue) or self._outstanding + self.mtu > self.peer_window:
            return False
        return self.window.size <= self.window.limit(self.timeout.minimum)

    def _take_gaps(self, sack: Sack, newly: list[OutboundChunk]) -> None:
        limit = self._next_tsn - 1
        for start, end in sack.gaps:
            first = self._acknowledged + start
            if first > limit:
                return
            for tsn in range(first, min(self._acknowledged + end, limit) + 1):
                chunk = self._flying.pop(tsn, None)
                if chunk is not None:
                    self._land(chunk)
                    newly.append(chunk)
                    self._sacked[tsn] = chunk
                elif tsn in self._lost:
                    self._sacked[tsn] = chunk = self._lost.pop(tsn)
                    self._was_late(tsn)

    def _land(self, chunk: OutboundChunk) -> None:
        self.flight -= chunk.charge
        self._outstanding -= chunk.size

    def _was_late(self, tsn: int) -> None:
        """A chunk taken for lost had arrived after all."""
        if self._losses.was_late(tsn):
            self.window.undo()
            self._recovery_exit = None
            self._rescue = False

    def _lose(self, lost: list[OutboundChunk]) -> bool:
        """Have chunks sent again. Was one of them sent since the last reduction?"""
        reduce = False
        for chunk in lost:
            del self._flying[chunk.tsn]
            self._land(chunk)
            self._lost[chunk.tsn] = chunk
            reduce = reduce or chunk.packet > self._reduced_at
        if reduce:
            self.window.lost()
            self._reduced_at = self._packet
        self._losses.suspect(lost, anew=reduce)
        return reduce

    def _give_up_flying(self) -> None:
        """Send again what is in flight, through no fault of the network."""
        for chunk in self._flying.values():
            self._land(chunk)
            self._lost[chunk.tsn] = chunk
        self._flying.clear()

    def probe(self) -> bool:
        """The silence has lasted `timer()` seconds. False: it is a time-out, see `timed_out`."""
        if not self.outstanding:
            self._window_probe_due = bool(self._queue)
            return True
        if self._probed or not self._flying:
            return False
        self._probed = True
        overtaken = [chunk for chunk in self._flying.values() if chunk.misses]
        if overtaken:
            if self._lose(overtaken):
                self._recovery_exit = self._next_tsn - 1
        else:
            last = next(reversed(self._flying.values()))
            del self._flying[last.tsn]
            self._land(last)
            self._lost[last.tsn] = last
        self._rescue = True
        return True

    def timed_out(self) -> bool:
        """T3 expired. Is the peer to be given up?"""
        self.counters.timeouts += 1
        self.failures += 1
        # What was reported beyond a gap may have been dropped since (RFC 2018 section 8).
        self._give_up_flying()
        everything = {**self._sacked, **self._lost}
        self._sacked.clear()
        self._lost = {tsn: everything[tsn] for tsn in sorted(everything)}
        self._losses.forget()
        self._recovery_exit = None
        self._rescue = False
        self._probed = False
        self._reduced_at = self._packet
        self.window.timed_out()
        self.timeout.back_off()
        return self.failures > TIMEOUTS_MAXIMUM
