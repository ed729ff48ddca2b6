"""Serves incoming calls with a function of the project; a thread for each call."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any

from django.db import close_old_connections

from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.errors import ArticoError, CallError

logger = logging.getLogger("artico_sync.contrib")

# Seconds the handlers get to end after their calls have.
END_LIMIT = 5.0


class Answering:
    """Calls `handler` for each incoming call, on a thread of its own, so that it may block.

    Args:
        rtco: The client that is called; connected and closed by whoever owns it.
        handler: Called with the call, and its metadata if it takes two arguments. A call it has
            not answered when it returns is rejected; one it has answered goes on, with the
            handlers of events it left, until either side hangs up.
        most: Calls served at once; more are rejected.
    """

    def __init__(self, rtco: Artico, handler: Callable[..., Any], most: int) -> None:
        self._handler = handler
        self._arguments = _count_arguments(handler)
        self._room = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        rtco.on("call", self._on_call)

    def _on_call(self, call: Call) -> None:
        if not self._room.acquire(blocking=False):
            logger.warning("too many calls at once: the one from %s is rejected", call.target)
            call.hangup()
            return
        thread = threading.Thread(
            target=self._serve, args=(call,), name=f"artico_answer-{call.session}", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _serve(self, call: Call) -> None:
        close_old_connections()
        try:
            self._handler(*(call, call.metadata)[: self._arguments])
            if call.answered:
                call.wait_closed()
        except Exception as error:
            if isinstance(error, CallError) and call.closed:
                # The caller gave up, or hung up: no fault of the handler's.
                logger.info("%s", error)
            else:
                logger.exception("exception in the handler of the call from %s", call.target)
        finally:
            self._leave(call)

    def _leave(self, call: Call) -> None:
        try:
            call.hangup()
        except ArticoError as error:
            logger.info("%s", error)
        close_old_connections()
        self._room.release()
        with self._lock:
            self._threads.discard(threading.current_thread())

    def join(self) -> None:
        """Wait for the handlers to end, when their calls have."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(END_LIMIT)


def _count_arguments(handler: Callable[..., Any]) -> int:
    """How many of (call, metadata) the handler takes.

    Raises:
        TypeError: It cannot be called with them.
    """
    if inspect.iscoroutinefunction(handler):
        raise TypeError("it is a coroutine function, which nobody would await")
    signature = inspect.signature(handler)
    for count in (2, 1):
        try:
            signature.bind(*(None,) * count)
        except TypeError:
            continue
        return count
    raise TypeError("it must take the call, or the call and its metadata")
