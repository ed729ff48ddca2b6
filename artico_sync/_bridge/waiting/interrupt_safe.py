"""Conditions and janus queues that Ctrl-C never leaves locked.

A `with` on `threading.Condition` runs Python code, and an interrupt after it has acquired the lock
but before the block is entered leaves it locked. Here `with` runs the lock's own functions, which
are written in C.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import janus

from artico_sync._webrtc._aiortc.janus import replace_locks

T = TypeVar("T")


class Condition(threading.Condition):
    """A condition on a reentrant lock, which is acquired and released by functions in C.

    Args:
        lock: Made by the owner of the condition: the check of the lock order identifies locks by
            the line that makes them.
    """

    # `with` looks them up on the type, whose slots return the values of the instance.
    __slots__ = ("__enter__", "__exit__")

    def __init__(self, lock: threading.RLock) -> None:
        super().__init__(lock)
        self.__enter__ = lock.__enter__  # type: ignore[method-assign]
        self.__exit__ = lock.__exit__  # type: ignore[method-assign]

    def wait(self, timeout: float | None = None) -> bool:
        try:
            return super().wait(timeout)
        except BaseException:
            # Ctrl-C may have come while the lock was released; only its owner can release it.
            try:
                self.release()
            except RuntimeError:
                pass
            self.acquire()
            raise


def make_interrupt_safe(queue: janus.Queue[Any]) -> None:
    """Give a new janus queue these conditions, in place of its own locks."""
    replace_locks(queue, threading.RLock(), Condition)


class Queue(janus.Queue[T]):
    """First in, first out."""

    def __init__(self) -> None:
        super().__init__()
        make_interrupt_safe(self)


class PriorityQueue(janus.PriorityQueue[T]):
    """The smallest first."""

    def __init__(self) -> None:
        super().__init__()
        make_interrupt_safe(self)
