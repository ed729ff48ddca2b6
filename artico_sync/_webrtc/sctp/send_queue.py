"""What goes out on an SCTP association: messages, chunks in flight, acknowledgements; loop thread.

No I/O and no clock: the owner passes the time in and sends what `fill` yields.

A chunk is in exactly one of three places until the cumulative TSN passes it: `_flying` (sent and
not heard of, in the order it was last sent), `_sacked` (reported beyond a gap) or `_lost` (to be
sent again). Where no acknowledgement comes at all, the last chunk is sent again to provoke one,
well before the retransmission time-out (RFC 8985 7).
"""

from __future__ import annotations

from math import inf

from artico_sync._webrtc.sctp.congestion import CongestionWindow, Pacer, RetransmissionTimeout
from artico_sync._webrtc.sctp.loss import LossDetector
from artico_sync._webrtc.sctp.outbound_queue import (
    OVERHEAD,
    OutboundChunk,
    OutboundMessage,
    OutboundMessages,
    SendCounters,
)
from artico_sync._webrtc.sctp.packets import DATA_HEADER_LENGTH, TSN_MODULO, Sack, unwrap

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
        #: Bytes of it for one chunk.
        self.largest_chunk = mtu
        self.window = CongestionWindow(mtu)
        self.timeout = RetransmissionTimeout()
        self.pacer = Pacer()
        self._losses = LossDetector(self.timeout)
        self.counters = SendCounters()
        #: Cost of what is accepted and not acknowledged.
        self.pending = 0
        self.peer_window = 0
        self.flight = 0
        #: Time-outs without a word from the peer since.
        self.failures = 0
        #: Silences since the earliest chunk without acknowledgement is the same.
        self.stalls = 0
        self.outbound = OutboundMessages(initial_tsn)
        self._queue = self.outbound.messages
        self._acknowledged = self.outbound.next_tsn - 1
        self._flying: dict[int, OutboundChunk] = {}
        self._sacked: dict[int, OutboundChunk] = {}
        self._lost: dict[int, OutboundChunk] = {}
        # What the peer's window is charged with: it counts what a message costs beside its bytes.
        self._outstanding = 0
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
    def has_work(self) -> bool:
        """Does anything wait to be sent, allowed or not?"""
        return bool(self._queue or self._lost)

    @property
    def to_resend(self) -> bool:
        return bool(self._lost)

    @property
    def backlog(self) -> bool:
        """Is there enough to send that packets might be larger?"""
        return bool(self._queue) and self.pending > 4 * self.mtu

    def resize(self, mtu: int, largest_chunk: int) -> None:
        """Fill packets of this many bytes from now on. What has a TSN keeps its size."""
        self.mtu = self.window.mtu = mtu
        self.largest_chunk = largest_chunk

    def path_changed(self) -> None:
        """What was learnt of the network holds no more, and what is in flight may be lost with
        the old path: send it again."""
        self.window = CongestionWindow(self.mtu)
        self.timeout = RetransmissionTimeout()
        self.pacer = Pacer()
        self._losses = LossDetector(self.timeout)
        self.failures = self.stalls = 0
        self._recovery_exit = None
        self._reduced_at = self._packet
        self._rescue = self._probed = False
        self._window_probes = 0
        self._window_probe_due = self.waits_for_window or self._window_probe_due
        self._give_up_flying()

    @property
    def next_tsn(self) -> int:
        """The TSN of the next new chunk, 32 bits."""
        return self.outbound.next_tsn % TSN_MODULO

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
        used, last = self._resend(parts, room, now, single) if self._lost else (0, None)
        if not self._lost and not (single and parts):
            used, last = self._send(parts, room, used, last, now, single)
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

    def _resend(
        self, parts: list[bytes | memoryview], room: int, now: float, single: bool
    ) -> tuple[int, OutboundChunk | None]:
        """Add lost chunks to a packet. How many bytes of it are used, and the last of them."""
        used = 0
        last: OutboundChunk | None = None
        while self._lost and used < room and self._may_send(first=not parts):
            tsn = next(iter(self._lost))
            chunk = self._lost[tsn]
            if used + chunk.wire > room and parts:
                break
            del self._lost[tsn]
            if tsn == self._acknowledged + 1:
                self.earliest_resent = True
            self.counters.retransmissions += 1
            self._rescue = False
            chunk.packet = self._packet
            chunk.sent_at = now
            chunk.transmissions += 1
            chunk.misses = 0
            chunk.charge = chunk.wire
            self._fly(chunk)
            chunk.add_to(parts)
            used += chunk.wire
            last = chunk
            if single:
                break
        return used, last

    def _send(
        self,
        parts: list[bytes | memoryview],
        room: int,
        used: int,
        last: OutboundChunk | None,
        now: float,
        single: bool,
    ) -> tuple[int, OutboundChunk | None]:
        """Add new chunks, as `_resend` does."""
        outbound = self.outbound
        queue = outbound.messages
        limit = self.window.limit(self.timeout.minimum)
        while queue and used < room and self.flight < limit and self._is_welcome(first=not parts):
            if used and room - used < self._least(queue[0]):
                break
            self._rescue = False
            if self._window_probe_due:
                self._window_probe_due = False
                self._window_probes = min(self._window_probes + 1, 16)
            wire = room - used
            if wire > self.largest_chunk:
                wire = self.largest_chunk
            last = outbound.cut(wire - DATA_HEADER_LENGTH, self._packet, now)
            self._fly(last)
            last.add_to(parts)
            used += last.wire
            if single:
                break
        return used, last

    def _may_send(self, *, first: bool) -> bool:
        if self._lost:
            if self._rescue or not self._flying:
                return first or self.flight < self.window.size
            return self.flight < self.window.limit(self.timeout.minimum)
        if not self._queue or self.flight >= self.window.limit(self.timeout.minimum):
            return False
        return self._is_welcome(first=first)

    def _is_welcome(self, *, first: bool) -> bool:
        """Does the peer's window admit the next new chunk?"""
        message = self._queue[0]
        cost = len(message.data) - message.position + OVERHEAD
        if cost > self.largest_chunk:
            cost = self.largest_chunk
        if self._outstanding + cost <= self.peer_window:
            return True
        # A shut window is probed with one chunk at a time (RFC 9260 6.1 A).
        return first and self._window_probe_due and not self.outstanding

    def _least(self, message: OutboundMessage) -> int:
        """The room below which beginning this message in a packet only makes another chunk."""
        left = len(message.data) - message.position + DATA_HEADER_LENGTH
        half = self.largest_chunk // 2
        return left + (-left & 3) if left <= half else half

    def _fly(self, chunk: OutboundChunk) -> None:
        self.flight += chunk.charge
        self._outstanding += chunk.cost
        self._flying[chunk.tsn] = chunk

    def _after_idle(self, now: float) -> None:
        if not self._flying and not self.outstanding and self._last_sent:
            idle = int((now - self._last_sent) / self.timeout.value)
            if idle > 0:
                self.window.idle(idle)

    # Acknowledgements

    def acknowledge(self, sack: Sack, now: float) -> bool:
        """Take in a SACK. Did the cumulative TSN advance? Raises ValueError for a false one."""
        cumulative = unwrap(sack.cumulative, self._acknowledged)
        if cumulative >= self.outbound.next_tsn:
            raise ValueError("SACK for a TSN that was never sent")
        if cumulative < self._acknowledged:
            return False
        limited = self._limited()
        self.failures = 0
        newly: list[OutboundChunk] = []
        flying = self._flying
        for tsn in range(self._acknowledged + 1, cumulative + 1):
            chunk = flying.pop(tsn, None)
            if chunk is not None:
                self.flight -= chunk.charge
                self._outstanding -= chunk.cost
                newly.append(chunk)
            else:
                chunk = self._sacked.pop(tsn, None)
                if chunk is None:
                    chunk = self._lost.pop(tsn)
                    self._was_late(tsn)
            self.pending -= chunk.cost
        advanced = cumulative > self._acknowledged
        if advanced:
            self.stalls = 0
        self._acknowledged = cumulative
        if sack.gaps:
            self._take_gaps(sack, newly)
        for tsn in sack.duplicates:
            self._was_late(unwrap(tsn, cumulative))
        lost = False
        if newly:
            self._probed = False
            resent = [chunk for chunk in newly if chunk.transmissions > 1]
            packets: list[int] = []
            newest = 0.0
            for chunk in resent:
                if self._losses.was_first_copy(chunk, now):
                    self._was_late(chunk.tsn)
            if resent:
                packets, newest = self._losses.sample(newly, now)
            elif flying:
                packets, newest = self._losses.sample_once_sent(newly, now)
            else:
                self.timeout.sample(now - newly[-1].sent_at)
            if flying:
                lost = self._lose(self._losses.find(flying.values(), packets, newest))
        if sack.window and not self.peer_window:
            # What came to a shut window was refused; it is welcome now.
            self._give_up_flying(now - (self.timeout.minimum or 0.0))
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
            self._recovery_exit = self.outbound.next_tsn - 1
        elif advanced and self._recovery_exit is None and limited:
            self.window.acknowledged(sum([chunk.charge for chunk in newly]))
        return advanced

    def _limited(self) -> bool:
        """Is it the congestion window, or its pace, that keeps back what waits?"""
        if not (self._lost or self._queue) or self._outstanding + self.mtu > self.peer_window:
            return False
        return self.window.size <= self.window.limit(self.timeout.minimum)

    def _take_gaps(self, sack: Sack, newly: list[OutboundChunk]) -> None:
        limit = self.outbound.next_tsn - 1
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
        self._outstanding -= chunk.cost

    def _was_late(self, tsn: int) -> None:
        """A chunk taken for lost had arrived after all."""
        if self._losses.was_late(tsn):
            self.window.undo()
            self._recovery_exit = None
            self._rescue = False

    def _lose(self, lost: list[OutboundChunk]) -> bool:
        """Have chunks sent again. Was one of them sent since the last reduction?"""
        reduce = False
        if not lost:
            return reduce
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

    def _give_up_flying(self, sent_until: float = inf) -> None:
        """Send again what is in flight since then, through no fault of the network."""
        for chunk in list(self._flying.values()):
            if chunk.sent_at <= sent_until:
                del self._flying[chunk.tsn]
                self._land(chunk)
                self._lost[chunk.tsn] = chunk
        # The peer may take in no more than the first of it.
        self._lost = dict(sorted(self._lost.items()))

    def probe(self) -> bool:
        """The silence has lasted `timer()` seconds. False: it is a time-out, see `timed_out`."""
        if not self.outstanding:
            self._window_probe_due = bool(self._queue)
            return True
        if self._probed or not self._flying:
            return False
        self._probed = True
        self._stall()
        overtaken = [chunk for chunk in self._flying.values() if chunk.misses]
        if overtaken:
            if self._lose(overtaken):
                self._recovery_exit = self.outbound.next_tsn - 1
        else:
            last = next(reversed(self._flying.values()))
            del self._flying[last.tsn]
            self._land(last)
            self._lost[last.tsn] = last
        self._rescue = True
        return True

    def _stall(self) -> None:
        # A shut window refuses what comes; that tells nothing of the path.
        if self.peer_window:
            self.stalls += 1

    def timed_out(self) -> bool:
        """T3 expired. Is the peer to be given up?"""
        self.counters.timeouts += 1
        self.failures += 1
        self._stall()
        # What was reported beyond a gap may have been dropped since (RFC 2018 section 8).
        self._lost.update(self._sacked)
        self._sacked.clear()
        self._give_up_flying()
        self._losses.forget()
        self._recovery_exit = None
        self._rescue = False
        self._probed = False
        self._reduced_at = self._packet
        self.window.timed_out()
        self.timeout.back_off()
        return self.failures > TIMEOUTS_MAXIMUM
