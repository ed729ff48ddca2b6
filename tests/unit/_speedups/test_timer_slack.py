"""The timer slack of the loop thread (prctl(2), PR_SET_TIMERSLACK)."""

from __future__ import annotations

import ctypes
import threading

import pytest

from artico_sync._protocol.settings import Settings
from artico_sync._speedups.timer_slack import minimise_timer_slack


def test_a_thread_with_minimal_slack_leaves_the_others_as_they_are() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "prctl") or not Settings().accelerate:
        pytest.skip("this system has no timer slack, or fast paths are off")

    def slack() -> int:
        return int(library.prctl(30, 0, 0, 0, 0))

    before, during = slack(), []

    def run() -> None:
        minimise_timer_slack()
        during.append(slack())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == [1]
    assert slack() == before > 1
