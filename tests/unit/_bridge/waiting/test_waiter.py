"""Threads that wait: woken in time, woken early, not woken; on semaphores and on locks."""

from __future__ import annotations

import ctypes
import logging
import signal
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from artico_sync._bridge.waiting import waiter as waiter_module
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._bridge.waiting.waiter import Waiter
from artico_sync._protocol.settings import Settings
from artico_sync._speedups.timer_slack import minimise_timer_slack

LIMIT = 10.0


@pytest.fixture(params=["semaphore", "lock"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    waiter_module._kind_of_sleep.cache_clear()
    monkeypatch.setenv("ARTICO_SYNC_ACCELERATE", "1" if request.param == "semaphore" else "0")
    yield str(request.param)
    waiter_module._kind_of_sleep.cache_clear()


def wait(waiter: Waiter[str], seconds: float) -> None:
    """Until something is given, however often the sleep ends before."""
    deadline = Deadline(seconds)
    while waiter.given is None and not deadline.expired:
        waiter.wait(deadline)


def test_woken_while_asleep_and_before(kind: str) -> None:
    for early in (False, True):
        waiter: Waiter[str] = Waiter()
        ready = threading.Event()

        def give() -> None:
            if not early:
                assert ready.wait(LIMIT)
            waiter.given = "there"
            waiter.wake()

        thread = threading.Thread(target=give)
        thread.start()
        if early:
            thread.join()
        ready.set()
        wait(waiter, LIMIT)
        assert waiter.given == "there"
        thread.join()


def test_the_deadline_ends_it(kind: str) -> None:
    waiter: Waiter[str] = Waiter()
    begun = monotonic()
    wait(waiter, 0.05)
    assert waiter.given is None
    assert monotonic() - begun >= 0.05


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_ctrl_c_ends_it(kind: str) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    waiter: Waiter[str] = Waiter()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            wait(waiter, LIMIT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_many_at_once(kind: str) -> None:
    waiters: list[Waiter[str]] = [Waiter() for _ in range(50)]
    threads = [threading.Thread(target=wait, args=(waiter, LIMIT)) for waiter in waiters]
    for thread in threads:
        thread.start()
    for waiter in waiters:
        waiter.given = "there"
        waiter.wake()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_without_semaphores_locks_serve(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waiter_module._kind_of_sleep.cache_clear()

    def missing(name: object) -> None:
        raise OSError("no such library")

    monkeypatch.setenv("ARTICO_SYNC_ACCELERATE", "1")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with caplog.at_level(logging.INFO, "artico_sync"):
        waiters: list[Waiter[str]] = [Waiter(), Waiter()]
    waiter_module._kind_of_sleep.cache_clear()
    assert caplog.text.count("Python's own locks") == 1
    waiters[0].wake()
    waiters[0].wait(Deadline(LIMIT))


def test_a_punctual_thread_leaves_the_others_as_they_are() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "prctl") or not Settings().accelerate:
        pytest.skip("nothing to be asked for")

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
