"""Leaks of a test: threads, sockets and tasks left running, and errors in the log.

Used by `artico_sync.testing` and by the tests of this library.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Collection

from artico_sync._bridge.threads import EXECUTOR_THREAD_PREFIX, THREAD_PREFIX

POLL_INTERVAL_SECONDS = 0.005
#: Loggers of this library and of those it builds on.
LOGGERS = ("artico_sync", "asyncio", "aiortc", "aioice", "aiohttp", "engineio", "socketio")
#: The logger of tasks that had to be cancelled when the loop stopped, and its message.
LOOP_LOGGER = "artico_sync._bridge.loop_thread"
CANCELLED_TASK_MESSAGE = "cancelling %r at the stop of the loop"


def open_sockets() -> set[str]:
    """Return the open sockets of this process, by inode; empty without `/proc`."""
    found: set[str] = set()
    try:
        descriptors = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return found
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def describe_socket(target: str) -> str:
    """Return a socket's protocol, addresses and state, as the kernel lists them."""
    inode = target.removeprefix("socket:[").removesuffix("]")
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(f"/proc/self/net/{protocol}", encoding="ascii") as table:
                rows = [line.split() for line in table]
        except FileNotFoundError:
            # The kernel has no IPv6.
            continue
        for fields in rows:
            if fields[9] == inode:
                return f"{protocol} socket {fields[1]} -> {fields[2]} state {fields[3]}"
    return f"{target} (a local one)"


def pending_tasks(
    ignored_loops: Collection[asyncio.AbstractEventLoop],
) -> set[asyncio.Task[object]]:
    """Return the tasks that are not done, of all event loops but the ignored ones."""
    # asyncio has no public way to find the tasks of unknown loops. Python 3.12 renamed the set of
    # all tasks.
    known: weakref.WeakSet[asyncio.Task[object]] = (
        getattr(asyncio.tasks, "_all_tasks", None)
        or getattr(asyncio.tasks, "_scheduled_tasks", None)
        or weakref.WeakSet()
    )
    # The inner set is copied in one step, because other threads start tasks at the same time.
    references: set[weakref.ref[asyncio.Task[object]]] = getattr(known, "data").copy()
    tasks = [reference() for reference in references]
    return {
        task
        for task in tasks
        if task is not None and not task.done() and task.get_loop() not in ignored_loops
    }


class ErrorLog(logging.Handler):
    """Collects logged errors, and tasks that had to be cancelled when the loop stopped.

    Args:
        loggers: Names of the loggers to listen to.
        tracebacks_only: True to ignore errors logged without an exception.

    Attributes:
        errors: The errors, formatted.
        cancelled: The messages about cancelled tasks.
    """

    def __init__(
        self, loggers: tuple[str, ...] = LOGGERS, *, tracebacks_only: bool = False
    ) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[str] = []
        self.cancelled: list[str] = []
        self._loggers = loggers
        self._tracebacks_only = tracebacks_only
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            if record.exc_info or not self._tracebacks_only:
                self.errors.append(self.format(record))
        elif record.msg == CANCELLED_TASK_MESSAGE:
            self.cancelled.append(self.format(record))

    def __enter__(self) -> ErrorLog:
        for name in self._loggers:
            logging.getLogger(name).addHandler(self)
        self._loop_logger = logging.getLogger(LOOP_LOGGER)
        self._loop_logger_level = self._loop_logger.level
        self._loop_logger.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop_logger.setLevel(self._loop_logger_level)
        for name in self._loggers:
            logging.getLogger(name).removeHandler(self)


class LeakDetector:
    """Compares the threads, sockets and tasks of this process with those at its creation.

    Args:
        library_only: True to find only threads of this library and UDP sockets: the threads and
            connections of a program are not checked.
        ignored_threads: Beginnings of the names of threads to ignore.
        ignored_loops: Event loops whose tasks are ignored.
    """

    def __init__(
        self,
        *,
        library_only: bool = False,
        ignored_threads: tuple[str, ...] = (),
        ignored_loops: Collection[asyncio.AbstractEventLoop] = (),
    ) -> None:
        self._library_only = library_only
        self._ignored_threads = ignored_threads
        self._ignored_loops = ignored_loops
        self._threads = self._current_threads()
        self._sockets = open_sockets()
        self._tasks = self._current_tasks()

    def _current_threads(self) -> set[threading.Thread]:
        return {
            thread
            for thread in threading.enumerate()
            if not thread.name.startswith(self._ignored_threads)
            and not (self._library_only and not self._is_of_library(thread))
        }

    @staticmethod
    def _is_of_library(thread: threading.Thread) -> bool:
        # Threads of an executor end with the loop, whose own thread is found; until then they stay
        # a while for the next job.
        return thread.name.startswith(THREAD_PREFIX) and not thread.name.startswith(
            EXECUTOR_THREAD_PREFIX
        )

    def _current_tasks(self) -> set[asyncio.Task[object]]:
        # The tasks of this library run on the loop thread, which is found itself.
        return set() if self._library_only else pending_tasks(self._ignored_loops)

    def find(self) -> list[str]:
        """Return descriptions of everything that did not exist at the start."""
        described = [describe_socket(socket) for socket in open_sockets() - self._sockets]
        return [
            *(f"thread {thread.name}" for thread in self._current_threads() - self._threads),
            *(text for text in described if not self._library_only or text.startswith("udp")),
            *(f"task {task!r}" for task in self._current_tasks() - self._tasks),
        ]

    def wait_for_none(self, limit: float) -> list[str]:
        """Wait until nothing is left, at most `limit` seconds; return what is left then."""
        deadline = time.monotonic() + limit
        while leaks := self.find():
            if time.monotonic() > deadline:
                # A socket that only garbage refers to is no leak.
                gc.collect()
                return self.find()
            time.sleep(POLL_INTERVAL_SECONDS)
        return leaks


class TestChecks:
    """Checks a test of a program for exceptions of handlers and for leaks."""

    __test__ = False  # Not a class of tests, for pytest.

    def __init__(self) -> None:
        # An `error` event without a handler is logged without a traceback, and does not count.
        self._log = ErrorLog(("artico_sync",), tracebacks_only=True)
        self._leaks = LeakDetector(library_only=True)

    def start(self) -> None:
        """Start listening to the log."""
        self._log.__enter__()

    def finish(self, settle_limit: float) -> str:
        """Return a description of all problems, empty if there are none.

        Args:
            settle_limit: Seconds for threads and sockets to end by themselves.
        """
        leaks = self._leaks.wait_for_none(settle_limit)
        self._log.__exit__(None, None, None)
        problems = []
        if self._log.errors:
            problems += ["exceptions were logged:", *self._log.errors]
        if leaks:
            problems += ["left running by the test:", *(f"    {line}" for line in leaks)]
        return "\n".join(problems)
