"""Threads for the loop's blocking calls that never keep the interpreter alive; any thread.

`concurrent.futures` joins its threads when the interpreter exits, so one name look-up that
hangs would hold the exit up for minutes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

THREAD_NAME = "artico_sync-blocking-"
#: Threads at most; more than the look-ups that may hang at once (see engine/rtc/resolver.py).
MAXIMUM_THREADS = 32
#: Seconds a thread waits for more work before it ends.
IDLE_SECONDS = 5.0
#: Seconds `shutdown` gives idle threads to end; they need a fraction of a millisecond.
ENDING_SECONDS = 2.0

_Job = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class DaemonExecutor(ThreadPoolExecutor):
    """An executor on daemon threads, for `loop.set_default_executor`.

    Only the base class's name is used, because asyncio insists on it.
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
        threading.Thread(target=self._work, name=f"{THREAD_NAME}{number}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work and end the idle threads. Never waits for busy ones.

        Work that has not begun is cancelled, whatever `cancel_futures` says: nobody is left
        to want it.
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
        # may have taken up work just now.
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
            # Idle before anybody knows: who is told may shut us down and wait for idle threads.
            with self._lock:
                self._idle.add(this)
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
            # A kept reference would keep the result alive until the next job.
            del job, future, fn, args, kwargs, result, error
