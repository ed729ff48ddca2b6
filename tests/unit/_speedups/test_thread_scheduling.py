"""The switch interval while calls are open, and the timer slack of the loop thread."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator

import pytest

from artico_sync._protocol.settings import Settings
from artico_sync._speedups.thread_scheduling import SwitchInterval, minimize_timer_slack
from tests.conftest import MakeArtico

TIMEOUT = 10
#: See prctl(2).
PR_GET_TIMERSLACK = 30


@pytest.fixture(autouse=True)
def interval() -> Iterator[float]:
    before = sys.getswitchinterval()
    yield before
    sys.setswitchinterval(before)


def test_short_while_a_call_is_open(make_artico: MakeArtico, interval: float) -> None:
    alice, bob = make_artico(switch_interval=0.0002), make_artico(switch_interval=None)
    call = alice.call(bob.id)
    bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    assert sys.getswitchinterval() == pytest.approx(0.0002, abs=2e-6)
    call.hangup()
    assert sys.getswitchinterval() == pytest.approx(interval, abs=2e-6)


def test_the_shortest_request_counts(interval: float) -> None:
    switch = SwitchInterval()
    switch.acquire(0.001)
    switch.acquire(0.0005)
    assert sys.getswitchinterval() == pytest.approx(0.0005, abs=2e-6)
    switch.release(0.0005)
    assert sys.getswitchinterval() == pytest.approx(0.001, abs=2e-6)
    switch.release(0.001)
    assert sys.getswitchinterval() == pytest.approx(interval, abs=2e-6)


def test_never_longer_than_before() -> None:
    sys.setswitchinterval(0.0001)
    switch = SwitchInterval()
    switch.acquire(0.01)
    assert sys.getswitchinterval() == pytest.approx(0.0001, abs=2e-6)
    switch.release(0.01)


def test_an_interval_set_by_the_program_during_a_call_stays() -> None:
    switch = SwitchInterval()
    switch.acquire(0.001)
    sys.setswitchinterval(0.002)
    switch.release(0.001)
    assert sys.getswitchinterval() == pytest.approx(0.002, abs=2e-6)


def test_a_child_starts_without_requests(interval: float) -> None:
    switch = SwitchInterval()
    switch.acquire(0.001)
    switch.reset()
    assert sys.getswitchinterval() == pytest.approx(interval, abs=2e-6)


def test_an_interval_below_a_microsecond_becomes_one_microsecond() -> None:
    # Read back as 0, which cannot be set.
    sys.setswitchinterval(5e-7)
    switch = SwitchInterval()
    switch.acquire(1e-9)
    switch.release(1e-9)
    assert sys.getswitchinterval() == pytest.approx(1e-6)


def test_a_thread_with_minimal_slack_leaves_the_others_as_they_are() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "prctl") or not Settings().accelerate:
        pytest.skip("this system has no timer slack, or fast paths are off")

    def slack() -> int:
        return int(library.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))

    before, during = slack(), []

    def run() -> None:
        minimize_timer_slack()
        during.append(slack())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == [1]
    assert slack() == before > 1
