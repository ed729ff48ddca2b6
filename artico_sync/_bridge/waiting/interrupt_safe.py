"""Conditions and janus queues that Ctrl-C never leaves locked; any thread.

Of `threading.Condition` a `with` runs Python code, and an interrupt after it has taken the lock
but before the block is entered leaves it taken for ever. Here it runs the lock's own functions.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import janus

T = TypeVar("T")


class Condition(threading.Condition):
    """A condition on a reentrant lock, which knows whose it is.

    Args:
        lock: Made by who owns the condition, by whom the locks are told apart.
    """

    # `with` looks them up on the type, where slots give what the instance has in them.
    __slots__ = ("__enter__", "__exit__")

    def __init__(self, lock: threading.RLock) -> None:
        super().__init__(lock)
        self.__enter__ = lock.__enter__  # type: ignore[method-assign]
        self.__exit__ = lock.__exit__  # type: ignore[method-assign]

    def wait(self, timeout: float | None = None) -> bool:
        try:
            return super().wait(timeout)
        except BaseException:
            # Ctrl-C may have come while the lock was given up; only its owner can release it.
            try:
                self.release()
            except RuntimeError:
                pass
            self.acquire()
            raise


class InterruptSafe:
    """What janus made with locks of its own gets these conditions, before anybody uses it."""

    def _secure(self) -> None:
        lock = threading.RLock()
        self._sync_mutex = lock
        self._sync_not_empty = Condition(lock)
        self._sync_not_full = Condition(lock)
        self._sync_tasks_done = Condition(lock)


class Queue(InterruptSafe, janus.Queue[T]):  # type: ignore[misc]
    """First in, first out."""

    def __init__(self) -> None:
        super().__init__()
        self._secure()


class PriorityQueue(InterruptSafe, janus.PriorityQueue[T]):  # type: ignore[misc]
    """The smallest first."""

    def __init__(self) -> None:
        super().__init__()
        self._secure()
