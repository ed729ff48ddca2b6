"""How soon a computing thread hands over to the loop thread while calls are open; any thread.

The interpreter lets a thread compute for `sys.getswitchinterval()` seconds, 5 ms by default, before
another one gets its turn. The loop thread gives the interpreter up at every system call, so beside
a thread that computes all the time each datagram would cost it 5 ms.

Lock order: `_lock` alone; nothing else happens under it.
"""

from __future__ import annotations

import os
import sys
import threading

# The interpreter keeps whole microseconds.
SHORTEST = 1e-6
ROUNDING = 2e-6


class SwitchInterval:
    """Shortens the interval while somebody needs it, and puts it back after the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wishes: list[float] = []
        self._before = 0.0
        self._set = 0.0

    def shorten(self, seconds: float) -> None:
        """Have the interval be at most `seconds` until the same is given to `restore`."""
        with self._lock:
            if not self._wishes:
                self._before = self._set = sys.getswitchinterval()
            self._wishes.append(seconds)
            self._apply()

    def restore(self, seconds: float) -> None:
        """Take a wish back."""
        with self._lock:
            self._wishes.remove(seconds)
            self._apply()

    def _apply(self) -> None:
        # Somebody else has set it meanwhile: theirs stands.
        if abs(sys.getswitchinterval() - self._set) > ROUNDING:
            return
        # Less than it can keep it tells as 0, and refuses to be given again.
        self._set = max(min([self._before, *self._wishes]), SHORTEST)
        sys.setswitchinterval(self._set)

    def forget(self) -> None:
        """In a forked child no calls are open."""
        self._lock = threading.Lock()
        if self._wishes:
            self._wishes.clear()
            self._apply()


switch_interval = SwitchInterval()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=switch_interval.forget)
