"""Events that wait for somebody; any thread, under the lock of the mailbox they belong to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from artico_sync._bridge.waiting.interrupt_safe import Queue


class Event:
    """An event on its way: its arguments, its turn among all events, and whom to tell its arguments
    once it is consumed."""

    # No dataclass: a frozen one takes three times as long to make, and each message is one.
    __slots__ = ("arguments", "turn", "consumed")

    def __init__(
        self, arguments: tuple[Any, ...], turn: int, consumed: Callable[..., None] | None
    ) -> None:
        self.arguments = arguments
        self.turn = turn
        self.consumed = consumed

    def finish(self) -> None:
        """A user thread is done with it."""
        if self.consumed is not None:
            self.consumed(*self.arguments)


class PendingEvents(Queue[Iterable[Event]]):
    """A janus queue that takes events by the batch and gives them one at a time."""

    def _init(self, maxsize: int) -> None:
        self.events: deque[Event] = deque()

    def _qsize(self) -> int:
        return len(self.events)

    def _put(self, item: Iterable[Event]) -> None:
        self.events.extend(item)

    def _get(self) -> tuple[Event]:
        return (self.events.popleft(),)

    def put(self, events: Iterable[Event]) -> None:
        """Keep events, in their order."""
        self.sync_q.put_nowait(events)

    def take(self) -> Event | None:
        """The oldest event if there is one."""
        if not self.events:
            return None
        event = self.events[0]
        try:
            self.sync_q.get_nowait()
        except BaseException:
            # Ctrl-C, perhaps after it was taken.
            if not self.events or self.events[0] is not event:
                self.put_back(event)
            raise
        return event

    def put_back(self, event: Event) -> None:
        """Keep an event again, before all others."""
        self.events.appendleft(event)
