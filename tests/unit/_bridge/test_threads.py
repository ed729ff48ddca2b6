"""Threads of executors and workers: reused, waited for, and never in the way of an exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

from artico_sync._bridge import threads
from artico_sync._bridge.threads import (
    DaemonExecutor,
    ForkGuard,
    Worker,
    make_thread,
    start_thread,
)
from artico_sync.errors import ForkError
from tests.forking import forks, in_child

LIMIT = 10.0


def test_results_and_exceptions_come_back() -> None:
    with DaemonExecutor() as pool:
        assert pool.submit(pow, 2, 10).result(LIMIT) == 1024
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result(LIMIT)
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]
    with pytest.raises(RuntimeError):
        pool.submit(abs, 1)


def test_work_is_done_at_once_up_to_the_limit() -> None:
    pool = DaemonExecutor(3)
    together = threading.Barrier(3)
    waiting = [pool.submit(together.wait, LIMIT) for _ in range(3)]
    assert sorted(job.result(LIMIT) for job in waiting) == [0, 1, 2]
    names = {pool.submit(lambda: threading.current_thread().name).result(LIMIT) for _ in range(20)}
    assert len(names) <= 3
    pool.shutdown()


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)
    pool = DaemonExecutor()
    thread = pool.submit(threading.current_thread).result(LIMIT)
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert pool.submit(abs, -1).result(LIMIT) == 1
    pool.shutdown()


def test_the_thread_that_has_just_worked_ends_with_the_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "ENDING_SECONDS", LIMIT)
    for _ in range(100):
        pool = DaemonExecutor()
        thread = pool.submit(threading.current_thread).result(LIMIT)
        pool.shutdown()
        assert not thread.is_alive()


def test_shutdown_never_waits_for_what_hangs() -> None:
    pool = DaemonExecutor(1)
    release = threading.Event()
    begun = threading.Event()

    def work() -> bool:
        begun.set()
        return release.wait(LIMIT)

    busy = pool.submit(work)
    assert begun.wait(LIMIT)
    queued = pool.submit(abs, -1)
    began = time.perf_counter()
    pool.shutdown(wait=True)
    assert time.perf_counter() - began < LIMIT / 2
    assert queued.cancelled()
    release.set()
    assert busy.result(LIMIT)


def test_a_loop_uses_it() -> None:
    async def main() -> int:
        asyncio.get_running_loop().set_default_executor(DaemonExecutor())
        return await asyncio.to_thread(abs, -3)

    assert asyncio.run(main()) == 3


SCRIPT = """
import asyncio, sys, time
from artico_sync._bridge.threads import DaemonExecutor

async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(DaemonExecutor())
    loop.run_in_executor(None, time.sleep, 60)
    await asyncio.sleep(0.05)

asyncio.run(main())
print("ended")
"""


def test_interpreter_exit_does_not_wait() -> None:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "ended\n" and done.stderr == ""
    assert time.perf_counter() - began < 20


def nothing() -> None:
    """Stand for the function of a worker."""


def make_worker() -> Worker:
    return Worker("test", nothing, nothing, lambda: False)


def test_a_worker_may_begin_while_others_are_waited_for() -> None:
    first = make_worker()
    later: list[Worker] = []
    began = threading.Thread(target=lambda: later.append(make_worker()))

    def interfere(frame: FrameType, event: str, argument: Any) -> None:
        # In the middle of the iteration.
        if frame.f_code.co_name == "__iter__" and event == "return" and not began.ident:
            began.start()
            began.join(0.1)

    sys.setprofile(interfere)
    try:
        threads.join_finished_workers()
    finally:
        sys.setprofile(None)
    began.join(LIMIT)
    assert later and not first.alive


def test_threads_are_daemons_with_the_prefix_of_the_library() -> None:
    names: list[str] = []
    thread = start_thread("test", names.append, "ran")
    thread.join(LIMIT)
    assert names == ["ran"] and thread.daemon and thread.name == "artico_sync-test"
    assert not make_thread("test", names.clear).is_alive()


@forks
def test_a_fork_guard_refuses_in_a_child() -> None:
    guard = ForkGuard("client")
    guard.check()

    def refused() -> bool:
        with pytest.raises(ForkError, match="This client was connected in process"):
            guard.check()
        return True

    assert in_child(refused)
