"""Threads that run what must not run on the loop: functions of the user, files, recordings; any
thread.

They are daemons, so a function that never returns does not hold up the interpreter's exit; those
that can end are asked to and waited for before the interpreter goes down, because a thread caught
inside FFmpeg then would take the process with it.

Lock order: `_lock` alone.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable

from artico_sync._bridge.waiting.deadline import Deadline, join

# Seconds an interpreter that is exiting waits for the workers.
EXIT_GRACE = 3.0
# Seconds a client that closes waits for them.
SETTLE_SECONDS = 1.0


class Worker:
    """A thread with a way to ask it to end.

    Args:
        name: What the thread does, for debuggers.
        function: What it runs.
        stop: Makes `function` return soon; called from any thread, must not block.
        wanted: Whether the thread has still something to do.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], None],
        stop: Callable[[], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._stop = stop
        self._wanted = wanted
        self._thread = threading.Thread(target=function, name=f"artico_sync-{name}", daemon=True)
        with _lock:
            _workers.add(self)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait."""
        self._stop()

    @property
    def wanted(self) -> bool:
        """Whether the thread has still something to do."""
        return self._wanted()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this very thread."""
        return self._thread is threading.current_thread()

    def join(self, deadline: Deadline) -> bool:
        """Wait for the end; returns whether it has come."""
        return not self.is_current and join(self._thread, deadline)


# Only to wait, at a close and at the exit, for what is still at work then.
_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_lock = threading.Lock()


def _known() -> list[Worker]:
    with _lock:
        return list(_workers)


def settle() -> None:
    """Wait a moment for the threads that are about to end.

    One inside a function of the user may take longer, and may be the one that calls this.
    """
    deadline = Deadline(SETTLE_SECONDS)
    for worker in _known():
        if not worker.wanted:
            worker.join(deadline)


def _stop_at_exit() -> None:
    workers = [worker for worker in _known() if worker.alive]
    for worker in workers:
        worker.stop()
    deadline = Deadline(EXIT_GRACE)
    for worker in workers:
        worker.join(deadline)


def _forget_after_fork() -> None:
    # The threads do not exist in the child; one of them may have held the lock.
    global _lock
    _lock = threading.Lock()
    _workers.clear()


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
