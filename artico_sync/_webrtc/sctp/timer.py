"""A timer that is moved far more often than it fires; loop thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls `expired` at the deadline. Moving that to a later time costs next to nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._deadline: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        #: When that one fires. uvloop's handles do not tell for a time that has come already.
        self._fires_at = 0.0
        #: Seconds by which the last expiry came too late.
        self.late = 0.0
        #: Is it to expire once more, having come too late?
        self.postponed = False

    @property
    def running(self) -> bool:
        return self._deadline is not None

    def start(self, seconds: float) -> None:
        """Set or move the deadline to so many seconds from now."""
        deadline = self._loop.time() + seconds
        self._deadline = deadline
        self.postponed = False
        if self._handle is not None:
            if self._fires_at <= deadline:
                return
            self._handle.cancel()
        self._fires_at = deadline
        self._handle = self._loop.call_at(deadline, self._fire)

    def postpone(self, seconds: float) -> None:
        """Expire once more that many seconds from now."""
        self.start(seconds)
        self.postponed = True

    def stop(self) -> None:
        """It will not expire. Cheap, for a timer that is likely to be started again soon."""
        self._deadline = None

    def cancel(self) -> None:
        """As `stop`, and leave nothing behind in the loop."""
        self._deadline = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        if self._deadline is None:
            return
        now = self._loop.time()
        if now < self._deadline:
            self._fires_at = self._deadline
            self._handle = self._loop.call_at(self._deadline, self._fire)
            return
        self.late = now - self._deadline
        self._deadline = None
        self._expired()
