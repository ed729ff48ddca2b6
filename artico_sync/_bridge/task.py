"""An async function that runs on the loop while a user thread waits for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Generic, TypeVar

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._bridge.waiting.waiter import Waiter

T = TypeVar("T")


class LoopTask(Generic[T]):
    """No `Future` of Python's: Ctrl-C at a bad moment would leave its lock taken, which the loop
    needs.

    Args:
        function: Makes what runs; loop thread.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._waiter: Waiter[None] = Waiter()
        # One waking for whoever takes it first.
        self._wakes = [self._waiter.wake]
        self._task: asyncio.Task[T] | None = None
        self._begun = False
        self._unwanted = False
        self._done = False
        self._result: T
        self._error: BaseException | None = None

    # the loop's side

    def start(self) -> None:
        """Run it, unless nobody wants it any more; loop thread."""
        self._begun = True
        if self._unwanted:
            self._end(CancelledError())
            return
        try:
            self._task = asyncio.get_running_loop().create_task(self._function())
        except Exception as error:
            self._end(error)
        else:
            self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Have it end; loop thread."""
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._end(CancelledError())
        elif (error := task.exception()) is not None:
            self._end(error)
        else:
            self._result = task.result()
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        self._done = True
        self.wake()

    # any side

    def wake(self) -> None:
        """Have the thread look up; any thread."""
        try:
            wake = self._wakes.pop()
        except IndexError:
            return
        wake()

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return self._done

    # the user's side

    def wait(self, deadline: Deadline, lost: Callable[[], bool]) -> bool:
        """Wait for its end; returns whether it has come.

        Args:
            lost: Whether it can end no more; who makes it true wakes the thread.
        """
        while not self._done and not lost() and not deadline.expired:
            self._waiter.wait(deadline)
        return self._done

    def renounce(self) -> bool:
        """Have it not begin; returns whether it has begun already."""
        self._unwanted = True
        return self._begun

    def result(self) -> T:
        """What it returned or raised, once it is done.

        Raises:
            CancelledError: It was cancelled.
        """
        if self._error is not None:
            raise self._error
        return self._result
