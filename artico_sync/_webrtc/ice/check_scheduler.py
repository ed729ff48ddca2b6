"""The times of connectivity checks: the interval Ta between them, and when to repeat one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioice.ice import CandidatePair

#: Seconds between the first checks, and between later ones. RFC 8445 14.2 recommends 50 ms for
#: agents without knowledge of the path; a few small datagrams do not congest it.
FIRST_INTERVAL_SECONDS = 0.002
LATER_INTERVAL_SECONDS = 0.02
#: The number of checks at the first interval.
FIRST_CHECKS = 20
#: Seconds after which a check in progress is repeated when one of the peer arrives: the peer's NAT
#: may have dropped the first request, and has been opened by the peer's check.
REPEAT_AFTER_SECONDS = 0.05


class CheckScheduler:
    """Starts checks one after another while it runs."""

    def __init__(self, start_check: Callable[[], bool]) -> None:
        """
        Args:
            start_check: Starts the next check; returns False if there is none.
        """
        self._start_check = start_check
        self._timer: asyncio.TimerHandle | None = None
        #: When the timer fires; None if the check is to be started even if it fires late.
        self._due: float | None = None
        self._started = 0
        self.running = False

    def run(self) -> None:
        """Start checks until `stop` is called."""
        self.running = True
        self.wake_up()

    def wake_up(self) -> None:
        """Start the next check as soon as the interval allows; there may be a new one."""
        if self.running and self._timer is None:
            self._start()

    def stop(self) -> None:
        """Start no more checks."""
        self.running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._due is not None and loop.time() - self._due > FIRST_INTERVAL_SECONDS:
            # The loop is busy: the response to the last check may be queued behind its work.
            self._due = None
            self._timer = loop.call_later(FIRST_INTERVAL_SECONDS, self._fire)
        else:
            self._start()

    def _start(self) -> None:
        if not self._start_check():
            return
        self._started += 1
        loop = asyncio.get_running_loop()
        is_first = self._started < FIRST_CHECKS
        self._due = loop.time() + (FIRST_INTERVAL_SECONDS if is_first else LATER_INTERVAL_SECONDS)
        self._timer = loop.call_at(self._due, self._fire)


class CheckTimes:
    """Start times of the checks, by which those worth repeating are found."""

    def __init__(self) -> None:
        self._started_at: dict[CandidatePair, float] = {}
        self._repeat_after: dict[CandidatePair, float] = {}

    def on_start(self, pair: CandidatePair) -> None:
        """Record that a check of `pair` starts."""
        self._started_at[pair] = asyncio.get_running_loop().time()

    def is_overdue(self, pair: CandidatePair) -> bool:
        """Return whether the check of `pair` has been in progress long enough to repeat it."""
        elapsed = asyncio.get_running_loop().time() - self._started_at.get(pair, 0.0)
        return elapsed >= self._repeat_after.get(pair, REPEAT_AFTER_SECONDS)

    def on_repeat(self, pair: CandidatePair) -> None:
        """Double the time until the check of `pair` is repeated again.

        On a slow path, checks that both sides always cancel before the response arrives would
        never succeed.
        """
        self._repeat_after[pair] = 2 * self._repeat_after.get(pair, REPEAT_AFTER_SECONDS)
