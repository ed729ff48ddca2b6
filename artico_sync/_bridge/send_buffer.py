"""A call's messages on their way to the loop, and the user threads that wait for room or delivery.

User threads put messages in and the loop takes them out, many at a time. The lock order is that of
the call's port, whose condition it shares.
"""

from __future__ import annotations

import threading
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync._bridge.portal import Portal
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._protocol.sizes import OVERHEAD

if TYPE_CHECKING:
    from artico_sync._engine.session import Session

#: Seconds after which a thread that waits for room is woken for little of it. At once it is woken
#: for half a buffer: to send one message and wait again costs more than the message.
LITTLE_ROOM_AFTER = 0.005


class SendBuffer:
    """Owned by a call's port, which ends it."""

    def __init__(
        self,
        lease: Portal,
        lock: threading.RLock,
        condition: threading.Condition,
        limit: int,
        engine: Callable[[], Session | None],
    ) -> None:
        """
        Args:
            lock: What `condition` is on.
            limit: Bytes that may wait to be delivered before a sender has to.
            engine: The session, once it exists.
        """
        self._lease = lease
        self._lock = lock
        self._condition = condition
        self._limit = limit
        self._engine = engine
        #: Footprints of all messages so far, and of those the peer's transport acknowledged.
        self._accepted = 0
        self._delivered = 0
        self._waiting_for_room = 0
        self._waiting_for_delivery = 0
        #: Messages, and whether the loop knows of them.
        self._messages: deque[tuple[str | bytes, int]] = deque()
        self._told = False
        self._notice: TimerHandle | None = None

    # the loop's side

    def on_delivered(self, delivered: int) -> None:
        """The peer's transport has acknowledged so much; loop thread."""
        # Without the lock, which a sender may hold: who waits has said so before looking.
        self._delivered = delivered
        left = self._accepted - delivered
        if self._waiting_for_delivery or (self._waiting_for_room and left <= self._limit // 2):
            self._notify()
        elif self._waiting_for_room and left <= self._limit and self._notice is None:
            self._notice = self._lease.loop.call_later(LITTLE_ROOM_AFTER, self._notify)

    def _notify(self) -> None:
        self.end()
        with self._condition:
            self._condition.notify_all()

    def end(self) -> None:
        """Nothing more is delivered; loop thread."""
        if self._notice is not None:
            self._notice.cancel()
            self._notice = None

    def _send(self) -> None:
        # Cleared first: a message that comes meanwhile is told of again.
        self._told = False
        take = self._messages.popleft
        taken = [take() for _ in range(len(self._messages))]
        session = self._engine()
        if session is not None and taken:
            session.send([data for data, _ in taken], sum([size for _, size in taken]))

    # the user's side

    def put(
        self, data: str | bytes, size: int, deadline: Deadline, check: Callable[[int], None]
    ) -> bool:
        """Hand a message over, waiting while too much waits to be delivered. False: no room.

        Args:
            size: Bytes of the message.
            check: Raises what is wrong with sending so much now.
        """
        with self._lock:
            check(size)
            if self._accepted - self._delivered > self._limit:
                self._wait_for_room(deadline, size, check)
                if self._accepted - self._delivered > self._limit:
                    return False
            self._accepted += size + OVERHEAD
            # Under the lock, so that messages of several threads keep the order of their accounts,
            # and whoever hangs up after a send comes after it.
            try:
                self._messages.append((data, size))
                if not self._told:
                    self._told = True
                    self._lease.post(self._send)
            except BaseException:
                # Ctrl-C, perhaps before the loop was told: twice is harmless.
                self._lease.post(self._send)
                raise
        return True

    def _wait_for_room(self, deadline: Deadline, size: int, check: Callable[[int], None]) -> None:
        def is_over() -> bool:
            check(size)
            return self._accepted - self._delivered <= self._limit

        self._waiting_for_room += 1
        try:
            wait_until(self._condition, is_over, deadline)
        finally:
            self._waiting_for_room -= 1

    def wait_delivered(self, deadline: Deadline, is_over: Callable[[], bool]) -> bool:
        """Wait until all accepted so far is acknowledged, or it is over; the condition is held.

        Returns whether all is acknowledged.
        """
        goal = self._accepted
        self._waiting_for_delivery += 1
        try:
            wait_until(self._condition, lambda: self._delivered >= goal or is_over(), deadline)
        finally:
            self._waiting_for_delivery -= 1
        return self._delivered >= goal
