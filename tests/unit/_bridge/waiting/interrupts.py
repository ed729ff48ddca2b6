"""Ctrl-C at each of the moments at which the interpreter may handle it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def interrupted_everywhere(
    prepare: Callable[[], Callable[[], Any]], handler: Callable[[], Any] = press_ctrl_c
) -> Iterator[bool]:
    """Run the functions that `prepare` returns, interrupted one moment later each time.

    The interpreter handles signals when a Python function begins and when a C function has
    returned; a profiler is called at the same moments.

    Args:
        prepare: Returns the function to run next.
        handler: Called as the handler of the signal.

    Yields:
        After each run, True if it was interrupted; the last one is not.
    """
    for moment in itertools.count():
        interrupt = _Interrupt(moment, handler)
        function = prepare()
        try:
            sys.setprofile(interrupt)
            function()
        except KeyboardInterrupt:
            assert interrupt.happened
        finally:
            sys.setprofile(None)
        yield interrupt.happened
        if not interrupt.happened:
            return


class _Interrupt:
    def __init__(self, moment: int, handler: Callable[[], Any]) -> None:
        self._left = moment
        self._handler = handler
        self.happened = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_return") or self.happened:
            return
        if self._left == 0:
            self.happened = True
            self._handler()
        self._left -= 1
