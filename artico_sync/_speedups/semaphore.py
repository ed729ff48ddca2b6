"""Semaphores of the C library to wake a waiting thread, in place of Python's locks.

Python's lock is released with the interpreter's lock held, through the system call that wakes the
other thread. That thread is awake before the call is over, finds the interpreter taken and sleeps
again; a semaphore is posted without the interpreter's lock, which saves this second sleep for each
message a thread waits for.

The plain twin is `LockWaitHandle`.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from artico_sync._protocol.settings import Settings

logger = logging.getLogger(__name__)

#: Bytes no semaphore of a C library exceeds.
SEMAPHORE_BYTES = 64
CLOCK_MONOTONIC = 1


class WaitHandle(Protocol):
    """An object one thread waits on, once."""

    def wake(self) -> None:
        """Wake the thread, or end its wait before it begins; any thread, once."""

    def wait(self, seconds: float) -> bool:
        """Wait until `wake`, or for about `seconds`; a signal may end it earlier.

        Returns:
            True if it was `wake` that ended it.
        """


class LockWaitHandle:
    """A wait on a lock of Python's, which every system has."""

    __slots__ = ("_lock", "wake")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.wake = self._lock.release

    def wait(self, seconds: float) -> bool:
        return self._lock.acquire(True, seconds)


class SemaphoreFunctions:
    """The functions of the C library for semaphores, see sem_overview(7).

    Raises:
        ImportError, OSError, AttributeError: This system does not have them.
    """

    def __init__(self) -> None:
        if sys.platform != "linux" or sys.maxsize < 2**32:
            raise ImportError("only known on Linux with 64 bits")
        import ctypes

        class Timespec(ctypes.Structure):
            _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

        library = ctypes.CDLL(None)
        pointer = ctypes.c_void_p
        self.initialize = library.sem_init
        self.initialize.argtypes = [pointer, ctypes.c_int, ctypes.c_uint]
        self.post = library.sem_post
        self.post.argtypes = [pointer]
        self.wait = library.sem_clockwait
        self.wait.argtypes = [pointer, ctypes.c_int, ctypes.POINTER(Timespec)]
        self.new_semaphore: Callable[[], Any] = ctypes.c_char * SEMAPHORE_BYTES
        self.new_time: Callable[[int, int], Any] = Timespec
        self.by_reference = ctypes.byref


class SemaphoreWaitHandle:
    """A wait on a semaphore."""

    __slots__ = ("_functions", "_semaphore")

    def __init__(self, functions: SemaphoreFunctions) -> None:
        self._functions = functions
        self._semaphore = functions.new_semaphore()
        functions.initialize(self._semaphore, 0, 0)

    def wake(self) -> None:
        self._functions.post(self._semaphore)

    def wait(self, seconds: float) -> bool:
        functions = self._functions
        end = monotonic() + seconds
        whole = int(end)
        until = functions.by_reference(functions.new_time(whole, int((end - whole) * 1e9)))
        return bool(functions.wait(self._semaphore, CLOCK_MONOTONIC, until) == 0)


@functools.cache
def wait_handle_factory() -> Callable[[], WaitHandle]:
    """Return the function that makes wait handles: on semaphores if this system has them."""
    if not Settings().accelerate:
        return LockWaitHandle
    try:
        functions = SemaphoreFunctions()
    except (ImportError, OSError, AttributeError) as error:
        logger.info("threads wait on Python's own locks: %s", error)
        return LockWaitHandle
    return functools.partial(SemaphoreWaitHandle, functions)
