"""The right to use the one event-loop thread of the process.

The first `acquire_portal` starts the thread, the last `Portal.release` stops it. Nothing is started
at import.

Lock order: the registry's lock is taken alone and never while waiting for a thread.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar, TypeVarTuple, Unpack

from artico_sync._bridge.loop_thread import LoopTask, LoopThread
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.errors import ArticoError, ArticoTimeoutError, SignalingError

T = TypeVar("T")
Args = TypeVarTuple("Args")

# Seconds an interpreter that is exiting gives open calls to say goodbye, and then its loop to end;
# only on a very busy machine does either take that long.
EXIT_GRACE_SECONDS = 3.0
# Seconds that a cancelled task gets to clean up, after a timeout and after Ctrl-C.
CANCEL_GRACE_SECONDS = 2.0
INTERRUPT_GRACE_SECONDS = 0.1


class _Registry:
    """The process's loop thread and the number of portals to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: LoopThread | None = None
        self.portals = 0
        self.goodbyes: dict[Portal, Callable[[], Coroutine[Any, Any, None]]] = {}


_registry = _Registry()


def _forget_after_fork() -> None:
    # The thread does not exist in the child; another thread may have held its lock.
    global _registry
    if _registry.thread is not None:
        _registry.thread.mark_forked()
    _registry = _Registry()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


class Portal:
    """The right to use the loop thread until `release()`."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._released = False
        self.loop = thread.loop
        self.post = thread.post

    def run(
        self,
        function: Callable[[Unpack[Args]], Coroutine[Any, Any, T]],
        *args: Unpack[Args],
        timeout: float | None = None,
    ) -> T:
        """Run an async function on the loop and block for its result; user threads.

        Args:
            function: Called on the loop thread with `args`.
            timeout: Seconds to wait, None without limit.

        Raises:
            ArticoTimeoutError: The time ran out; the function was cancelled.
            ForkError: In a child process.
            RuntimeError: Called on the loop thread.
        """
        assert_not_loop_thread()
        thread = self._thread
        thread.guard.check()
        deadline = Deadline(timeout)
        task = LoopTask(functools.partial(function, *args))
        grace = INTERRUPT_GRACE_SECONDS
        try:
            thread.tasks.add(task)
            self.post(task.start)
            if task.wait(deadline, thread.is_over):
                return task.result()
            if thread.is_over():
                raise CancelledError
            grace = CANCEL_GRACE_SECONDS
            raise ArticoTimeoutError(f"Timed out after {deadline.timeout:g} s.")
        except CancelledError as error:
            raise SignalingError("The client was closed while this call waited.") from error
        finally:
            thread.tasks.discard(task)
            if not task.done and task.cancel_if_not_started():
                # A task no thread waits for is cancelled and awaited, so that nothing of it
                # outlives the call.
                self.post(task.cancel)
                task.wait(Deadline(grace), thread.is_over)

    @property
    def is_over(self) -> bool:
        """True once the thread has ended, which it does before the release only at the exit."""
        return self._thread.is_over()

    def at_exit(self, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `goodbye` on the loop if the interpreter exits without a release."""
        with _registry.lock:
            _registry.goodbyes[self] = goodbye

    def release(self) -> None:
        """Close the portal; the last one stops the thread and waits for its end."""
        stopping: LoopThread | None = None
        with _registry.lock:
            if self._released:
                return
            self._released = True
            _registry.goodbyes.pop(self, None)
            if _registry.thread is self._thread:
                _registry.portals -= 1
                if _registry.portals == 0:
                    stopping, _registry.thread = _registry.thread, None
        # Joined outside the lock, so that another portal can start a new thread in that time.
        if stopping is not None:
            stopping.stop()


def acquire_portal() -> Portal:
    """Return a portal to the loop thread, starting the thread if none runs; any thread."""
    with _registry.lock:
        if _registry.thread is None:
            _registry.thread = LoopThread()
            _registry.portals = 0
        _registry.portals += 1
        return Portal(_registry.thread)


def on_loop_thread() -> bool:
    """Return True if the caller runs on the library's loop thread."""
    thread = _registry.thread
    return thread is not None and thread.ident == threading.get_ident()


def assert_not_loop_thread() -> None:
    """Refuse a blocking call where it would stop the loop it waits for.

    Raises:
        RuntimeError: On the library's loop thread.
    """
    if on_loop_thread():
        raise RuntimeError(
            "A blocking call of artico_sync was made on its own event-loop thread, where it would"
            " wait for itself without end: make it on any other thread."
        )


def _silence_daemon_threads() -> None:
    """Let the user's daemon threads that still wait end without a traceback, as the interpreter
    ends other daemon threads."""
    original = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        is_daemon = arguments.thread is not None and arguments.thread.daemon
        if not (is_daemon and isinstance(arguments.exc_value, ArticoError)):
            original(arguments)

    threading.excepthook = hook


async def _say_goodbye(goodbyes: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    await asyncio.gather(*(goodbye() for goodbye in goodbyes), return_exceptions=True)


def _stop_at_exit() -> None:
    with _registry.lock:
        thread, _registry.thread = _registry.thread, None
        goodbyes = list(_registry.goodbyes.values())
        _registry.goodbyes.clear()
    if thread is None:
        return
    _silence_daemon_threads()
    done = threading.Event()

    def start() -> None:
        task = thread.loop.create_task(_say_goodbye(goodbyes))
        task.add_done_callback(lambda _: done.set())

    thread.post(start)
    done.wait(EXIT_GRACE_SECONDS)
    thread.post(thread.loop.stop)
    thread.join(EXIT_GRACE_SECONDS)
    # Objects that are closed even later, by other hooks and by `__del__`, must not wait for it.
    thread.mark_over()


atexit.register(_stop_at_exit)
