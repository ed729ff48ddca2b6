"""Shows that a call really blocks, by an event and not by a sleep, and bounds how long it may."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any

LIMIT = 10.0

# Where a thread stands when it waits for another one.
_WAITS = {"wait", "acquire", "_wait_for_tstate_lock", "get", "join"}


class Blocked:
    """Runs `function` in a thread; the body of `with` begins when it is seen waiting.

    Leaving the body waits for the function to end; `result()` gives what it returned or raises
    what it raised.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="blocked-by-test", daemon=True)

    def _run(self) -> None:
        try:
            self._outcome = self._function()
        except BaseException as error:
            self._error = error

    @property
    def is_blocked(self) -> bool:
        """Whether the thread stands in a wait now."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return frame is not None and frame.f_code.co_name in _WAITS

    def __enter__(self) -> Blocked:
        self._thread.start()
        end = monotonic() + LIMIT
        seen = 0
        # Seen waiting several times in a row: a wait passed through on the way does not count.
        while seen < 3:
            if not self._thread.is_alive():
                raise AssertionError(f"it did not block: {self._outcome!r} {self._error!r}")
            if monotonic() > end:
                raise AssertionError("it never came to a wait")
            seen = seen + 1 if self.is_blocked else 0
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
