"""One client for each process of a web application, connected when it is first used.

A web server may import an application in one process and fork its workers from it, or start each
worker by itself. Therefore nothing is connected at import: each process connects its own client
when it first needs it, and a forked process begins without one.

Lock order: `_lock` of a client, then the locks of `Artico`.
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

logger = logging.getLogger(__name__)

# Limit for delivering sent messages at the exit of a process.
EXIT_SECONDS = 2.0
# Limit for delivering sent messages at the end of a view.
HANGUP_SECONDS = 5.0


class ProcessClient:
    """The client of this process.

    Args:
        make: Returns an `Artico` that is not connected; called once in each process that needs one.
    """

    def __init__(self, make: Callable[[], Artico]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._artico: Artico | None = None
        self._handlers: list[tuple[str, Callable[..., Any]]] = []
        _clients.add(self)

    def on(self, event: str, handler: Callable[..., Any]) -> None:
        """Register a handler on the client of this process, now and after each `close`.

        Raises:
            ValueError: The event is unknown.
            TypeError: The handler does not fit the event.
        """
        check_handler(event, handler)
        with self._lock:
            self._handlers.append((event, handler))
            if self._artico is not None:
                _listen(self._artico, event, handler)

    def get(self) -> Artico:
        """Return the client of this process, which may not be connected yet."""
        with self._lock:
            if self._artico is None:
                self._artico = self._make()
                for event, handler in self._handlers:
                    _listen(self._artico, event, handler)
            return self._artico

    def connected(self, timeout: float | None) -> Artico:
        """Return the client of this process, connected.

        Args:
            timeout: Seconds to wait for signaling; None waits without limit.

        Raises:
            IdTakenError, InvalidIdError, SignalingError, ArticoTimeoutError: As `Artico.connect`.
        """
        return self.get().connect(timeout)

    def close(self, timeout: float | None) -> None:
        """Close the client of this process, if there is one; the next use makes another.

        Args:
            timeout: Seconds for delivering sent messages; None waits without limit.
        """
        with self._lock:
            artico, self._artico = self._artico, None
        if artico is not None:
            artico.close(timeout)

    def reset_after_fork(self) -> None:
        """Forget the client and the lock, which belong to the parent process."""
        self._lock = threading.Lock()
        self._artico = None


@contextmanager
def calling(
    rtco: Artico, target: str, metadata: str | None = None, timeout: float | None = 10
) -> Iterator[Call]:
    """Place a call, yield it when it is open, and hang up at the end of the block.

    Args:
        rtco: The client that calls.
        target: The other peer's id.
        metadata: Sent with the call.
        timeout: Seconds it may ring and connect; None waits without limit. A call that takes
            longer is canceled: the other side stops ringing.

    Raises:
        ArticoTimeoutError: The peer did not answer in time.
        CallError: The call failed for another reason.
        NotReadyError: The client is not connected.
    """
    deadline = Deadline(timeout)
    call = rtco.call(target, metadata)
    try:
        yield call.wait_open(deadline.remaining())
    except BaseException:
        try:
            call.hangup(HANGUP_SECONDS)
        except ArticoTimeoutError as error:
            # The first exception matters more.
            logger.info("%s: %s", call, error)
        raise
    call.hangup(HANGUP_SECONDS)


def check_handler(event: str, handler: Callable[..., Any]) -> None:
    """Check a handler as `Artico.on` does, before an `Artico` exists.

    Raises:
        ValueError: The event is unknown.
        TypeError: The handler does not fit the event.
    """
    if event not in CLIENT_EVENTS:
        raise ValueError(
            f"unknown event {event!r}; the events are {', '.join(sorted(CLIENT_EVENTS))}"
        )
    register(event, handler, CLIENT_EVENTS[event], once=False)


def _listen(rtco: Artico, event: str, handler: Callable[..., Any]) -> None:
    # The event's name has been checked, but the type checker does not know it.
    on: Any = rtco.on
    on(event, handler)


# Reset after a fork, closed at exit.
_clients: weakref.WeakSet[ProcessClient] = weakref.WeakSet()


def _reset_after_fork() -> None:
    for client in _clients:
        client.reset_after_fork()


def _close_at_exit() -> None:
    for client in list(_clients):
        try:
            client.close(EXIT_SECONDS)
        except ArticoError as error:
            logger.info("closing a client at the exit: %s", error)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
atexit.register(_close_at_exit)
