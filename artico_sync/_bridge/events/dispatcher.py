"""The dispatcher thread of a client: runs the user's handlers, one at a time, in the order of the
events.

Lock order: `_lock`, which `_condition` is on, then the lock inside the janus queue.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from typing import Protocol

from artico_sync._bridge.waiting.deadline import Deadline, get_item, join, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition, PriorityQueue

logger = logging.getLogger(__name__)

#: Before all others, which are still delivered.
STOP_FIRST = -1


class Dispatchable(Protocol):
    """Something with a kept event to hand to its handlers."""

    def dispatch(self, name: str, turn: int) -> None: ...


class Dispatcher:
    """A thread that starts with the first event a handler wants and ends with `stop()`.

    A handler registered after the stop still gets what was kept: the thread then lives until it is
    idle.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._condition = Condition(self._lock)
        # By turn, then by entry; nobody's turn only has the thread look whether it is to stop.
        self._queue: PriorityQueue[tuple[int, int, Dispatchable | None, str]] = PriorityQueue()
        self._entries = itertools.count()
        self._turns = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def next_sequence(self) -> int:
        """The turn of an event that happens now: its place among those of all objects; any
        thread."""
        return next(self._turns)

    def put(self, target: Dispatchable, name: str, turn: int) -> None:
        """Have the oldest kept `name` event of `target` handed to its handlers when its turn comes;
        any thread, never blocks.

        Args:
            turn: Of that event.
        """
        # One lock for both, so that a thread about to end cannot miss the event.
        with self._lock:
            self._queue.sync_q.put_nowait((turn, next(self._entries), target, name))
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(
            target=self._run, name=f"artico_sync-events-{self._name}", daemon=True
        )
        try:
            self._thread = thread
            thread.start()
        except BaseException:
            # Ctrl-C, before or after it began.
            self._thread = None
            raise

    def _run(self) -> None:
        with self._lock:
            if self._thread is not threading.current_thread():
                return
        no_limit = Deadline(None)
        while True:
            turn, _, target, name = get_item(self._queue.sync_q, no_limit)
            if target is not None:
                self._deliver(target, name, turn)
                # It waits long for the next one, and must not keep the last alive.
                target = None
            with self._lock:
                # Events that came after the order to stop are still delivered.
                if self._stopping and self._queue.sync_q.qsize() == 0:
                    self._thread = None
                    self._condition.notify_all()
                    return

    def _deliver(self, target: Dispatchable, name: str, turn: int) -> None:
        try:
            target.dispatch(name, turn)
        except Exception:
            # The user's exceptions are caught at the handler; this keeps a fault of ours from
            # ending events.
            logger.exception("unexpected error while delivering %r", name)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on the dispatcher thread, that is inside a handler."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def resume(self) -> None:
        """Take back a `stop()`: the client connects again."""
        with self._lock:
            self._stopping = False
            self._condition.notify_all()

    def stop(self, deadline: Deadline) -> bool:
        """Deliver what is queued, then end the thread; waits for it, except inside a handler.

        Returns whether the thread has ended.
        """
        self.request_stop()
        return self.wait_ended(deadline)

    def request_stop(self) -> None:
        """Have the thread end once what is queued has been delivered; does not wait."""
        with self._lock:
            self._stopping = True
            if self._thread is not None:
                self._queue.sync_q.put_nowait((STOP_FIRST, next(self._entries), None, ""))

    def wait_ended(self, deadline: Deadline) -> bool:
        """Wait for the end that was ordered, except inside a handler, or until it is taken back.

        Returns whether the thread has ended.
        """
        with self._condition:
            thread = self._thread
            if thread is None:
                return True
            # The interpreter that is being taken down runs no other thread any more.
            if self.is_current or sys.is_finalizing():
                return False
            wait_until(
                self._condition, lambda: self._thread is not thread or not self._stopping, deadline
            )
            if self._thread is thread:
                return False
        return join(thread, deadline)
