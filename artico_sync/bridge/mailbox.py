"""The events of one object on their way from the loop thread to user threads, none lost to a late
handler.

Every event name has a janus queue. An event goes to the handlers of its name if there are any,
else it stays in
the queue for whoever comes first: a handler registered later, or a thread that waits for it.

Lock order: a mailbox's lock, then the lock inside a janus queue. No handler and no wait runs under
either.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import janus

from artico_sync.bridge.dispatcher import Dispatcher
from artico_sync.bridge.waiting import Deadline, take
from artico_sync.errors import ArticoTimeoutError

logger = logging.getLogger("artico_sync.events")

Handler = Callable[..., Any]

#: Kept events of an object, messages aside; beyond that the oldest is dropped.
KEPT_LIMIT = 1000


class Event:
    """An event on its way: its arguments, its place in the order, and whom to tell once it is
    consumed."""

    # No dataclass: a frozen one takes three times as long to make, and each message is one.
    __slots__ = ("arguments", "order", "consumed")

    def __init__(
        self, arguments: tuple[Any, ...], order: int, consumed: Callable[[], None] | None
    ) -> None:
        self.arguments = arguments
        self.order = order
        self.consumed = consumed


class KeptEvents(janus.Queue["Event | None"]):
    """A janus queue that also shows its oldest event; None in it only wakes a waiting thread."""

    def _init(self, maxsize: int) -> None:
        self.events: deque[Event | None] = deque()

    def _qsize(self) -> int:
        return len(self.events)

    def _put(self, item: Event | None) -> None:
        self.events.append(item)

    def _get(self) -> Event | None:
        return self.events.popleft()


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler and how many arguments it wants."""

    handler: Handler
    arity: int | None
    once: bool

    def call(self, arguments: tuple[Any, ...]) -> None:
        self.handler(*(arguments if self.arity is None else arguments[: self.arity]))


def register(event: str, handler: Handler, arguments: int, once: bool) -> Registration:
    """Check a handler for an event with that many arguments.

    Raises:
        TypeError: Not callable, a coroutine function, or in need of more arguments than the event
            has.
    """
    if not callable(handler):
        raise TypeError(f"the handler of {event!r} must be callable, not {type(handler).__name__}")
    call = getattr(type(handler), "__call__", None)
    for function in (handler, call):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"the handler of {event!r} is a coroutine function, which nobody would await:"
                " write a plain function, it may block"
            )
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        # Some builtins do not tell their signature.
        return Registration(handler, None, once)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    needed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if required > arguments or needed:
        raise TypeError(
            f"the handler of {event!r} is called with {arguments} arguments, but needs others"
        )
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    return Registration(handler, None if variadic else len(positional), once)


class Mailbox:
    """Kept events, handlers and waiting threads of one object."""

    def __init__(
        self,
        owner: str,
        events: Mapping[str, int],
        dispatcher: Dispatcher,
        *,
        ended: Callable[[], Exception],
        unbounded: frozenset[str] = frozenset(),
    ) -> None:
        """
        Args:
            owner: What the log calls the object.
            events: The valid names, each with its number of arguments.
            dispatcher: Runs the handlers.
            ended: Makes the error for a wait that can no longer succeed.
            unbounded: Events whose number is bounded elsewhere.
        """
        self._owner = owner
        self._events = events
        self._dispatcher = dispatcher
        self._ended = ended
        self._unbounded = unbounded
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._handlers: dict[str, list[Registration]] = {name: [] for name in events}
        self._queues: dict[str, KeptEvents] = {}
        self._takers: dict[str, int] = dict.fromkeys(events, 0)
        self._observers: dict[str, list[KeptEvents]] = {name: [] for name in events}
        self._order = 0
        self._warned = False
        self._finished = False

    # the loop's side

    def emit(self, name: str, *arguments: Any, consumed: Callable[[], None] | None = None) -> None:
        """Hand an event over; any thread, never blocks.

        Args:
            consumed: Called once a user thread is done with the event.
        """
        with self._lock:
            if self._finished:
                return
            self._order += 1
            event = Event(arguments, self._order, consumed)
            handled = bool(self._handlers[name])
            for observer in self._observers[name]:
                observer.sync_q.put_nowait(event)
            queue = self._queues.get(name) or self._queue(name)
            queue.sync_q.put(event, False)
            if handled:
                self._dispatcher.put(self, name)
            elif name not in self._unbounded:
                self._drop_oldest()
        if not handled and name == "error":
            logger.error("%s: %s", self._owner, arguments[0])

    def finish(self) -> None:
        """No event can come any more: end every wait once what is kept was taken."""
        with self._lock:
            self._finished = True
            for queue in self._queues.values():
                queue.shutdown()
            for observers in self._observers.values():
                for queue in observers:
                    queue.shutdown()
            self._changed.notify_all()

    def reopen(self) -> None:
        """Events can come again: the object starts over, what was kept is still kept."""
        with self._lock:
            if not self._finished:
                return
            self._finished = False
            for name, old in list(self._queues.items()):
                fresh = KeptEvents()
                for event in old.events:
                    fresh.sync_q.put_nowait(event)
                self._queues[name] = fresh

    def _queue(self, name: str) -> KeptEvents:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = KeptEvents()
            if self._finished:
                queue.shutdown()
        return queue

    def _drop_oldest(self) -> None:
        kept = [
            queue
            for name, queue in self._queues.items()
            if name not in self._unbounded and not self._handlers[name]
        ]
        if sum(len(queue.events) for queue in kept) <= KEPT_LIMIT:
            return
        heads = [
            (head.order, queue) for queue in kept if queue.events and (head := queue.events[0])
        ]
        if heads:
            min(heads, key=lambda pair: pair[0])[1].sync_q.get_nowait()
        if not self._warned:
            self._warned = True
            logger.warning(
                "%s: more than %d events that nobody handles; the oldest are dropped",
                self._owner,
                KEPT_LIMIT,
            )

    # the user's side

    def on(self, name: str, handler: Handler, *, once: bool = False) -> None:
        """Register a handler; kept events go to it."""
        registration = register(name, handler, self._events[name], once)
        with self._lock:
            first = not self._handlers[name]
            self._handlers[name].append(registration)
            queue = self._queue(name)
            kept = len(queue.events)
            if first and not self._finished:
                # Threads blocked on the queue must learn that events go to the handler from now on.
                for _ in range(self._takers[name]):
                    queue.sync_q.put_nowait(None)
            for _ in range(kept):
                self._dispatcher.put(self, name)

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
            self._changed.notify_all()

    def dispatch(self, name: str) -> None:
        """Give the oldest kept event to the handlers; dispatcher thread."""
        with self._lock:
            registrations = list(self._handlers[name])
            if not registrations:
                return
            event = self._oldest(name)
            if event is None:
                return
            remaining = [r for r in registrations if not r.once]
            self._handlers[name] = remaining
            if not remaining:
                self._changed.notify_all()
        try:
            for registration in registrations:
                try:
                    registration.call(event.arguments)
                except BaseException:
                    # The user's fault must not end the user's other events, be it a sys.exit().
                    logger.exception("%s: exception in the handler of %r", self._owner, name)
        finally:
            if event.consumed is not None:
                event.consumed()

    def _oldest(self, name: str) -> Event | None:
        queue = self._queue(name).sync_q
        try:
            while (event := queue.get_nowait()) is None:
                pass
        except (janus.SyncQueueEmpty, janus.SyncQueueShutDown):
            return None
        return event

    def kept(self, name: str) -> int:
        """How many events of a name wait to be taken."""
        with self._lock:
            return len(self._queue(name).events)

    def take(
        self, name: str, deadline: Deadline, what: str, *, observe: bool
    ) -> tuple[Any, ...] | None:
        """Wait for the next event that no handler takes; user threads.

        Args:
            what: What the error calls it when the time runs out.
            observe: While handlers take the events, return a copy of the next one rather than wait
                for
                the handlers to go.

        Returns:
            The event's arguments, or None where the object ended with a `close` that was waited
            for.

        Raises:
            ArticoTimeoutError: The deadline passed.
            Exception: What `ended` makes, when no event can come any more.
        """
        while True:
            with self._lock:
                while self._handlers[name] and not self._finished and not observe:
                    if deadline.expired:
                        raise self._timeout(deadline, what)
                    self._changed.wait(deadline.slice())
                observer = (
                    self._observe(name) if self._handlers[name] and not self._finished else None
                )
                queue = observer or self._queue(name)
                self._takers[name] += observer is None
            try:
                event = take(queue.sync_q, deadline)
            except janus.SyncQueueEmpty:
                raise self._timeout(deadline, what) from None
            except janus.SyncQueueShutDown:
                if name == "close" and observe:
                    return None
                raise self._ended() from None
            finally:
                with self._lock:
                    if observer is None:
                        self._takers[name] -= 1
                    elif observer in self._observers[name]:
                        self._observers[name].remove(observer)
            if event is not None:
                if observer is None and event.consumed is not None:
                    event.consumed()
                return event.arguments

    def _observe(self, name: str) -> KeptEvents:
        observer = KeptEvents()
        self._observers[name].append(observer)
        return observer

    def _timeout(self, deadline: Deadline, what: str) -> ArticoTimeoutError:
        return ArticoTimeoutError(
            f"Timed out after {deadline.timeout:g} s waiting for {what}. {self._owner}"
        )
