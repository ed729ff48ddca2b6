"""Deadlines in error messages, and threads that wait to be woken."""

from __future__ import annotations

import signal
import threading
from time import monotonic

import pytest

from artico_sync._bridge.waiting.deadline import Deadline, Waiter


def test_minus_nothing_polls() -> None:
    assert "0 s" in str(Deadline(-0.0).error("anything")) and "-0" not in str(
        Deadline(-0.0).error("anything")
    )


LIMIT = 10.0


def wait(waiter: Waiter[str], seconds: float) -> None:
    """Wait until an object is given, even if single waits end earlier."""
    deadline = Deadline(seconds)
    while waiter.given is None and not deadline.expired:
        waiter.wait(deadline)


def test_woken_while_asleep_and_before() -> None:
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


def test_the_deadline_ends_a_wait() -> None:
    waiter: Waiter[str] = Waiter()
    begun = monotonic()
    wait(waiter, 0.05)
    assert waiter.given is None
    assert monotonic() - begun >= 0.05


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_ctrl_c_ends_a_wait() -> None:
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


def test_many_threads_wait_at_once() -> None:
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
