"""One client for each process of a web application, connected when first asked for; user threads.

A web server starts an application in one process and forks its workers from it, or starts each by
itself, and nobody says which. So nothing is connected at import; the process that needs the client
first connects its own, and a fork begins without one.

Lock order: `_lock` of a client, then what `Artico` takes; no other lock is held meanwhile.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from artico_sync._bridge.client import CLIENT_EVENTS
from artico_sync._bridge.events.dispatcher import register
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.errors import ArticoError, ArticoTimeoutError

logger = logging.getLogger("artico_sync.contrib")

# Seconds a process that exits gives its calls to deliver what was sent.
EXIT_LIMIT = 2.0
# Seconds a view gives a call, at its end, to deliver what was sent.
HANGUP_LIMIT = 5.0


class ProcessClient:
    """Holds the client of this process.

    Args:
        make: Makes an `Artico`, not connected yet; called once in each process that needs one.
    """

    def __init__(self, make: Callable[[], Artico]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._artico: Artico | None = None
        self._handlers: list[tuple[str, Callable[..., Any]]] = []
        _clients.add(self)

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        """Register a handler on the client of this process and of every one to come.

        Raises:
            ValueError: Unknown event.
            TypeError: Not a handler for it.
        """
        check_handler(event, handler)
        with self._lock:
            self._handlers.append((event, handler))
            if self._artico is not None:
                _listen(self._artico, event, handler)

    def get(self) -> Artico:
        """The client of this process, perhaps not connected yet."""
        with self._lock:
            if self._artico is None:
                self._artico = self._make()
                for event, handler in self._handlers:
                    _listen(self._artico, event, handler)
            return self._artico

    def connected(self, timeout: float | None) -> Artico:
        """The client of this process, connected.

        Args:
            timeout: Seconds to wait for signalling; None for ever.

        Raises:
            IdTakenError, InvalidIdError, SignalingError, ArticoTimeoutError: As `Artico.connect`.
        """
        return self.get().connect(timeout)

    def close(self, timeout: float | None) -> None:
        """Close this process's client, if there is one; another is made when it is asked for.

        Args:
            timeout: Seconds for delivering what was sent; None for ever.
        """
        with self._lock:
            artico, self._artico = self._artico, None
        if artico is not None:
            artico.close(timeout)

    def forget(self) -> None:
        """This is a child now: the client is the parent's, and so is whoever held the lock."""
        self._lock = threading.Lock()
        self._artico = None


@contextmanager
def calling(
    rtco: Artico, target: str, metadata: str | None = None, timeout: float | None = 10
) -> Iterator[Call]:
    """An open call for the length of a block; whatever happens in it, the call is over at its end.

    Args:
        rtco: The client that calls.
        target: The other peer's id.
        metadata: Given with the call.
        timeout: Seconds it may ring and connect; None for ever. A call that takes longer is
            cancelled: the other side stops ringing.

    Raises:
        ArticoTimeoutError: Nobody answered in time.
        CallError: The call came to nothing otherwise.
        NotReadyError: The client is not connected.
    """
    deadline = Deadline(timeout)
    call = rtco.call(target, metadata)
    try:
        yield call.wait_open(deadline.remaining())
    except BaseException:
        try:
            call.hangup(HANGUP_LIMIT)
        except ArticoTimeoutError as error:
            # What went wrong before matters more.
            logger.info("%s: %s", call, error)
        raise
    call.hangup(HANGUP_LIMIT)


def check_handler(event: str, handler: Callable[..., Any]) -> None:
    """Refuse what `Artico.on` would refuse, before there is an `Artico`.

    Raises:
        ValueError: Unknown event.
        TypeError: Not a handler for it.
    """
    if event not in CLIENT_EVENTS:
        raise ValueError(
            f"unknown event {event!r}; the events are {', '.join(sorted(CLIENT_EVENTS))}"
        )
    register(event, handler, CLIENT_EVENTS[event], once=False)


def _listen(rtco: Artico, event: str, handler: Callable[..., Any]) -> None:
    # The name of the event is checked by now, but not known to the type checker.
    on: Any = rtco.on
    on(event, handler)


# Only so that a fork can make all of them forget, and an exit can close them.
_clients: weakref.WeakSet[ProcessClient] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for client in _clients:
        client.forget()


def _close_at_exit() -> None:
    for client in list(_clients):
        try:
            client.close(EXIT_LIMIT)
        except ArticoError as error:
            logger.info("closing a client at the exit: %s", error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_close_at_exit)
