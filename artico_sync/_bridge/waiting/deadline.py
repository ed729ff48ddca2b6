"""Deadlines shared by the steps of a call, and waits that Ctrl-C ends."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

import janus

from artico_sync._checks import check_timeout
from artico_sync.errors import ArticoTimeoutError

T = TypeVar("T")

# Python runs signal handlers on its main thread. A signal just before that thread goes to
# sleep does not wake it, and on Windows none does: there, waits are cut into slices of this length.
MAIN_THREAD_POLL_INTERVAL = 0.1 if sys.platform == "win32" else 0.2
OTHER_THREADS_POLL_INTERVAL = 3600.0


class Deadline:
    """The moment by which a call must have returned, shared by all its steps.

    Args:
        timeout: Seconds from now; None for no limit.
    """

    __slots__ = ("_end", "timeout")

    def __init__(self, timeout: float | None) -> None:
        self.timeout = check_timeout(timeout)
        self._end = None if self.timeout is None else monotonic() + self.timeout

    def remaining(self) -> float | None:
        """Return the seconds left, at least 0; None without limit."""
        return None if self._end is None else max(0.0, self._end - monotonic())

    def slice(self) -> float:
        """Return the seconds the next wait may take before the thread must check for signals."""
        main = threading.main_thread().ident == threading.get_ident()
        longest = MAIN_THREAD_POLL_INTERVAL if main else OTHER_THREADS_POLL_INTERVAL
        remaining = self.remaining()
        return longest if remaining is None else min(longest, remaining)

    @property
    def expired(self) -> bool:
        return self._end is not None and monotonic() >= self._end

    def error(
        self, what: str, session: str | None = None, peer: str | None = None
    ) -> ArticoTimeoutError:
        """Return the error to raise when the time ran out while waiting for `what`."""
        return ArticoTimeoutError(
            f"Timed out after {self.timeout:g} s waiting for {what}.", session=session, peer=peer
        )


def get_item(queue: janus.SyncQueue[T], deadline: Deadline) -> T:
    """Wait for the next item of a janus queue and return it.

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
    """Wait on a held condition until `predicate` returns a true value, and return that.

    When the deadline passes first, return the last false value.
    """
    while True:
        result = predicate()
        if result or deadline.expired:
            return result
        condition.wait(deadline.slice())


def join(thread: threading.Thread, deadline: Deadline) -> bool:
    """Wait for the end of a thread; return False if the deadline passed first."""
    while thread.is_alive() and not deadline.expired:
        thread.join(deadline.slice())
    return not thread.is_alive()


class Waiter(Generic[T]):
    """A thread that waits for an object, which is handed to it past every queue.

    It waits on a lock, which `wake` releases. Semaphores of the C library, posted without the GIL,
    gained nothing reliable in place of it: a round trip took up to 5 % less time with both ends in
    one process, and 5 % more between two processes.
    """

    __slots__ = ("given", "wake", "_lock")

    def __init__(self) -> None:
        #: None if the thread was only woken to look again, or not woken at all.
        self.given: T | None = None
        self._lock = threading.Lock()
        self._lock.acquire()
        #: Wakes the thread; to be called once, after `given` is set if there is an object for it.
        self.wake = self._lock.release

    def wait(self, deadline: Deadline) -> None:
        """Wait until woken, or until the deadline has passed."""
        while not self._lock.acquire(True, deadline.slice()) and not deadline.expired:
            pass
