"""When the next connectivity check of a connection is started; loop thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Seconds between the first checks, and between those after them (RFC 8445 asks 50 ms of
#: agents that know nothing of the path; a handful of small datagrams harms none).
PACE_FIRST = 0.002
PACE_LATER = 0.02
#: How many checks count as the first.
FIRST_CHECKS = 20


class Pacer:
    """Has checks started one after another, for as long as it runs."""

    def __init__(self, start_check: Callable[[], bool]) -> None:
        """
        Args:
            start_check: Starts the next check; False where there is none to start.
        """
        self._start_check = start_check
        self._timer: asyncio.TimerHandle | None = None
        #: When that fires; None where the check is to be started however late it does.
        self._due: float | None = None
        self._started = 0
        self.running = False

    def run(self) -> None:
        self.running = True
        self.look()

    def look(self) -> None:
        """There may be a check to start: do it now, unless one was started a moment ago."""
        if self.running and self._timer is None:
            self._start()

    def stop(self) -> None:
        self.running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._due is not None and loop.time() - self._due > PACE_FIRST:
            # The loop is busy: the answer to the last check may wait behind what it has to do.
            self._due = None
            self._timer = loop.call_later(PACE_FIRST, self._fire)
        else:
            self._start()

    def _start(self) -> None:
        if not self._start_check():
            return
        self._started += 1
        loop = asyncio.get_running_loop()
        self._due = loop.time() + (PACE_FIRST if self._started < FIRST_CHECKS else PACE_LATER)
        self._timer = loop.call_at(self._due, self._fire)
