"""How long the answer to an offer may take, and how many answers are still to come; loop thread.

An answer of a JavaScript peer does not say which offer it is for, but answers come in the order of
the offers: as many as copies were sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: How many times the shortest wait the longest is, where signals take long.
PATIENCE = 8


class AnswerTracker:
    """Part of a negotiation, which ends it by expecting none."""

    def __init__(self, shortest: float, missed: Callable[[], None]) -> None:
        """
        Args:
            shortest: Seconds an answer gets at least.
            missed: Called when no more of the repeated answers is expected, for they are late.
        """
        self._shortest = shortest
        self._missed = missed
        self._timer: asyncio.TimerHandle | None = None
        #: Seconds an answer gets.
        self.timeout = shortest
        #: Answers to come to copies of an offer that has been answered.
        self.repeated = 0

    def answered(self, seconds: float) -> None:
        """An answer took so long: the next may take twice as long."""
        self.timeout = min(max(2 * seconds, self._shortest), PATIENCE * self._shortest)

    def not_answered(self) -> None:
        """No answer came in time."""
        self.answered(self.timeout)

    def expect_repeated(self, count: int) -> None:
        """So many answers are to come to copies of an offer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.repeated = count
        if count:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.timeout, self._give_up)

    def take_repeated(self) -> bool:
        """An answer came. Is it one of those?"""
        if not self.repeated:
            return False
        self.expect_repeated(self.repeated - 1)
        return True

    def _give_up(self) -> None:
        self.expect_repeated(0)
        self._missed()
