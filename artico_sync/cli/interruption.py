"""Signals that ask the command line to leave, as exceptions on the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """A signal other than Ctrl-C's asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def terminations() -> Iterator[None]:
    """While inside, SIGTERM and a closed terminal raise `Terminated`: peers hear of the end."""
    earlier = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # `nohup` has SIGHUP ignored, and it stays so.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                earlier[number] = signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
