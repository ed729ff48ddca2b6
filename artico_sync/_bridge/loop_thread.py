"""The thread that runs the event loop, and the async functions that user threads wait for.

Work crosses to the loop through one janus queue, drained in batches by one coalesced wake-up.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

import janus

from artico_sync._bridge.threads import DaemonExecutor, ForkGuard, make_thread
from artico_sync._bridge.waiting.deadline import Deadline, Waiter
from artico_sync._bridge.waiting.interrupt_safe import Queue
from artico_sync._protocol.settings import Settings
from artico_sync._speedups.thread_scheduling import minimize_timer_slack
from artico_sync._speedups.wake_up import make_wake_up

logger = logging.getLogger(__name__)

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new selector loop, or an uvloop if the variable `ARTICO_SYNC_LOOP` is "uvloop"."""
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
        #: The tasks that user threads wait for.
        self.tasks: set[LoopTask[Any]] = set()
        self.guard = ForkGuard("connection")
        self._forked = False
        self._over = False
        self._thread = make_thread("loop", self._run)
        self._thread.start()
        #: As returned by `threading.get_ident` on the thread.
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
            # Ctrl-C, perhaps between the two: a wake-up that finds an empty inbox has no effect.
            self._wake()
            raise

    def _wake(self) -> None:
        try:
            self._wake_up.wake()
        except RuntimeError:
            logger.debug("the loop was closed before it could be woken")

    def _drain(self) -> None:
        # Cleared first: a post that comes while draining wakes the loop again.
        self._awake = False
        inbox = self._inbox.sync_q
        # No other thread gets from it, so it is not empty when the next line runs.
        while not inbox.empty():
            function, args = inbox.get_nowait()
            try:
                function(*args)
            except Exception:
                # One faulty call must not keep the others in the queue from running.
                logger.exception("unexpected error on the loop thread in %r", function)

    def _run(self) -> None:
        if Settings().accelerate:
            minimize_timer_slack()
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
            self.mark_over()

    def _cancel_tasks(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            logger.debug("cancelling %r at the stop of the loop", task)
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def mark_forked(self) -> None:
        """Refuse any further use: in a child process the thread does not exist, and a thread of the
        parent may hold its locks."""
        self._forked = self._over = True

    def mark_over(self) -> None:
        """Wake all threads that wait for a task: the loop runs nothing any more; any thread."""
        # First, so that a thread that begins to wait later sees it.
        self._over = True
        for task in list(self.tasks):
            task.wake()

    def is_over(self) -> bool:
        """Return True if the loop runs nothing any more."""
        return self._over

    def join(self, seconds: float) -> None:
        """Wait for the end of the thread, for at most `seconds`."""
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


class LoopTask(Generic[T]):
    """An async function that runs on the loop while a user thread waits for its end.

    In place of `concurrent.futures.Future`, whose lock Ctrl-C at a bad moment would leave taken,
    and the loop needs it.

    Args:
        function: Makes the coroutine; called on the loop thread.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._waiter: Waiter[None] = Waiter()
        # The waiter may be woken once: by the caller that pops its function.
        self._wakes = [self._waiter.wake]
        self._task: asyncio.Task[T] | None = None
        self._started = False
        self._unwanted = False
        self._done = False
        self._result: T
        self._error: BaseException | None = None

    # the loop's side

    def start(self) -> None:
        """Run the function, unless the user thread has stopped waiting; loop thread."""
        self._started = True
        if self._unwanted:
            self._finish(CancelledError())
            return
        try:
            self._task = asyncio.get_running_loop().create_task(self._function())
        except Exception as error:
            self._finish(error)
        else:
            self._task.add_done_callback(self._on_task_done)

    def cancel(self) -> None:
        """Cancel the function; loop thread."""
        if self._task is not None:
            self._task.cancel()

    def _on_task_done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._finish(CancelledError())
        elif (error := task.exception()) is not None:
            self._finish(error)
        else:
            self._result = task.result()
            self._finish(None)

    def _finish(self, error: BaseException | None) -> None:
        self._error = error
        self._done = True
        self.wake()

    # any side

    def wake(self) -> None:
        """Wake the waiting thread; any thread, any number of times."""
        try:
            wake = self._wakes.pop()
        except IndexError:
            return
        wake()

    @property
    def done(self) -> bool:
        """True once the function has returned or raised."""
        return self._done

    # the user's side

    def wait(self, deadline: Deadline, is_lost: Callable[[], bool]) -> bool:
        """Wait until the function has ended; return False if the deadline passed first.

        Args:
            is_lost: Returns True if the function cannot end any more; the thread that makes it true
                wakes the waiting one.
        """
        while not self._done and not is_lost() and not deadline.expired:
            self._waiter.wait(deadline)
        return self._done

    def cancel_if_not_started(self) -> bool:
        """Keep the function from starting; return True if it has started already."""
        self._unwanted = True
        return self._started

    def result(self) -> T:
        """Return or raise the outcome of the function, once it is done.

        Raises:
            CancelledError: It was cancelled.
        """
        if self._error is not None:
            raise self._error
        return self._result
