"""The one event-loop thread of the process, leased by whoever needs it.

The first lease starts the thread, the last release stops it. Nothing is started at import. Work
crosses to the loop through one janus queue, drained in batches by one coalesced wake-up.

Lock order: `_registry_lock` is taken alone and never while waiting for a thread.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar, TypeVarTuple, Unpack

import janus

from artico_sync._bridge.executor import DaemonExecutor
from artico_sync._bridge.fork import ForkGuard
from artico_sync._bridge.task import LoopTask
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._bridge.waiting.interrupt_safe import Queue
from artico_sync._protocol.settings import Settings
from artico_sync._speedups.timer_slack import minimise_timer_slack
from artico_sync._speedups.wake_up import make_wake_up
from artico_sync.errors import ArticoError, ArticoTimeoutError, SignalingError

logger = logging.getLogger("artico_sync._bridge.portal")

T = TypeVar("T")
Args = TypeVarTuple("Args")

# Seconds an interpreter that is exiting gives open calls to say goodbye, and then its loop to end;
# only on a machine that is very busy does either need them.
EXIT_GRACE = 3.0
# Seconds that cancelled work gets to clean up, after a time-out and after Ctrl-C.
CANCEL_GRACE = 2.0
INTERRUPT_GRACE = 0.1


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Make the loop: a selector loop, or uvloop where `ARTICO_SYNC_LOOP=uvloop` asks for it."""
    if os.environ.get("ARTICO_SYNC_LOOP") == "uvloop":
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop
    return asyncio.SelectorEventLoop()


class LoopThread:
    """A daemon thread that runs an event loop until it is stopped."""

    def __init__(self) -> None:
        self.loop = new_event_loop()
        self.executor = DaemonExecutor()
        self.loop.set_default_executor(self.executor)
        self._inbox: Queue[tuple[Callable[..., object], tuple[object, ...]]] = Queue()
        self._awake = False
        self._wake_up = make_wake_up(self.loop, self._drain)
        #: What user threads wait for.
        self.works: set[LoopTask[Any]] = set()
        self.guard = ForkGuard("connection")
        self._forked = False
        self._over = False
        self._thread = threading.Thread(target=self._run, name="artico_sync-loop", daemon=True)
        self._thread.start()
        #: As of `threading.get_ident`.
        self.ident = self._thread.ident

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Run `function(*args)` on the loop soon, in the order of the calls; any thread.

        Raises:
            ForkError: In a child process, which has no such thread.
        """
        if self._forked:
            self.guard.check()
        try:
            self._inbox.sync_q.put_nowait((function, args))
            if not self._awake:
                self._awake = True
                self._wake()
        except janus.SyncQueueShutDown:
            logger.debug("the loop has stopped, dropping %r", function)
        except BaseException:
            # Ctrl-C, perhaps between the two: one that finds nothing to do is harmless.
            self._wake()
            raise

    def _wake(self) -> None:
        try:
            self._wake_up.wake()
        except RuntimeError:
            logger.debug("the loop was closed meanwhile")

    def _drain(self) -> None:
        # Cleared first: a post that comes while draining wakes the loop again.
        self._awake = False
        inbox = self._inbox.sync_q
        # Nobody else takes from it.
        while not inbox.empty():
            function, args = inbox.get_nowait()
            try:
                function(*args)
            except Exception:
                # One faulty call must not keep the others in the queue from running.
                logger.exception("unexpected error on the loop thread in %r", function)

    def _run(self) -> None:
        if Settings().accelerate:
            minimise_timer_slack()
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self._drain()
            self._cancel_tasks()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self._inbox.close()
            self._wake_up.close()
            self.executor.shutdown(wait=False, cancel_futures=True)
            asyncio.set_event_loop(None)
            self.loop.close()
            self.give_up()

    def _cancel_tasks(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            logger.debug("cancelling %r at the stop of the loop", task)
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def forget(self) -> None:
        """This is a child process, where nothing runs and locks may be held by nobody."""
        self._forked = self._over = True

    def give_up(self) -> None:
        """Nothing is run any more: whoever waits for something waits in vain; any thread."""
        # First, so that who comes later sees it.
        self._over = True
        for work in list(self.works):
            work.wake()

    def is_over(self) -> bool:
        """Whether nothing is run any more."""
        return self._over

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, so long at most."""
        self._thread.join(seconds)

    def stop(self) -> None:
        """Stop the loop and wait for its thread; any thread but the loop's own."""
        try:
            self.post(self.loop.stop)
            self._thread.join()
        except BaseException:
            # Ctrl-C must not keep it from stopping by itself.
            self.post(self.loop.stop)
            raise


class _Registry:
    """The process's loop thread and the number of its leases."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread: LoopThread | None = None
        self.leases = 0
        self.goodbyes: dict[Portal, Callable[[], Coroutine[Any, Any, None]]] = {}


_registry = _Registry()


def _forget_after_fork() -> None:
    # The thread does not exist in the child; its lock may have been held by another thread.
    global _registry
    if _registry.thread is not None:
        _registry.thread.forget()
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
            timeout: Seconds to wait, None for ever.

        Raises:
            ArticoTimeoutError: The time ran out; the work was cancelled.
            ForkError: In a child process.
            RuntimeError: Called on the loop thread.
        """
        assert_not_loop_thread()
        thread = self._thread
        thread.guard.check()
        deadline = Deadline(timeout)
        work = LoopTask(functools.partial(function, *args))
        grace = INTERRUPT_GRACE
        try:
            thread.works.add(work)
            self.post(work.start)
            if work.wait(deadline, thread.is_over):
                return work.result()
            if thread.is_over():
                raise CancelledError
            grace = CANCEL_GRACE
            raise ArticoTimeoutError(f"Timed out after {deadline.timeout:g} s.")
        except CancelledError as error:
            raise SignalingError("The client was closed meanwhile.") from error
        finally:
            thread.works.discard(work)
            if not work.done and work.renounce():
                # Work given up is cancelled and seen to its end, so that nothing of it outlives
                # the call.
                self.post(work.cancel)
                work.wait(Deadline(grace), thread.is_over)

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended, which it does before the release only at the exit."""
        return self._thread.is_over()

    def at_exit(self, goodbye: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `goodbye` run on the loop when the interpreter exits without a release."""
        with _registry.lock:
            _registry.goodbyes[self] = goodbye

    def release(self) -> None:
        """Give the lease back; the last one stops the thread and waits for its end."""
        stopping: LoopThread | None = None
        with _registry.lock:
            if self._released:
                return
            self._released = True
            _registry.goodbyes.pop(self, None)
            if _registry.thread is self._thread:
                _registry.leases -= 1
                if _registry.leases == 0:
                    stopping, _registry.thread = _registry.thread, None
        # Joined outside the lock, so that a new lease can start a new thread meanwhile.
        if stopping is not None:
            stopping.stop()


def lease() -> Portal:
    """Lease the loop thread, starting it where none runs; any thread."""
    with _registry.lock:
        if _registry.thread is None:
            _registry.thread = LoopThread()
            _registry.leases = 0
        _registry.leases += 1
        return Portal(_registry.thread)


def on_loop_thread() -> bool:
    """Whether the caller runs on the library's loop thread."""
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
            " wait for itself for ever: call it from any other thread."
        )


def _silence_daemon_threads() -> None:
    """Have the user's daemon threads that still wait die in silence, as they would without us."""
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
    done.wait(EXIT_GRACE)
    thread.post(thread.loop.stop)
    thread.join(EXIT_GRACE)
    # Objects that are closed even later, by other hooks and by `__del__`, must not wait for it.
    thread.give_up()


atexit.register(_stop_at_exit)
