"""The events of one object on their way from the loop thread to user threads.

Every event name has a janus queue. An event goes to the handlers of its name if there are any, else
to a thread that waits for it, else it stays pending in the queue, for a handler registered later or
the next thread that asks.

Lock order: a mailbox's lock, then the dispatcher's, then the lock inside a janus queue. No handler
runs and no thread waits under any of them.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from artico_sync._bridge.events.dispatcher import (
    Dispatcher,
    Handler,
    Registration,
    register,
)
from artico_sync._bridge.waiting.deadline import Deadline, Waiter
from artico_sync._bridge.waiting.interrupt_safe import make_interrupt_safe
from artico_sync._webrtc._aiortc.janus import BatchQueue
from artico_sync.errors import ArticoTimeoutError

# The name is public: programs and tests look for errors without a handler under it.
logger = logging.getLogger("artico_sync.events")

#: Pending events of an object, messages aside; beyond that the oldest is dropped.
PENDING_LIMIT = 1000


class PendingEvent:
    """The arguments of an event, its sequence number, and a function to call once a user thread has
    consumed it."""

    # Not a dataclass: a frozen one takes three times as long to make, and each message is one.
    __slots__ = ("arguments", "sequence", "on_consumed")

    def __init__(
        self, arguments: tuple[Any, ...], sequence: int, on_consumed: Callable[..., None] | None
    ) -> None:
        self.arguments = arguments
        self.sequence = sequence
        self.on_consumed = on_consumed

    def finish(self) -> None:
        """Report that a user thread has consumed the event."""
        if self.on_consumed is not None:
            self.on_consumed(*self.arguments)


class PendingEvents(BatchQueue[PendingEvent]):
    """A janus queue into which events are put by the batch and gotten one at a time; used under the
    lock of its mailbox."""

    def __init__(self) -> None:
        super().__init__()
        make_interrupt_safe(self)

    def append_batch(self, events: Iterable[PendingEvent]) -> None:
        """Append events, in their order."""
        self.sync_q.put_nowait(events)

    def pop_oldest(self) -> PendingEvent | None:
        """Remove and return the oldest event, if there is one."""
        if not self.items:
            return None
        event = self.items[0]
        try:
            self.sync_q.get_nowait()
        except BaseException:
            # Ctrl-C, perhaps after it was removed.
            if not self.items or self.items[0] is not event:
                self.put_back(event)
            raise
        return event

    def put_back(self, event: PendingEvent) -> None:
        """Insert an event before all others."""
        self.items.appendleft(event)


class _EventWaiter(Waiter[PendingEvent]):
    """A thread that waits for an event."""

    __slots__ = ("observes", "observing")

    def __init__(self, observes: bool, observing: bool) -> None:
        super().__init__()
        #: True if the thread gets a copy of the next event even while handlers get the events.
        self.observes = observes
        #: True if it does so now.
        self.observing = observing


class Mailbox:
    """The pending events, handlers and waiting threads of one object.

    Args:
        owner: The object's name in the log.
        events: The valid names, each with its number of arguments.
        dispatcher: Runs the handlers.
        ended: Makes the error for a wait that can no longer succeed.
        unbounded: Events whose number is bounded elsewhere.
    """

    def __init__(
        self,
        owner: str,
        events: Mapping[str, int],
        dispatcher: Dispatcher,
        *,
        ended: Callable[[], Exception],
        unbounded: frozenset[str] = frozenset(),
    ) -> None:
        self._owner = owner
        self._events = events
        self._dispatcher = dispatcher
        self._ended = ended
        self._unbounded = unbounded
        self._lock = threading.Lock()
        # Filled on demand: an object has many events, of which few are ever used.
        self._handlers: defaultdict[str, list[Registration]] = defaultdict(list)
        self._queues: dict[str, PendingEvents] = {}
        #: Threads that get the next event, threads that get a copy of it while handlers get it, and
        #: threads that wait until there is no handler.
        self._receivers: defaultdict[str, list[_EventWaiter]] = defaultdict(list)
        self._observers: defaultdict[str, list[_EventWaiter]] = defaultdict(list)
        self._blocked_by_handler: defaultdict[str, list[_EventWaiter]] = defaultdict(list)
        #: The names whose oldest event is scheduled with the dispatcher.
        self._scheduled: set[str] = set()
        self._warned = False
        self._finished = False

    # the loop's side

    def emit(self, name: str, *arguments: Any) -> None:
        """Emit an event; any thread, never blocks."""
        self.emit_all(name, (arguments,))

    def emit_all(
        self,
        name: str,
        batch: Sequence[tuple[Any, ...]],
        on_consumed: Callable[..., None] | None = None,
    ) -> None:
        """Emit events of one name; any thread, never blocks.

        Args:
            batch: The arguments of each.
            on_consumed: Called with an event's arguments once a user thread has consumed it.
        """
        with self._lock:
            if self._finished:
                return
            next_sequence = self._dispatcher.next_sequence
            events = [PendingEvent(arguments, next_sequence(), on_consumed) for arguments in batch]
            handled = bool(self._handlers[name])
            waiters = self._observers[name] if handled else self._receivers[name]
            woken = _hand_over(events[:1] * len(waiters) if handled else events, waiters)
            rest = events if handled else events[len(woken) :]
            if rest:
                self._queue(name).append_batch(rest)
                if name not in self._unbounded:
                    self._drop_oldest()
                self._schedule(name)
        # Outside of the lock, which is the first thing they may need.
        for waiter in woken:
            waiter.wake()
        if not handled and name == "error":
            logger.error("%s: %s", self._owner, batch[0][0])

    def finish(self) -> None:
        """End every wait that no pending event satisfies: no event can come any more."""
        with self._lock:
            self._finished = True
            for groups in (self._receivers, self._observers, self._blocked_by_handler):
                _wake_all(*groups.values())

    def reopen(self) -> None:
        """Accept events again, because the object starts over; pending events stay pending."""
        with self._lock:
            self._finished = False

    def _queue(self, name: str) -> PendingEvents:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = PendingEvents()
        return queue

    def _schedule(self, name: str) -> None:
        """Schedule the oldest event of a name for its handlers, if it has any.

        Only one of a name is scheduled at a time, so that events that are dropped leave no entry.
        """
        events = self._queue(name).items
        if events and self._handlers[name] and name not in self._scheduled:
            sequence = events[0].sequence
            try:
                self._scheduled.add(name)
                self._dispatcher.schedule(self, name, sequence)
            except BaseException:
                # Ctrl-C, perhaps before it was scheduled: a second entry has no effect.
                self._dispatcher.schedule(self, name, sequence)
                raise

    def _drop_oldest(self) -> None:
        bounded = [queue for name, queue in self._queues.items() if name not in self._unbounded]
        for _ in range(sum(len(queue.items) for queue in bounded) - PENDING_LIMIT):
            filled = (queue for queue in bounded if queue.items)
            min(filled, key=lambda queue: queue.items[0].sequence).pop_oldest()
            if not self._warned:
                self._warned = True
                logger.warning(
                    "%s: more than %d events that no handler gets, or not fast enough;"
                    " the oldest are dropped",
                    self._owner,
                    PENDING_LIMIT,
                )

    # the user's side

    def on(self, name: str, handler: Handler, *, once: bool = False) -> None:
        """Register a handler, which gets the pending events first."""
        registration = register(name, handler, self._events[name], once)
        with self._lock:
            first = not self._handlers[name]
            self._handlers[name].append(registration)
            if first:
                self._on_first_handler(name)
            self._schedule(name)

    def _on_first_handler(self, name: str) -> None:
        """Turn waiting threads into observers, or let them look again: handlers get the events from
        now on."""
        receivers, self._receivers[name] = self._receivers[name], []
        for waiter in receivers:
            if waiter.observes:
                # At once: the next event may come before the thread could look again.
                waiter.observing = True
                self._observers[name].append(waiter)
            else:
                waiter.wake()

    def _on_no_handler(self, name: str) -> None:
        """Let waiting threads look again: no handler gets the events any more."""
        _wake_all(self._blocked_by_handler[name], self._observers[name])

    def off(self, name: str, handler: Handler | None) -> None:
        """Remove a handler, or all of an event; unknown ones are ignored."""
        with self._lock:
            registrations = self._handlers[name]
            if handler is None:
                registrations.clear()
            else:
                for registration in registrations:
                    if registration.handler == handler:
                        registrations.remove(registration)
                        break
            if not registrations:
                self._on_no_handler(name)

    def dispatch(self, name: str, sequence: int) -> None:
        """Call the handlers with the oldest pending event, unless it is later than `sequence`;
        dispatcher thread."""
        with self._lock:
            self._scheduled.discard(name)
            registrations = list(self._handlers[name])
            queue = self._queue(name)
            # A later event is the oldest if the scheduled one was received or dropped since.
            ready = registrations and queue.items and queue.items[0].sequence <= sequence
            event = queue.pop_oldest() if ready else None
            if event is None:
                self._schedule(name)
                return
            remaining = [r for r in registrations if not r.once]
            self._handlers[name] = remaining
            if not remaining:
                self._on_no_handler(name)
            self._schedule(name)
        try:
            for registration in registrations:
                try:
                    registration.call(event.arguments)
                except BaseException:
                    # Not even a sys.exit() of one handler may end the user's other events.
                    logger.exception("%s: exception in the handler of %r", self._owner, name)
        finally:
            event.finish()

    def pending_count(self, name: str) -> int:
        """Return the number of pending events of a name."""
        with self._lock:
            return len(self._queue(name).items)

    def get(
        self, name: str, deadline: Deadline, what: str, *, observe: bool
    ) -> tuple[Any, ...] | None:
        """Wait for the next event that no handler gets; user threads.

        Args:
            what: The awaited thing, for the error when the time runs out.
            observe: While handlers get the events, return a copy of the next one rather than wait
                until there is no handler.

        Returns:
            The event's arguments, or None if a `close` was awaited and the object ended.

        Raises:
            ArticoTimeoutError: The deadline passed.
            Exception: As `ended` makes it, when no event can come any more.
        """
        event: PendingEvent | None = None
        waiter: _EventWaiter | None = None
        try:
            while event is None:
                with self._lock:
                    handled = bool(self._handlers[name])
                    if not handled:
                        event = self._queue(name).pop_oldest()
                        if event is not None:
                            break
                    if self._finished and not self._may_become_free(name):
                        self._end(name, observe)
                        return None
                    if deadline.expired:
                        raise self._timeout(deadline, what)
                    waiter = _EventWaiter(observe, handled and observe)
                    self._group(handled, observe)[name].append(waiter)
                waiter.wait(deadline)
                if waiter.given is None:
                    with self._lock:
                        self._withdraw(name, waiter)
                if waiter.given is not None and waiter.observing:
                    return waiter.given.arguments
                event = waiter.given
            event.finish()
        except BaseException:
            # Ctrl-C: an event that was handed over in that moment goes to the next thread.
            with self._lock:
                self._cancel_wait(name, waiter, event)
            raise
        return event.arguments

    def _group(self, handled: bool, observe: bool) -> defaultdict[str, list[_EventWaiter]]:
        if not handled:
            return self._receivers
        return self._observers if observe else self._blocked_by_handler

    def _may_become_free(self, name: str) -> bool:
        """Return True if pending events remain that `once` handlers have not consumed."""
        queue = self._queue(name)
        return bool(queue.items) and all(r.once for r in self._handlers[name])

    def _end(self, name: str, observe: bool) -> None:
        """Raise the error of a wait that no event can satisfy, unless the end was awaited."""
        if observe and name == "close":
            return
        raise self._ended()

    def _withdraw(self, name: str, waiter: _EventWaiter) -> bool:
        """Remove a waiting thread from its group; return False if it is in none."""
        for group in (self._receivers, self._observers, self._blocked_by_handler):
            if waiter in group[name]:
                group[name].remove(waiter)
                return True
        return False

    def _cancel_wait(
        self, name: str, waiter: _EventWaiter | None, event: PendingEvent | None
    ) -> None:
        if waiter is not None and not self._withdraw(name, waiter) and not waiter.observing:
            event = event or waiter.given
        if event is not None:
            self._put_back(name, event)

    def _put_back(self, name: str, event: PendingEvent) -> None:
        woken = _hand_over([event], self._receivers[name])
        for waiter in woken:
            waiter.wake()
        if not woken:
            self._queue(name).put_back(event)
            self._schedule(name)

    def _timeout(self, deadline: Deadline, what: str) -> ArticoTimeoutError:
        return ArticoTimeoutError(
            f"Timed out after {deadline.timeout:g} s waiting for {what}. {self._owner}"
        )


def _hand_over(events: Sequence[PendingEvent], waiters: list[_EventWaiter]) -> list[_EventWaiter]:
    """Give waiting threads one event each while there are both; return the threads to wake."""
    count = min(len(events), len(waiters))
    woken = waiters[:count]
    del waiters[:count]
    for waiter, event in zip(woken, events, strict=False):
        waiter.given = event
    return woken


def _wake_all(*groups: list[_EventWaiter]) -> None:
    """Wake all threads of some groups, which then look again."""
    for waiters in groups:
        for waiter in waiters:
            waiter.wake()
        waiters.clear()
