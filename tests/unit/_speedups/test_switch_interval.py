"""The interpreter's switch interval: short while calls are open, as it was before after them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from artico_sync._speedups.switch_interval import SwitchInterval
from tests.conftest import MakeArtico

TIMEOUT = 10


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


def test_the_shortest_wish_counts(interval: float) -> None:
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


def test_what_somebody_else_sets_meanwhile_stands() -> None:
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


def test_less_than_the_interpreter_can_keep_is_the_least_it_can() -> None:
    # Read back as 0, which cannot be set.
    sys.setswitchinterval(5e-7)
    switch = SwitchInterval()
    switch.acquire(1e-9)
    switch.release(1e-9)
    assert sys.getswitchinterval() == pytest.approx(1e-6)
