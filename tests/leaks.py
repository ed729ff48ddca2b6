"""What a test left behind: threads, sockets, tasks, and errors in the log; test thread."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable

# What lives for the whole test session and is ended by its own fixture.
SESSION_THREADS = ("interop-browser",)
SESSION_LOOPS: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
POLL_INTERVAL = 0.005


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
        with open(f"/proc/self/net/{protocol}", encoding="ascii") as table:
            for row in table:
                fields = row.split()
                if fields[9] == inode:
                    return f"{protocol} socket {fields[1]} -> {fields[2]} state {fields[3]}"
    return f"{target} (a local one)"


def pending_tasks() -> set[asyncio.Task[object]]:
    """Tasks not done, on any loop but those of the whole test session."""
    # There is no public way to see the tasks of loops one does not know; the set of them all
    # was renamed in 3.12.
    known: Iterable[asyncio.Task[object]] = (
        getattr(asyncio.tasks, "_all_tasks", None)
        or getattr(asyncio.tasks, "_scheduled_tasks", None)
        or ()
    )
    return {
        task for task in list(known) if not task.done() and task.get_loop() not in SESSION_LOOPS
    }


def threads() -> set[threading.Thread]:
    """The threads alive, but for those of the whole test session."""
    return {
        thread for thread in threading.enumerate() if not thread.name.startswith(SESSION_THREADS)
    }


class ErrorLog(logging.Handler):
    """Keeps what is logged as an error, and tasks that had to be cancelled at the loop's end."""

    LOGGERS = ("artico_sync", "asyncio", "aiortc", "aioice", "aiohttp", "engineio", "socketio")
    STOP = "cancelling %r at the stop of the loop"

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[str] = []
        self.cancelled: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            self.errors.append(self.format(record))
        elif record.msg == self.STOP:
            self.cancelled.append(self.format(record))

    def __enter__(self) -> ErrorLog:
        for name in self.LOGGERS:
            logging.getLogger(name).addHandler(self)
        self._bridge = logging.getLogger("artico_sync.bridge.loop")
        self._level = self._bridge.level
        self._bridge.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *exception: object) -> None:
        self._bridge.setLevel(self._level)
        for name in self.LOGGERS:
            logging.getLogger(name).removeHandler(self)


class Leaks:
    """Compares what is there now with what was there when this was made."""

    def __init__(self) -> None:
        self._threads = threads()
        self._sockets = sockets()
        self._tasks = pending_tasks()

    def left(self) -> list[str]:
        """What was not there at the start, in words."""
        return [
            *(f"thread {thread.name}" for thread in threads() - self._threads),
            *(describe_socket(socket) for socket in sockets() - self._sockets),
            *(f"task {task!r}" for task in pending_tasks() - self._tasks),
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
