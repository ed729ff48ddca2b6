"""Tests of the detection of leaks and logged errors."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading

import pytest

from artico_sync.testing.leaks import pending_tasks
from tests.leaks import ErrorLog, SessionLeakDetector


def test_nothing_is_found_if_nothing_was_started() -> None:
    assert SessionLeakDetector().wait_for_none(limit=0) == []


def test_a_thread_is_found_until_it_ends() -> None:
    leaks = SessionLeakDetector()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left behind")
    thread.start()
    assert leaks.wait_for_none(limit=0.01) == ["thread left behind"]
    end.set()
    assert leaks.wait_for_none(limit=5) == []
    thread.join()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_socket_is_found_until_it_is_closed() -> None:
    leaks = SessionLeakDetector()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        left = leaks.wait_for_none(limit=0)
        assert len(left) == 1 and left[0].startswith("udp socket 0100007F:")
    assert leaks.wait_for_none(limit=0) == []


def test_a_task_is_found_until_it_is_done() -> None:
    leaks = SessionLeakDetector()
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(60), name="left behind")
    assert any("left behind" in line for line in leaks.wait_for_none(limit=0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert leaks.wait_for_none(limit=0) == []


@pytest.mark.logs_errors
def test_errors_in_the_log_are_collected_and_warnings_are_not() -> None:
    with ErrorLog() as log:
        logging.getLogger("artico_sync._engine").error("broken: %s", "badly")
        logging.getLogger("artico_sync._engine").warning("odd")
    assert log.errors == ["ERROR artico_sync._engine: broken: badly"]


def test_tasks_are_listed_while_other_threads_start_some() -> None:
    over = threading.Event()

    async def begin_tasks() -> None:
        while not over.is_set():
            await asyncio.gather(*(asyncio.sleep(0) for _ in range(50)))

    before = sys.getswitchinterval()
    thread = threading.Thread(target=lambda: asyncio.run(begin_tasks()))
    thread.start()
    try:
        sys.setswitchinterval(1e-5)
        for _ in range(5000):
            pending_tasks(())
    finally:
        sys.setswitchinterval(before)
        over.set()
        thread.join()
