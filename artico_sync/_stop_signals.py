"""Ctrl-C and SIGTERM as an event, for programs that serve until then."""

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
