"""Proof that a call blocks, without a sleep, and a bound for the time it may take."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType, TracebackType
from typing import Any

from tests.conftest import TIME_UNIT

LIMIT = 10.0 * TIME_UNIT

# The functions a thread is in when it waits for another one.
_WAITS = {"wait", "acquire", "_wait_for_tstate_lock", "get", "join"}
# All waits of the library's users go through this module.
WAITING_MODULES = ("deadline.py",)


class WaitWatch:
    """Watches if the thread that entered it is in a wait; any thread may ask.

    The watched thread notes it itself, because it is not safe in Python 3.11 to look at the frames
    of another running thread: a frame may end in that moment and its memory be used again.

    Args:
        modules: Ends of the file names of modules; only waits called from one of them count.
            Without any, all count.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._seen = 0
        self.is_waiting = False

    def is_blocked(self) -> bool:
        """Return True if the thread was in a wait in this call and the two before.

        Short waits on the way to the one that blocks do not count.
        """
        self._seen = self._seen + 1 if self.is_waiting else 0
        return self._seen >= 3

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        # After a return, the caller: it may be in a C function, for which no event comes.
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
    """Runs `function` in a thread; the body of `with` begins once it blocks.

    Leaving the body waits for the function to end; `result()` returns or raises its outcome.
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
