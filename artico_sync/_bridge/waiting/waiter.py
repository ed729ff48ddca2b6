"""A user thread that waits for the loop thread."""

from __future__ import annotations

from typing import Generic, TypeVar

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._speedups.semaphore import wait_handle_factory

T = TypeVar("T")


class Waiter(Generic[T]):
    """A thread that waits for an object, which is handed to it past every queue."""

    __slots__ = ("given", "wake", "_handle")

    def __init__(self) -> None:
        #: None if the thread was only woken to look again, or not woken at all.
        self.given: T | None = None
        self._handle = wait_handle_factory()()
        #: Wakes the thread; to be called once, after `given` is set if there is an object for it.
        self.wake = self._handle.wake

    def wait(self, deadline: Deadline) -> None:
        """Wait until woken, or until the deadline has passed."""
        while not self._handle.wait(deadline.slice()) and not deadline.expired:
            pass
