"""Offers that wait for their answers, how long they wait, and answers that may be lost.

An answer of a JavaScript peer does not say which offer it is to, but answers arrive in the order of
the offers: one for each copy that was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from artico_sync._engine.signal_queues import Signal

#: Time a browser gets to repeat an offer that it rolled back for a local one. Chromium forgets to
#: if another local offer arrives in between; the next local offer reminds it.
REMINDER_SECONDS = 0.5
#: Time a peer that has lost the server may take to return before it counts as not answering.
PEER_RETURN_SECONDS = 60.0
#: Time for which an answer may have been lost with the signaling connection.
ANSWER_IN_DOUBT_SECONDS = 60.0
#: Times an offer stays unanswered before it gives way to a browser's in glare; each wait is twice
#: as long as the one before.
GIVE_WAY_ATTEMPTS = 2
#: Longest wait for an answer, in multiples of the shortest; long where signals take long.
TIMEOUT_FACTOR_MAX = 8


class NegotiationError(Exception):
    """The peer does not answer; the shared tracks stay as they were."""


@dataclass
class PendingOffer:
    """A local offer that has not been answered yet.

    Attributes:
        token: Names it in the answer of an artico_sync peer.
        sent_at, first_sent_at: The times of its last and first copy.
        changed: Set when it was answered or withdrawn, or a new copy is due.
        copies: The number of copies sent, each of which a JavaScript peer may answer.
    """

    token: str
    signal: Signal
    sent_at: float
    changed: asyncio.Event
    first_sent_at: float
    copies: int = 1


@dataclass
class SentAnswer:
    """The last answer sent.

    Attributes:
        token, identity: Those of its offer.
        is_refusable: The peer may refuse it, because it may have rolled back its offer since.
        has_arrived: Another description of the peer arrived since.
    """

    signal: Signal
    sent_at: float
    token: object
    identity: int
    is_refusable: bool
    has_arrived: bool = False

    def is_to(self, identity: int, token: object) -> bool:
        """Return True if it answers this offer."""
        return token == self.token and (token is not None or identity == self.identity)

    def is_in_doubt(self, now: float) -> bool:
        """Return True if it may have been lost with the signaling connection."""
        return not self.has_arrived and now - self.sent_at < ANSWER_IN_DOUBT_SECONDS


class PeerAbsence:
    """Knows from delivery reports whether the peer is disconnected from the server."""

    def __init__(self) -> None:
        self._since: float | None = None

    def on_delivery_report(self, delivered: bool | None, now: float) -> None:
        """Note whether a signal could be delivered; None if the server does not say."""
        if delivered is not False:
            self._since = None
        elif self._since is None:
            self._since = now

    def is_recent(self, now: float) -> bool:
        """Return True if the peer has left so recently that it may be about to return."""
        return self._since is not None and now - self._since <= PEER_RETURN_SECONDS


class AnswerTracker:
    """The timeout for answers, and the number of answers still to arrive.

    Args:
        shortest: Shortest timeout in seconds.
        on_missed: Called when repeated answers are overdue and no longer expected.
    """

    def __init__(self, shortest: float, on_missed: Callable[[], None]) -> None:
        self._shortest = shortest
        self._on_missed = on_missed
        self._timer: asyncio.TimerHandle | None = None
        #: Seconds until an answer is overdue.
        self.timeout = shortest
        #: Answers still to arrive to copies of an offer that has been answered.
        self.repeated = 0

    def on_answer(self, seconds: float) -> None:
        """Record an answer's latency; the timeout becomes twice that."""
        self.timeout = min(max(2 * seconds, self._shortest), TIMEOUT_FACTOR_MAX * self._shortest)

    def on_no_answer(self) -> None:
        """Double the timeout, because it has passed."""
        self.on_answer(self.timeout)

    def on_answered(self, offer: PendingOffer, now: float, *, was_ringing: bool) -> None:
        """Learn from the answer to an offer, and expect those to its copies.

        While it rang, the time until the answer says nothing about the peer.
        """
        if not was_ringing:
            self.on_answer(now - offer.first_sent_at)
        self.expect_repeated(offer.copies - 1)

    def expect_repeated(self, count: int) -> None:
        """Expect this number of answers to copies of an offer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.repeated = count
        if count:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.timeout, self._give_up)

    def is_repeated(self) -> bool:
        """Count an answer; return True if it is one of those."""
        if not self.repeated:
            return False
        self.expect_repeated(self.repeated - 1)
        return True

    def _give_up(self) -> None:
        self.expect_repeated(0)
        self._on_missed()


class OfferReminder:
    """Waits for a browser to repeat the offer that it has rolled back."""

    def __init__(self, on_overdue: Callable[[], None]) -> None:
        self._on_overdue = on_overdue
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """True while the offer is expected."""
        return self._timer is not None

    def start(self) -> None:
        """Expect the offer."""
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(REMINDER_SECONDS, self._expire)

    def stop(self) -> None:
        """Expect it no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self._on_overdue()
