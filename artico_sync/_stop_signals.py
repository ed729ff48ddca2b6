"""Signals that end a program, as an event or as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C and SIGTERM set; a second signal raises `KeyboardInterrupt`.

    A wait for it must wake every `MAIN_THREAD_POLL_INTERVAL` seconds, as all waits on the main
    thread do. The previous signal handlers are restored at the end. On any thread but the main one,
    which cannot have signal handlers, the event is never set.
    """
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous_handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            previous_handlers[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, previous in previous_handlers.items():
            signal.signal(number, previous)


class Terminated(BaseException):
    """A signal other than that of Ctrl-C asked the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM and on a closed terminal, so that calls end in order."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    previous_handlers = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # `nohup` ignores SIGHUP, and that stays so.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                previous_handlers[number] = signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, previous in previous_handlers.items():
            signal.signal(number, previous)
