"""When an SCTP association acknowledges what came (RFC 9260 6.2); loop thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from artico_sync._webrtc.sctp.receive_queue import ReceiveQueue
from artico_sync._webrtc.sctp.timer import Timer

#: Packets with data in one acknowledgement to a peer that counts what is acknowledged; others
#: get one for each. The larger number is for floods, where the loss of one matters less: it
#: holds from so many packets in a pass of the loop.
PACKETS_PER_SACK = 4
PACKETS_PER_SACK_IN_FLOOD = 16
FLOOD = 12
#: Seconds for which a single packet of such a peer waits for data of ours to carry its
#: acknowledgement, unless the peer asks for it at once (RFC 7053).
SACK_DELAY = 0.002


class SackScheduler:
    """Part of an association, and ended by it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, receives: ReceiveQueue, due: Callable[[], None]
    ) -> None:
        self._receives = receives
        #: An acknowledgement is to leave in this pass of the loop, with data or without.
        self.is_due = False
        #: Packets with data since our last acknowledgement.
        self.unacknowledged = 0
        self._packets_in_pass = 0
        self._patient = False
        self._timer = Timer(loop, due)

    def start(self, *, patient: bool) -> None:
        """The peer is known. `patient`: it counts what is acknowledged."""
        self._patient = patient

    def end(self) -> None:
        self._timer.cancel()

    def begin_pass(self) -> None:
        """What came before this pass of the loop was no part of a flood."""
        self._packets_in_pass = 0

    def packet_came(self) -> bool:
        """Count a packet with data. Is it time to acknowledge, at once?"""
        self.unacknowledged += 1
        self._packets_in_pass += 1
        return self.unacknowledged >= self._limit()

    def _limit(self) -> int:
        if not self._patient:
            return 1
        return PACKETS_PER_SACK_IN_FLOOD if self._packets_in_pass > FLOOD else PACKETS_PER_SACK

    def may_wait(self) -> bool:
        """Can the packet just counted wait for data of ours? The timer sees to it if none comes."""
        if self._packets_in_pass > 1:
            return False
        self._packets_in_pass = 0
        self._timer.start(SACK_DELAY)
        return True

    def take(self, room: int) -> bytes:
        """The acknowledgement as it has to be now, a chunk of at most `room` bytes."""
        self.is_due = False
        self.unacknowledged = 0
        self._timer.stop()
        return self._receives.encode_sack(room)
