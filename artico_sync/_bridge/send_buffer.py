"""A call's messages on their way to the loop, and the user threads that wait for room or delivery.

User threads append messages and the loop pops them, many at a time. The lock is that of the call,
whose condition is shared.
"""

from __future__ import annotations

import threading
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync._bridge.portal import Portal
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._protocol.bounds import OVERHEAD

if TYPE_CHECKING:
    from artico_sync._engine.session import Session

#: Seconds after which a thread that waits for room is woken although there is little. With half a
#: buffer of room it is woken at once: to send one message and wait again costs more than the
#: message.
LITTLE_ROOM_SECONDS = 0.005


class SendBuffer:
    """The messages of one call that the peer's transport has not acknowledged yet.

    Args:
        portal: To the loop.
        lock: The lock of `condition`.
        condition: Notified when there is room, or all is delivered.
        limit: Bytes that may wait to be delivered before a sender has to.
        engine: Returns the session, once it exists; called on the loop thread.
    """

    def __init__(
        self,
        portal: Portal,
        lock: threading.RLock,
        condition: threading.Condition,
        limit: int,
        engine: Callable[[], Session | None],
    ) -> None:
        self._portal = portal
        self._lock = lock
        self._condition = condition
        self._limit = limit
        self._engine = engine
        #: Bytes of the largest message the peer accepts; 0 if there is no limit.
        self.maximum_message = 0
        #: Bytes of all messages so far with their overhead, and of those acknowledged.
        self._accepted = 0
        self._delivered = 0
        self._waiting_for_room = 0
        self._waiting_for_delivery = 0
        #: Messages with their sizes, and if the loop has been notified of them.
        self._messages: deque[tuple[str | bytes, int]] = deque()
        self._notified = False
        self._notice: TimerHandle | None = None

    # the loop's side

    def on_delivered(self, delivered: int) -> None:
        """Wake waiting threads: the peer's transport has acknowledged `delivered` bytes in all;
        loop thread."""
        # Without the lock, which a sender may hold: a thread announces its wait before it looks.
        self._delivered = delivered
        left = self._accepted - delivered
        if self._waiting_for_delivery or (self._waiting_for_room and left <= self._limit // 2):
            self._wake_waiting()
        elif self._waiting_for_room and left <= self._limit and self._notice is None:
            self._notice = self._portal.loop.call_later(LITTLE_ROOM_SECONDS, self._wake_waiting)

    def _wake_waiting(self) -> None:
        self.cancel_notice()
        with self._condition:
            self._condition.notify_all()

    def cancel_notice(self) -> None:
        """Cancel the timer, if one runs: nothing more is delivered; loop thread."""
        if self._notice is not None:
            self._notice.cancel()
            self._notice = None

    def _send_queued(self) -> None:
        # Cleared first: for a message that is appended while this runs, the loop is notified again.
        self._notified = False
        pop = self._messages.popleft
        batch = [pop() for _ in range(len(self._messages))]
        session = self._engine()
        if session is not None and batch:
            session.send([data for data, _ in batch], sum([size for _, size in batch]))

    # the user's side

    def enqueue_message(
        self, data: str | bytes, size: int, deadline: Deadline, check: Callable[[int], None]
    ) -> bool:
        """Queue a message, waiting while the buffer is full; return False if it stays full.

        Args:
            size: Bytes of the message.
            check: Raises the error if a message of that size cannot be sent now.
        """
        with self._lock:
            check(size)
            if self._accepted - self._delivered > self._limit:
                self._wait_for_room(deadline, size, check)
                if self._accepted - self._delivered > self._limit:
                    return False
            self._accepted += size + OVERHEAD
            # Under the lock, so that messages of several threads keep the order in which they were
            # counted, and a hangup after a send comes after it.
            try:
                self._messages.append((data, size))
                if not self._notified:
                    self._notified = True
                    self._portal.post(self._send_queued)
            except BaseException:
                # Ctrl-C, perhaps before the loop was notified: a second time has no effect.
                self._portal.post(self._send_queued)
                raise
        return True

    def _wait_for_room(self, deadline: Deadline, size: int, check: Callable[[int], None]) -> None:
        def has_room() -> bool:
            check(size)
            return self._accepted - self._delivered <= self._limit

        self._waiting_for_room += 1
        try:
            wait_until(self._condition, has_room, deadline)
        finally:
            self._waiting_for_room -= 1

    def wait_delivered(self, deadline: Deadline, is_over: Callable[[], bool]) -> bool:
        """Wait until all accepted so far is acknowledged, or the call is over; the condition is
        held.

        Returns:
            True if all is acknowledged.
        """
        goal = self._accepted
        self._waiting_for_delivery += 1
        try:
            wait_until(self._condition, lambda: self._delivered >= goal or is_over(), deadline)
        finally:
            self._waiting_for_delivery -= 1
        return self._delivered >= goal
