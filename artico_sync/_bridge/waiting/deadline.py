"""How user threads wait: one deadline for a whole call, and waits that Ctrl-C ends; user
threads."""

from __future__ import annotations

import math
import numbers
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import janus

from artico_sync.errors import ArticoTimeoutError

T = TypeVar("T")

# Python runs signal handlers on its main thread. A signal just before that thread goes to
# sleep does not wake it, and on Windows none does: there, waits are cut into slices this long.
MAIN_THREAD_POLL_INTERVAL = 0.1 if sys.platform == "win32" else 0.2
OTHER_SLICE = 3600.0

# Seconds that stand for ever where a number is needed: 31 years.
LONGEST = 1e9


def check_timeout(timeout: float | None) -> float | None:
    """Return `timeout` in seconds after checking it.

    Raises:
        TypeError: Not a number and not None.
        ValueError: Negative or not a number of seconds.
    """
    if timeout is None:
        return None
    given: object = timeout
    if isinstance(given, bool) or not isinstance(given, numbers.Real):
        raise TypeError(f"timeout must be seconds or None, not {type(given).__name__}")
    try:
        seconds = float(given)
    except OverflowError:
        # An int beyond all floats: longer than anybody waits.
        seconds = -math.inf if given < 0 else math.inf
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"timeout must be 0 or more seconds, not {seconds}")
    return None if math.isinf(seconds) else abs(seconds)


class Deadline:
    """The moment a call must be over, shared by all its steps."""

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = check_timeout(timeout)
        self._end = None if self.timeout is None else monotonic() + self.timeout

    def remaining(self) -> float | None:
        """Seconds left, never below 0; None where there is no end."""
        return None if self._end is None else max(0.0, self._end - monotonic())

    def slice(self) -> float:
        """Seconds the next wait may take before the thread must look up."""
        main = threading.main_thread().ident == threading.get_ident()
        longest = MAIN_THREAD_POLL_INTERVAL if main else OTHER_SLICE
        remaining = self.remaining()
        return longest if remaining is None else min(longest, remaining)

    @property
    def expired(self) -> bool:
        return self._end is not None and monotonic() >= self._end

    def error(
        self, what: str, session: str | None = None, peer: str | None = None
    ) -> ArticoTimeoutError:
        """The error to raise when the time ran out while waiting for `what`."""
        return ArticoTimeoutError(
            f"Timed out after {self.timeout:g} s waiting for {what}.", session=session, peer=peer
        )


def take(queue: janus.SyncQueue[T], deadline: Deadline) -> T:
    """Take the next item of a janus queue.

    Raises:
        janus.SyncQueueEmpty: The deadline passed.
        janus.SyncQueueShutDown: The queue was shut down and is empty.
    """
    while True:
        pause = deadline.slice()
        try:
            return queue.get_nowait() if pause <= 0 else queue.get(timeout=pause)
        except janus.SyncQueueEmpty:
            if deadline.expired:
                raise


def wait_until(
    condition: threading.Condition, predicate: Callable[[], T | None], deadline: Deadline
) -> T | None:
    """Wait on a held condition until `predicate` returns something true.

    Returns what it returned, or None (or its last false value) when the deadline passed.
    """
    while True:
        result = predicate()
        if result or deadline.expired:
            return result
        condition.wait(deadline.slice())


def join(thread: threading.Thread, deadline: Deadline) -> bool:
    """Wait for the end of a thread; returns whether it has come."""
    while thread.is_alive() and not deadline.expired:
        thread.join(deadline.slice())
    return not thread.is_alive()


__all__ = [
    "LONGEST",
    "Deadline",
    "check_timeout",
    "join",
    "take",
    "wait_until",
]
