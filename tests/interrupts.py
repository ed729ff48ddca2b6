"""Ctrl-C at each of the moments at which the interpreter may see it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def interrupted_everywhere(prepare: Callable[[], Callable[[], Any]]) -> Iterator[bool]:
    """Run what `prepare` returns again and again, interrupted one moment later each time.

    The interpreter looks for signals when a function of Python's begins and when one of C's has
    returned, which is what a profiler is told of.

    Yields:
        After each run, whether it was interrupted; the last one is not.
    """
    for moment in itertools.count():
        interrupted = False
        function = prepare()
        try:
            sys.setprofile(_interrupter(moment))
            function()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.setprofile(None)
        yield interrupted
        if not interrupted:
            return


def _interrupter(moment: int) -> Callable[[FrameType, str, Any], None]:
    left = itertools.count(moment, -1)

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_return") and next(left) == 0:
            raise KeyboardInterrupt

    return profile
