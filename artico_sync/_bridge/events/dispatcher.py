"""The handlers of events, and the dispatcher thread of a client that runs them.

Handlers run one at a time, in the order of the events of all the client's objects.

Lock order: `_lock`, which `_condition` is on, then the lock inside the janus queue.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from artico_sync._bridge.threads import make_thread
from artico_sync._bridge.waiting.deadline import Deadline, get_item, join, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition, PriorityQueue
from artico_sync._checks import check_callable

logger = logging.getLogger(__name__)

Handler = Callable[..., Any]

#: A sequence number before all others, which are still delivered.
STOP_FIRST = -1


@dataclass(frozen=True, slots=True)
class Registration:
    """A handler, and the number of arguments it accepts; None for any."""

    handler: Handler
    arity: int | None
    once: bool

    def call(self, arguments: tuple[Any, ...]) -> None:
        self.handler(*(arguments if self.arity is None else arguments[: self.arity]))


def register(event: str, handler: Handler, arguments: int, once: bool) -> Registration:
    """Check a handler for an event with that number of arguments.

    Raises:
        TypeError: Not callable, a coroutine function, or in need of more arguments than the event
            has.
    """
    check_callable(f"the handler of {event!r}", handler)
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        # Some builtins have no signature.
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


class Dispatchable(Protocol):
    """An object with pending events to deliver to its handlers."""

    def dispatch(self, name: str, sequence: int) -> None: ...


class Dispatcher:
    """A thread that starts with the first event that has a handler and ends with `stop()`.

    A handler registered after the stop still gets the pending events: the thread then lives until
    it is idle.

    Args:
        name: The name of the client, for the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._condition = Condition(self._lock)
        # By sequence number, then by entry; without a target the thread only checks if it is to
        # stop.
        self._queue: PriorityQueue[tuple[int, int, Dispatchable | None, str]] = PriorityQueue()
        self._entries = itertools.count()
        self._sequence = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def next_sequence(self) -> int:
        """Return the sequence number of an event that happens now, among those of all objects; any
        thread."""
        return next(self._sequence)

    def schedule(self, target: Dispatchable, name: str, sequence: int) -> None:
        """Deliver the oldest pending `name` event of `target` after all events before it; any
        thread, never blocks.

        Args:
            sequence: The sequence number of that event.
        """
        # One lock for both, so that a thread about to end cannot miss the event.
        with self._lock:
            self._queue.sync_q.put_nowait((sequence, next(self._entries), target, name))
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = make_thread(f"events-{self._name}", self._run)
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
            sequence, _, target, name = get_item(self._queue.sync_q, no_limit)
            if target is not None:
                self._deliver(target, name, sequence)
                # The wait for the next one may be long, and must not keep this one alive.
                target = None
            with self._lock:
                # Events that came after the request to stop are still delivered.
                if self._stopping and self._queue.sync_q.qsize() == 0:
                    self._thread = None
                    self._condition.notify_all()
                    return

    def _deliver(self, target: Dispatchable, name: str, sequence: int) -> None:
        try:
            target.dispatch(name, sequence)
        except Exception:
            # The exceptions of handlers are caught where they are called; after a bug in this
            # library, later events are still delivered.
            logger.exception("unexpected error while delivering %r", name)

    @property
    def is_current(self) -> bool:
        """True if the caller runs on the dispatcher thread, that is inside a handler."""
        thread = self._thread
        return thread is not None and thread.ident == threading.get_ident()

    def resume(self) -> None:
        """Undo a `stop()`: the client connects again."""
        with self._lock:
            self._stopping = False
            self._condition.notify_all()

    def stop(self, deadline: Deadline) -> bool:
        """Deliver the scheduled events, then end the thread; waits for it, except inside a handler.

        Returns:
            True if the thread has ended.
        """
        self.request_stop()
        return self.wait_ended(deadline)

    def request_stop(self) -> None:
        """End the thread once the scheduled events have been delivered; does not wait."""
        with self._lock:
            self._stopping = True
            if self._thread is not None:
                self._queue.sync_q.put_nowait((STOP_FIRST, next(self._entries), None, ""))

    def wait_ended(self, deadline: Deadline) -> bool:
        """Wait for the requested end, except inside a handler, or until `resume` undoes it.

        Returns:
            True if the thread has ended.
        """
        with self._condition:
            thread = self._thread
            if thread is None:
                return True
            # An interpreter that is being finalized runs no other thread any more.
            if self.is_current or sys.is_finalizing():
                return False
            wait_until(
                self._condition, lambda: self._thread is not thread or not self._stopping, deadline
            )
            if self._thread is thread:
                return False
        return join(thread, deadline)
