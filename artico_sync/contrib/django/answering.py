"""Serves incoming calls with a function of the project, on one thread per call."""

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

logger = logging.getLogger(__name__)

# Limit for the handlers to return after their calls have ended.
JOIN_SECONDS = 5.0


class Answering:
    """Runs a handler for each incoming call, on a thread of its own, so that it may block.

    Args:
        rtco: The client that receives the calls; its owner connects and closes it.
        handler: Called with the call, and its metadata if it takes two arguments. A call that it
            has not answered when it returns is rejected; one that it has answered stays open, with
            the event handlers it registered, until either side hangs up.
        max_calls: Most calls served at once; more are rejected.
    """

    def __init__(self, rtco: Artico, handler: Callable[..., Any], max_calls: int) -> None:
        self._handler = handler
        self._argument_count = _count_arguments(handler)
        self._free_slots = threading.BoundedSemaphore(max_calls)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        rtco.on("call", self._on_call)

    def _on_call(self, call: Call) -> None:
        if not self._free_slots.acquire(blocking=False):
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
            self._handler(*(call, call.metadata)[: self._argument_count])
            if call.answered:
                call.wait_closed()
        except Exception as error:
            if isinstance(error, CallError) and call.closed:
                # The caller gave up or hung up, which is not a fault of the handler.
                logger.info("%s", error)
            else:
                logger.exception("exception in the handler of the call from %s", call.target)
        finally:
            self._end_call(call)

    def _end_call(self, call: Call) -> None:
        try:
            call.hangup()
        except ArticoError as error:
            logger.info("%s", error)
        close_old_connections()
        self._free_slots.release()
        with self._lock:
            self._threads.discard(threading.current_thread())

    def join(self) -> None:
        """Wait until the handlers return; called after their calls have ended."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(JOIN_SECONDS)


def _count_arguments(handler: Callable[..., Any]) -> int:
    """Return how many of the arguments (call, metadata) the handler takes.

    Raises:
        TypeError: The handler cannot be called with them.
    """
    if inspect.iscoroutinefunction(handler):
        raise TypeError("it is a coroutine function; it must be a plain function, which may block")
    signature = inspect.signature(handler)
    for count in (2, 1):
        try:
            signature.bind(*(None,) * count)
        except TypeError:
            continue
        return count
    raise TypeError("it must take the call, or the call and its metadata")
