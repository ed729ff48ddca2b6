"""The events of one object on their way from the loop thread to user threads, none lost to a late
handler.

Every event name has a janus queue. An event goes to the handlers of its name if there are any, else
to a thread that waits for it, else it stays in the queue for whoever comes first: a handler
registered later, or a thread.

Lock order: a mailbox's lock, then the dispatcher's, then the lock inside a janus queue. No handler
and no wait runs under any.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.pending_events import Event, PendingEvents
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._bridge.waiting.waiter import Waiter
from artico_sync.errors import ArticoTimeoutError

logger = logging.getLogger("artico_sync.events")

Handler = Callable[..., Any]

#: Kept events of an object, messages aside; beyond that the oldest is dropped.
PENDING_LIMIT = 1000


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


class _Wait(Waiter[Event]):
    """A thread that waits for an event."""

    __slots__ = ("observes", "beside")

    def __init__(self, observes: bool, beside: bool) -> None:
        super().__init__()
        #: Whether it sees the next event even while handlers take it, and whether they do now.
        self.observes = observes
        self.beside = beside


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
        # An object has many events, of which few are ever of interest to anybody.
        self._handlers: defaultdict[str, list[Registration]] = defaultdict(list)
        self._queues: dict[str, PendingEvents] = {}
        #: Threads that take the next event, threads that see it beside the handlers, and threads
        #: that wait for the handlers to go.
        self._takers: defaultdict[str, list[_Wait]] = defaultdict(list)
        self._observers: defaultdict[str, list[_Wait]] = defaultdict(list)
        self._sidelined: defaultdict[str, list[_Wait]] = defaultdict(list)
        #: The names whose oldest event is with the dispatcher, waiting for its turn.
        self._due: set[str] = set()
        self._warned = False
        self._finished = False

    # the loop's side

    def emit(self, name: str, *arguments: Any) -> None:
        """Hand an event over; any thread, never blocks."""
        self.emit_all(name, (arguments,))

    def emit_all(
        self,
        name: str,
        batch: Sequence[tuple[Any, ...]],
        consumed: Callable[..., None] | None = None,
    ) -> None:
        """Hand events over; any thread, never blocks.

        Args:
            batch: The arguments of each.
            consumed: Called with an event's arguments once a user thread is done with it.
        """
        with self._lock:
            if self._finished:
                return
            next_sequence = self._dispatcher.next_sequence
            events = [Event(arguments, next_sequence(), consumed) for arguments in batch]
            handled = bool(self._handlers[name])
            waiters = self._observers[name] if handled else self._takers[name]
            woken = _hand_over(events[:1] * len(waiters) if handled else events, waiters)
            rest = events if handled else events[len(woken) :]
            if rest:
                self._queue(name).put(rest)
                if name not in self._unbounded:
                    self._drop_oldest()
                self._make_due(name)
        # Outside of the lock, which is the first thing they may need.
        for waiter in woken:
            waiter.wake()
        if not handled and name == "error":
            logger.error("%s: %s", self._owner, batch[0][0])

    def finish(self) -> None:
        """No event can come any more: end every wait once what is kept was taken."""
        with self._lock:
            self._finished = True
            for groups in (self._takers, self._observers, self._sidelined):
                _wake_all(*groups.values())

    def reopen(self) -> None:
        """Events can come again: the object starts over, what was kept is still kept."""
        with self._lock:
            self._finished = False

    def _queue(self, name: str) -> PendingEvents:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = PendingEvents()
        return queue

    def _make_due(self, name: str) -> None:
        """Have the oldest event of a name go to its handlers, if it has any.

        Only one of a name waits at the dispatcher, so that those that are dropped leave nothing.
        """
        events = self._queue(name).events
        if events and self._handlers[name] and name not in self._due:
            turn = events[0].turn
            try:
                self._due.add(name)
                self._dispatcher.put(self, name, turn)
            except BaseException:
                # Ctrl-C, perhaps before it was put: twice is harmless.
                self._dispatcher.put(self, name, turn)
                raise

    def _drop_oldest(self) -> None:
        kept = [queue for name, queue in self._queues.items() if name not in self._unbounded]
        for _ in range(sum(len(queue.events) for queue in kept) - PENDING_LIMIT):
            min((queue for queue in kept if queue.events), key=lambda q: q.events[0].turn).take()
            if not self._warned:
                self._warned = True
                logger.warning(
                    "%s: more than %d events that nobody handles, or not soon enough;"
                    " the oldest are dropped",
                    self._owner,
                    PENDING_LIMIT,
                )

    # the user's side

    def on(self, name: str, handler: Handler, *, once: bool = False) -> None:
        """Register a handler; kept events go to it."""
        registration = register(name, handler, self._events[name], once)
        with self._lock:
            first = not self._handlers[name]
            self._handlers[name].append(registration)
            if first:
                self._stand_aside(name)
            self._make_due(name)

    def _stand_aside(self, name: str) -> None:
        """Have waiting threads learn that events go to handlers from now on."""
        takers, self._takers[name] = self._takers[name], []
        for waiter in takers:
            if waiter.observes:
                # At once: the next event may come before it could look again.
                waiter.beside = True
                self._observers[name].append(waiter)
            else:
                waiter.wake()

    def _take_over(self, name: str) -> None:
        """Have waiting threads look again, now that events go to no handler."""
        _wake_all(self._sidelined[name], self._observers[name])

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
                self._take_over(name)

    def dispatch(self, name: str, turn: int) -> None:
        """Give the oldest kept event to the handlers if its turn has come; dispatcher thread."""
        with self._lock:
            self._due.discard(name)
            registrations = list(self._handlers[name])
            queue = self._queue(name)
            # It is another one's turn where the event was taken or dropped meanwhile.
            ready = registrations and queue.events and queue.events[0].turn <= turn
            event = queue.take() if ready else None
            if event is None:
                self._make_due(name)
                return
            remaining = [r for r in registrations if not r.once]
            self._handlers[name] = remaining
            if not remaining:
                self._take_over(name)
            self._make_due(name)
        try:
            for registration in registrations:
                try:
                    registration.call(event.arguments)
                except BaseException:
                    # The user's fault must not end the user's other events, be it a sys.exit().
                    logger.exception("%s: exception in the handler of %r", self._owner, name)
        finally:
            event.finish()

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
                for the handlers to go.

        Returns:
            The event's arguments, or None where the object ended with a `close` that was waited
            for.

        Raises:
            ArticoTimeoutError: The deadline passed.
            Exception: What `ended` makes, when no event can come any more.
        """
        event: Event | None = None
        waiter: _Wait | None = None
        try:
            while event is None:
                with self._lock:
                    handled = bool(self._handlers[name])
                    if not handled:
                        event = self._queue(name).take()
                        if event is not None:
                            break
                    if self._finished and not self._may_be_left(name):
                        self._end(name, observe)
                        return None
                    if deadline.expired:
                        raise self._timeout(deadline, what)
                    waiter = _Wait(observe, handled and observe)
                    self._group(handled, observe)[name].append(waiter)
                waiter.wait(deadline)
                if waiter.given is None:
                    with self._lock:
                        self._retire(name, waiter)
                if waiter.given is not None and waiter.beside:
                    return waiter.given.arguments
                event = waiter.given
            event.finish()
        except BaseException:
            # Ctrl-C: what was taken or handed over in that moment is for others.
            with self._lock:
                self._give_up(name, waiter, event)
            raise
        return event.arguments

    def _group(self, handled: bool, observe: bool) -> defaultdict[str, list[_Wait]]:
        if not handled:
            return self._takers
        return self._observers if observe else self._sidelined

    def _may_be_left(self, name: str) -> bool:
        """Whether handlers that take one event each have not taken theirs of the kept ones yet."""
        queue = self._queue(name)
        return bool(queue.events) and all(r.once for r in self._handlers[name])

    def _end(self, name: str, observe: bool) -> None:
        """No event can come: the end of a wait."""
        if observe and name == "close":
            return
        raise self._ended()

    def _retire(self, name: str, waiter: _Wait) -> bool:
        """Have a thread wait no more; returns whether it did."""
        for group in (self._takers, self._observers, self._sidelined):
            if waiter in group[name]:
                group[name].remove(waiter)
                return True
        return False

    def _give_up(self, name: str, waiter: _Wait | None, event: Event | None) -> None:
        if waiter is not None and not self._retire(name, waiter) and not waiter.beside:
            event = event or waiter.given
        if event is not None:
            self._put_back(name, event)

    def _put_back(self, name: str, event: Event) -> None:
        woken = _hand_over([event], self._takers[name])
        for waiter in woken:
            waiter.wake()
        if not woken:
            self._queue(name).put_back(event)
            self._make_due(name)

    def _timeout(self, deadline: Deadline, what: str) -> ArticoTimeoutError:
        return ArticoTimeoutError(
            f"Timed out after {deadline.timeout:g} s waiting for {what}. {self._owner}"
        )


def _hand_over(events: Sequence[Event], waiters: list[_Wait]) -> list[_Wait]:
    """Give waiting threads an event each, as far as both go. Returns whom to wake."""
    count = min(len(events), len(waiters))
    woken = waiters[:count]
    del waiters[:count]
    for waiter, event in zip(woken, events, strict=False):
        waiter.given = event
    return woken


def _wake_all(*groups: list[_Wait]) -> None:
    """Have them look again."""
    for waiters in groups:
        for waiter in waiters:
            waiter.wake()
        waiters.clear()
