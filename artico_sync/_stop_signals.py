"""Ending on Ctrl-C and SIGTERM, for programs that serve until then; main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second one of them raises `KeyboardInterrupt`.

    A wait for it must wake every `MAIN_THREAD_POLL_INTERVAL` seconds, as all waits on the main
    thread do.
    The earlier handlers are put back at the end. On any thread but the main one, where Python
    allows no handlers of signals, nothing sets the event.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    earlier = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            earlier[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, previous in earlier.items():
            signal.signal(number, previous)
