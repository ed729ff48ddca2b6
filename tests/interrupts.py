"""Ctrl-C at each of the moments at which the interpreter may see it."""

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
    """Run what `prepare` returns again and again, interrupted one moment later each time.

    The interpreter looks for signals when a function of Python's begins and when one of C's has
    returned, which is what a profiler is told of.

    Args:
        handler: What the handler of the signal does.

    Yields:
        After each run, whether it was interrupted; the last one is not.
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
