"""Shows that a call really blocks, by an event and not by a sleep, and bounds how long it may."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType
from typing import Any

from tests.conftest import TIME_UNIT

LIMIT = 10.0 * TIME_UNIT

# Where a thread stands when it waits for another one.
_WAITS = {"wait", "acquire", "_wait_for_tstate_lock", "get", "join"}
# The modules all waits of the library's users go through.
WAITING_MODULES = ("deadline.py", "waiter.py")


class WaitWatch:
    """Knows whether the thread that entered it stands in a wait; any thread may ask.

    It notes it itself, because to look at the frames of a running thread is not safe in
    Python 3.11: a frame may end just then, and what is looked at is not one any more.

    Args:
        modules: How the file names of those end that waits must come from; none for any.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._seen = 0
        self.is_waiting = False

    def is_blocked(self) -> bool:
        """Whether it was seen waiting three times in a row, of which this is one.

        A wait passed through on the way does not count.
        """
        self._seen = self._seen + 1 if self.is_waiting else 0
        return self._seen >= 3

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        # Where it goes on: what is waited in may be a foreign function, of which nothing is told.
        place = frame.f_back if event == "return" else frame
        self.is_waiting = (
            place is not None and place.f_code.co_name in _WAITS and self._counts(place)
        )

    def _counts(self, frame: FrameType | None) -> bool:
        if not self._modules:
            return True
        while frame is not None:
            if frame.f_code.co_filename.endswith(self._modules):
                return True
            frame = frame.f_back
        return False

    def __enter__(self) -> WaitWatch:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class Blocked:
    """Runs `function` in a thread; the body of `with` begins when it is seen waiting.

    Leaving the body waits for the function to end; `result()` gives what it returned or raises
    what it raised.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._watch = WaitWatch()
        self._thread = threading.Thread(target=self._run, name="blocked-by-test", daemon=True)

    def _run(self) -> None:
        try:
            with self._watch:
                self._outcome = self._function()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Blocked:
        self._thread.start()
        end = monotonic() + LIMIT
        while not self._watch.is_blocked():
            if not self._thread.is_alive():
                raise AssertionError(f"it did not block: {self._outcome!r} {self._error!r}")
            if monotonic() > end:
                raise AssertionError("it never came to a wait")
            self._thread.join(0.005)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.join(LIMIT if kind is None else 0.1)
        if kind is None and self._thread.is_alive():
            raise AssertionError("it still blocks")

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._outcome
