"""What a test left behind; the look itself is `artico_sync.testing.leaks`; test thread."""

from __future__ import annotations

import asyncio
import weakref

from artico_sync.testing import leaks
from artico_sync.testing.leaks import ErrorLog

__all__ = ["SESSION_LOOPS", "SESSION_THREADS", "ErrorLog", "Leaks"]

# What lives for the whole test session and is ended by its own fixture.
SESSION_THREADS = ("interop-browser",)
SESSION_LOOPS: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


class Leaks(leaks.Leaks):
    """Everything there is, but for what lives for the whole test session."""

    def __init__(self) -> None:
        super().__init__(ignored_threads=SESSION_THREADS, ignored_loops=SESSION_LOOPS)
