"""Waking the loop thread from any other; the cheapest way the system has.

asyncio's own way makes a handle for each wake-up and reads its socket twice. Linux has a counter
that is read once.

Lock order: `_lock` alone; nothing else happens under it but the write. It is reentrant, because a
signal handler may send in the middle of a send.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Protocol

from artico_sync._protocol.settings import Settings

logger = logging.getLogger("artico_sync._speedups.wake_up")


class WakeUp(Protocol):
    """Has a function run on the loop."""

    def wake(self) -> None:
        """Have it run soon; any thread. RuntimeError where the loop is closed."""

    def close(self) -> None:
        """No more; loop thread."""


class PlainWakeUp:
    """asyncio's own way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
        self._loop = loop
        self._function = function

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._function)

    def close(self) -> None:
        """The loop's own end is the end of it."""


class CounterWakeUp:
    """A counter of the kernel's, see eventfd(2)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
        self._loop = loop
        self._function = function
        # Prevents writes to a descriptor that has been closed and reused.
        self._lock = threading.RLock()
        self._descriptor: int | None = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        loop.add_reader(self._descriptor, self._on_readable)

    def _on_readable(self) -> None:
        if self._descriptor is not None:
            self._function()
            # Only then, because it gives up the interpreter to the thread that has just sent.
            if self._descriptor is not None:
                os.eventfd_read(self._descriptor)
                # A wake-up written between the two calls was cleared by this read: run again.
                self._function()

    def wake(self) -> None:
        with self._lock:
            if self._descriptor is None:
                raise RuntimeError("the loop is closed")
            os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)


def make_wake_up(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> WakeUp:
    """The best way there is to have `function` run on `loop`."""
    if Settings().accelerate and hasattr(os, "eventfd") and hasattr(loop, "add_reader"):
        return CounterWakeUp(loop, function)
    logger.info("the loop is woken in asyncio's own way")
    return PlainWakeUp(loop, function)
