"""The switch interval of the interpreter and the timer slack of the loop thread.

The interpreter lets a thread compute for `sys.getswitchinterval()` seconds, 5 ms by default, before
another thread runs. The loop thread releases the interpreter at every system call, so beside a
thread that computes without pause each datagram would cost it 5 ms. `SwitchInterval` shortens this
while calls are open.

Linux wakes a thread up to 50 microseconds after its timeout, the wait for the interpreter included,
which adds a quarter to a switch interval of 200 microseconds. `minimize_timer_slack` prevents that.

The plain twins are to leave both as they are: `Artico(switch_interval=None)`, and
`ARTICO_SYNC_ACCELERATE=0` for the timer slack.

Measured gain: beside a computing thread, a round trip between two threads takes 0.06
times as long with a switch interval of 0.2 ms as with 5 ms; a wait of 1 ms ends 0.3 times as late
with the least timer slack (median of rounds, 2 cores; `python -m tests.benchmarks speedups`).

Lock order: `_lock` is taken alone.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

logger = logging.getLogger(__name__)

# CPython stores the switch interval in whole microseconds.
SHORTEST_SECONDS = 1e-6
ROUNDING_SECONDS = 2e-6

#: See prctl(2); a slack of 0 would mean the default.
PR_SET_TIMERSLACK = 29
LEAST_NANOSECONDS = 1


class SwitchInterval:
    """Shortens the interval while it is requested, and restores it after the last request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[float] = []
        self._before = 0.0
        self._set = 0.0

    def acquire(self, seconds: float) -> None:
        """Request an interval of at most `seconds`, until `release` with the same number."""
        with self._lock:
            if not self._requests:
                self._before = self._set = sys.getswitchinterval()
            self._requests.append(seconds)
            self._apply()

    def release(self, seconds: float) -> None:
        """Withdraw a request."""
        with self._lock:
            self._requests.remove(seconds)
            self._apply()

    def _apply(self) -> None:
        # If the program has set another interval since, that one stays.
        if abs(sys.getswitchinterval() - self._set) > ROUNDING_SECONDS:
            return
        # Anything smaller reads back as 0, which setswitchinterval() rejects.
        self._set = max(min([self._before, *self._requests]), SHORTEST_SECONDS)
        sys.setswitchinterval(self._set)

    def reset(self) -> None:
        """Drop all requests: in a forked child no calls are open."""
        self._lock = threading.Lock()
        if self._requests:
            self._requests.clear()
            self._apply()


switch_interval = SwitchInterval()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=switch_interval.reset)


def minimize_timer_slack() -> None:
    """Set the timer slack of the calling thread to the least the system allows, if it has one."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        result = ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, LEAST_NANOSECONDS, 0, 0, 0)
    except (ImportError, OSError, AttributeError) as error:
        logger.debug("the timer slack is unchanged: %s", error)
    else:
        if result:
            logger.debug("the timer slack is unchanged: refused")
