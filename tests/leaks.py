"""Leaks of the tests of this library, found by `artico_sync.testing.leaks`."""

from __future__ import annotations

import asyncio
import weakref

from artico_sync.testing.leaks import ErrorLog, LeakDetector

__all__ = ["SESSION_LOOPS", "SESSION_THREADS", "ErrorLog", "SessionLeakDetector"]

# Threads and loops that last for the whole test session; their own fixtures end them.
SESSION_THREADS = ("interop-browser",)
SESSION_LOOPS: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


class SessionLeakDetector(LeakDetector):
    """Finds any leak but the threads and loops of the test session."""

    def __init__(self) -> None:
        super().__init__(ignored_threads=SESSION_THREADS, ignored_loops=SESSION_LOOPS)
