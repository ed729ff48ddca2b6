"""The threads of the library: how they start, how they end, and their absence after a fork.

All are daemons, so that one that hangs, in a name look-up or in a function of the user, never holds
up the interpreter's exit.

Lock order: the lock of an executor and the lock of the registry of workers are each taken alone.
"""

from __future__ import annotations

import atexit
import os
import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

from artico_sync._bridge.waiting.deadline import Deadline, join
from artico_sync.errors import ForkError

#: Every thread of this library has a name that begins with it.
THREAD_PREFIX = "artico_sync-"
#: The names of the threads of executors begin with it.
EXECUTOR_THREAD_PREFIX = f"{THREAD_PREFIX}blocking-"
#: Threads of an executor; more than the look-ups that may hang at once (`_webrtc.ice.servers`).
MAXIMUM_THREADS = 32
#: Seconds a thread of an executor waits for more work before it ends.
IDLE_SECONDS = 5.0
#: Seconds `shutdown` gives idle threads to end; they need a fraction of a millisecond.
ENDING_SECONDS = 2.0
#: Seconds an interpreter that is exiting waits for the workers.
EXIT_GRACE_SECONDS = 3.0
#: Seconds a client that closes waits for the workers that have nothing left to do.
FINISHING_SECONDS = 1.0


def make_thread(name: str, function: Callable[..., object], *arguments: object) -> threading.Thread:
    """Return a daemon thread, not started, under a name that says whose it is.

    Args:
        name: The subject of the thread, for debuggers.
        function: Called on the thread with `arguments`.
    """
    return threading.Thread(
        target=function, args=arguments, name=f"{THREAD_PREFIX}{name}", daemon=True
    )


def start_thread(
    name: str, function: Callable[..., object], *arguments: object
) -> threading.Thread:
    """Start a thread as `make_thread` makes it, and return it."""
    thread = make_thread(name, function, *arguments)
    thread.start()
    return thread


class Worker:
    """A thread with a way to ask it to end, which an exiting interpreter waits for.

    A thread caught inside FFmpeg when the interpreter goes down would crash the process.

    Args:
        name: The subject of the thread, for debuggers.
        function: Called on the thread.
        stop: Makes `function` return soon; called from any thread, must not block.
        is_wanted: Returns whether the thread still has something to do.
    """

    def __init__(
        self,
        name: str,
        function: Callable[[], None],
        stop: Callable[[], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._stop = stop
        self._is_wanted = is_wanted
        self._thread = make_thread(name, function)
        with _lock:
            _workers.add(self)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; does not wait."""
        self._stop()

    @property
    def wanted(self) -> bool:
        """True while the thread has something to do."""
        return self._is_wanted()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """True if the caller runs on this very thread."""
        return self._thread is threading.current_thread()

    def join(self, deadline: Deadline) -> bool:
        """Wait for the end; return False if the deadline passed first."""
        return not self.is_current and join(self._thread, deadline)


# Only to wait, at a close and at the exit, for the threads still at work then.
_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_lock = threading.Lock()


def _registered_workers() -> list[Worker]:
    with _lock:
        return list(_workers)


def join_finished_workers() -> None:
    """Wait a moment for the threads that are about to end.

    One inside a function of the user may take longer, and may be the one that calls this.
    """
    deadline = Deadline(FINISHING_SECONDS)
    for worker in _registered_workers():
        if not worker.wanted:
            worker.join(deadline)


def _stop_at_exit() -> None:
    workers = [worker for worker in _registered_workers() if worker.alive]
    for worker in workers:
        worker.stop()
    deadline = Deadline(EXIT_GRACE_SECONDS)
    for worker in workers:
        worker.join(deadline)


def _forget_after_fork() -> None:
    # The threads do not exist in the child; one of them may have held the lock.
    global _lock
    _lock = threading.Lock()
    _workers.clear()


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonExecutor(ThreadPoolExecutor):
    """An executor on daemon threads, for `loop.set_default_executor`.

    The threads of `concurrent.futures` are joined when the interpreter exits, so one name look-up
    that hangs would hold the exit up for minutes. Only the base class's name is used, because
    asyncio insists on it.
    """

    def __init__(self, maximum_threads: int = MAXIMUM_THREADS) -> None:
        super().__init__(max_workers=maximum_threads)
        self._maximum_threads = maximum_threads
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Guards the three below; nothing else is taken while it is held.
        self._lock = threading.Lock()
        self._ended = False
        self._count = 0
        self._idle: set[threading.Thread] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            if self._ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._jobs.put((future, fn, args, kwargs))
            if len(self._idle) >= self._jobs.qsize() or self._count >= self._maximum_threads:
                return future
            self._count += 1
            number = self._count
        start_thread(f"{EXECUTOR_THREAD_PREFIX.removeprefix(THREAD_PREFIX)}{number}", self._work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more jobs and end the idle threads. Never waits for busy ones.

        Jobs that have not begun are cancelled, whatever `cancel_futures` says: no caller is left
        that wants them.
        """
        with self._lock:
            self._ended = True
            count = self._count
            idle = list(self._idle)
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job[0].cancel()
        for _ in range(count):
            self._jobs.put(None)
        # Nothing of the library is left once a client has closed. Bounded, because one of them
        # may have begun a job just now.
        end = monotonic() + ENDING_SECONDS
        for thread in idle:
            thread.join(max(0.0, end - monotonic()))

    def _work(self) -> None:
        this = threading.current_thread()
        while True:
            with self._lock:
                self._idle.add(this)
            try:
                job = self._jobs.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                job = None
            with self._lock:
                self._idle.discard(this)
                if job is None and (self._ended or self._jobs.empty()):
                    self._count -= 1
                    return
            if job is None:
                continue
            future, fn, args, kwargs = job
            if not future.set_running_or_notify_cancel():
                continue
            result, error = None, None
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:
                error = exc
            # Idle before the result is set: the caller may then shut the executor down and wait
            # for idle threads.
            with self._lock:
                self._idle.add(this)
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            # A reference would keep the result alive until the next job.
            del job, future, fn, args, kwargs, result, error


class ForkGuard:
    """The process an object was connected in; a child has no loop thread, so it may not use it.

    Args:
        subject: What the error calls the object.
    """

    __slots__ = ("_process", "_subject")

    def __init__(self, subject: str) -> None:
        self._process = os.getpid()
        self._subject = subject

    def check(self) -> None:
        """Raise `ForkError` in any process but the one this guard was made in."""
        if os.getpid() != self._process:
            raise ForkError(
                f"This {self._subject} was connected in process {self._process} and cannot be used"
                f" in its child {os.getpid()}: connect in the child, after the fork."
            )
