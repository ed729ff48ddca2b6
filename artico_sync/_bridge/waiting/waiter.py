"""A user thread that waits for the loop thread, and how it is woken.

A lock of Python's is released with the interpreter's lock held, through the system call that wakes
the other thread. That one is awake before the call is over, finds the interpreter taken and goes to
sleep again; so a semaphore of the C library's is used where there is one, called without it.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._protocol.settings import Settings

logger = logging.getLogger("artico_sync._bridge.waiting.waiter")

T = TypeVar("T")

#: No C library's semaphore is larger, in bytes.
SEMAPHORE_SIZE = 64
CLOCK_MONOTONIC = 1


class Sleep(Protocol):
    """What a thread sleeps on, once."""

    def end(self) -> None:
        """Wake the thread, or have it not sleep at all; any thread, once."""

    def wait(self, seconds: float) -> bool:
        """Sleep until `end`, or for about so many seconds; a signal may end it before.

        Returns whether it was `end`.
        """


class LockSleep:
    """On a lock, which is to be had everywhere."""

    __slots__ = ("_lock", "end")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.end = self._lock.release

    def wait(self, seconds: float) -> bool:
        return self._lock.acquire(True, seconds)


class _Semaphores:
    """The C library's. Raises ImportError, OSError or AttributeError where it has them not."""

    def __init__(self) -> None:
        if sys.platform != "linux" or sys.maxsize < 2**32:
            raise ImportError("only known on Linux with 64 bits")
        import ctypes

        class Timespec(ctypes.Structure):
            _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

        library = ctypes.CDLL(None)
        pointer = ctypes.c_void_p
        self.prepare = library.sem_init
        self.prepare.argtypes = [pointer, ctypes.c_int, ctypes.c_uint]
        self.post = library.sem_post
        self.post.argtypes = [pointer]
        self.wait = library.sem_clockwait
        self.wait.argtypes = [pointer, ctypes.c_int, ctypes.POINTER(Timespec)]
        self.new_semaphore: Callable[[], Any] = ctypes.c_char * SEMAPHORE_SIZE
        self.new_time: Callable[[int, int], Any] = Timespec
        self.by_reference = ctypes.byref


class SemaphoreSleep:
    """On a semaphore, see sem_overview(7)."""

    __slots__ = ("_functions", "_semaphore")

    def __init__(self, functions: _Semaphores) -> None:
        self._functions = functions
        self._semaphore = functions.new_semaphore()
        functions.prepare(self._semaphore, 0, 0)

    def end(self) -> None:
        self._functions.post(self._semaphore)

    def wait(self, seconds: float) -> bool:
        functions = self._functions
        end = monotonic() + seconds
        whole = int(end)
        until = functions.by_reference(functions.new_time(whole, int((end - whole) * 1e9)))
        return bool(functions.wait(self._semaphore, CLOCK_MONOTONIC, until) == 0)


@functools.cache
def _kind_of_sleep() -> Callable[[], Sleep]:
    if not Settings().accelerate:
        return LockSleep
    try:
        functions = _Semaphores()
    except (ImportError, OSError, AttributeError) as error:
        logger.info("threads wait on Python's own locks: %s", error)
        return LockSleep
    return functools.partial(SemaphoreSleep, functions)


class Waiter(Generic[T]):
    """A thread that waits. What it waits for is handed to it, past every queue."""

    __slots__ = ("given", "wake", "_sleep")

    def __init__(self) -> None:
        #: None where it was only told to look again, or not woken at all.
        self.given: T | None = None
        self._sleep = _kind_of_sleep()()
        #: Have it go on; once, and after `given` is set if there is something for it.
        self.wake = self._sleep.end

    def wait(self, deadline: Deadline) -> None:
        """Sleep until woken, or until the deadline has passed."""
        while not self._sleep.wait(deadline.slice()) and not deadline.expired:
            pass
