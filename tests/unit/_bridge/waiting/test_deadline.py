"""Deadlines in error messages, and threads that wait to be woken."""

from __future__ import annotations

import ctypes
import logging
import signal
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from artico_sync._bridge.waiting.deadline import Deadline, Waiter
from artico_sync._speedups.semaphore import wait_handle_factory


def test_minus_nothing_polls() -> None:
    assert "0 s" in str(Deadline(-0.0).error("anything")) and "-0" not in str(
        Deadline(-0.0).error("anything")
    )


LIMIT = 10.0


@pytest.fixture(params=["semaphore", "lock"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    wait_handle_factory.cache_clear()
    monkeypatch.setenv("ARTICO_SYNC_ACCELERATE", "1" if request.param == "semaphore" else "0")
    yield str(request.param)
    wait_handle_factory.cache_clear()


def wait(waiter: Waiter[str], seconds: float) -> None:
    """Wait until an object is given, even if single waits end earlier."""
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


def test_the_deadline_ends_a_wait(kind: str) -> None:
    waiter: Waiter[str] = Waiter()
    begun = monotonic()
    wait(waiter, 0.05)
    assert waiter.given is None
    assert monotonic() - begun >= 0.05


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_ctrl_c_ends_a_wait(kind: str) -> None:
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


def test_many_threads_wait_at_once(kind: str) -> None:
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


def test_locks_stand_in_for_missing_semaphores(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wait_handle_factory.cache_clear()

    def missing(name: object) -> None:
        raise OSError("no such library")

    monkeypatch.setenv("ARTICO_SYNC_ACCELERATE", "1")
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with caplog.at_level(logging.INFO, "artico_sync"):
        waiters: list[Waiter[str]] = [Waiter(), Waiter()]
    wait_handle_factory.cache_clear()
    assert caplog.text.count("Python's own locks") == 1
    waiters[0].wake()
    waiters[0].wait(Deadline(LIMIT))
