"""The private names of janus: its locks, and the hooks of its queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import janus

T = TypeVar("T")
LockT = TypeVar("LockT", bound=AbstractContextManager[Any])


def replace_locks(
    queue: janus.Queue[Any],
    lock: LockT,
    make_condition: Callable[[LockT], Any],
) -> None:
    """Replace the lock of a queue's blocking side, before any thread uses the queue.

    Args:
        lock: The new lock.
        make_condition: Makes each of the three conditions on it.
    """
    inside: Any = queue
    #: The lock of all state, and the conditions for `get`, for `put`, and for `join`.
    inside._sync_mutex = lock
    inside._sync_not_empty = make_condition(lock)
    inside._sync_not_full = make_condition(lock)
    inside._sync_tasks_done = make_condition(lock)


class BatchQueue(janus.Queue[Any], Generic[T]):
    """A queue into which items are put by the batch and gotten one at a time."""

    #: The items, oldest first.
    items: deque[T]

    def _init(self, maxsize: int) -> None:
        self.items = deque()

    def _qsize(self) -> int:
        return len(self.items)

    def _put(self, item: Iterable[T]) -> None:
        self.items.extend(item)

    def _get(self) -> T:
        return self.items.popleft()
