"""What a test left behind: threads, sockets, tasks, and errors in the log; any thread.

Used by `artico_sync.testing` and by this library's own tests.
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

from artico_sync._bridge import threads

#: Every thread of this library has a name that begins so.
THREAD_PREFIX = "artico_sync-"
#: These belong to the loop, whose thread is seen itself, and stay a while for what comes next.
LOOP_OWNED = threads.EXECUTOR_THREAD_PREFIX
POLL_INTERVAL = 0.005

#: Where what this library and those it builds on have to say is logged.
LOGGERS = ("artico_sync", "asyncio", "aiortc", "aioice", "aiohttp", "engineio", "socketio")


def sockets() -> set[str]:
    """The open sockets of this process, by inode; empty where the system does not tell."""
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
    """A socket's protocol and ends, as the kernel lists them."""
    inode = target.removeprefix("socket:[").removesuffix("]")
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(f"/proc/self/net/{protocol}", encoding="ascii") as table:
                rows = [line.split() for line in table]
        except FileNotFoundError:
            # A kernel without IPv6.
            continue
        for fields in rows:
            if fields[9] == inode:
                return f"{protocol} socket {fields[1]} -> {fields[2]} state {fields[3]}"
    return f"{target} (a local one)"


def pending_tasks(
    ignored_loops: Collection[asyncio.AbstractEventLoop],
) -> set[asyncio.Task[object]]:
    """Tasks not done, on any loop but those to ignore."""
    # There is no public way to see the tasks of loops one does not know; the set of them all
    # was renamed in 3.12.
    known: weakref.WeakSet[asyncio.Task[object]] = (
        getattr(asyncio.tasks, "_all_tasks", None)
        or getattr(asyncio.tasks, "_scheduled_tasks", None)
        or weakref.WeakSet()
    )
    # A copy of the set within, made in one step: other threads begin tasks meanwhile.
    references: set[weakref.ref[asyncio.Task[object]]] = getattr(known, "data").copy()
    tasks = [reference() for reference in references]
    return {
        task
        for task in tasks
        if task is not None and not task.done() and task.get_loop() not in ignored_loops
    }


class ErrorLog(logging.Handler):
    """Keeps what is logged as an error, and tasks that had to be cancelled at the loop's end.

    Args:
        loggers: Names of the loggers to listen to.
        tracebacks_only: Leave out what is logged without an exception.
    """

    STOP = "cancelling %r at the stop of the loop"

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
        elif record.msg == self.STOP:
            self.cancelled.append(self.format(record))

    def __enter__(self) -> ErrorLog:
        for name in self._loggers:
            logging.getLogger(name).addHandler(self)
        self._bridge = logging.getLogger("artico_sync._bridge.loop_thread")
        self._level = self._bridge.level
        self._bridge.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *exception: object) -> None:
        self._bridge.setLevel(self._level)
        for name in self._loggers:
            logging.getLogger(name).removeHandler(self)


class Leaks:
    """Compares what is there now with what was there when this was made.

    Args:
        ours_only: Look only at what this library may have left: its threads, and UDP sockets. A
            program's own threads and connections are none of its business.
        ignored_threads: Beginnings of the names of threads that may come.
        ignored_loops: Event loops whose tasks may come.
    """

    def __init__(
        self,
        *,
        ours_only: bool = False,
        ignored_threads: tuple[str, ...] = (),
        ignored_loops: Collection[asyncio.AbstractEventLoop] = (),
    ) -> None:
        self._ours_only = ours_only
        self._ignored_threads = ignored_threads
        self._ignored_loops = ignored_loops
        self._threads = self._threads_now()
        self._sockets = sockets()
        self._tasks = self._tasks_now()

    def _threads_now(self) -> set[threading.Thread]:
        return {
            thread
            for thread in threading.enumerate()
            if not thread.name.startswith(self._ignored_threads)
            and not (self._ours_only and not self._is_ours(thread))
        }

    @staticmethod
    def _is_ours(thread: threading.Thread) -> bool:
        return thread.name.startswith(THREAD_PREFIX) and not thread.name.startswith(LOOP_OWNED)

    def _tasks_now(self) -> set[asyncio.Task[object]]:
        # Ours are on the loop thread, which would be seen itself.
        return set() if self._ours_only else pending_tasks(self._ignored_loops)

    def left(self) -> list[str]:
        """What was not there at the start, in words."""
        described = [describe_socket(socket) for socket in sockets() - self._sockets]
        return [
            *(f"thread {thread.name}" for thread in self._threads_now() - self._threads),
            *(text for text in described if not self._ours_only or text.startswith("udp")),
            *(f"task {task!r}" for task in self._tasks_now() - self._tasks),
        ]

    def settle(self, limit: float) -> list[str]:
        """Wait until nothing is left, at most `limit` seconds; what is left then."""
        deadline = time.monotonic() + limit
        while left := self.left():
            if time.monotonic() > deadline:
                # Garbage that holds a socket is not the same as a socket in use.
                gc.collect()
                return self.left()
            time.sleep(POLL_INTERVAL)
        return left
