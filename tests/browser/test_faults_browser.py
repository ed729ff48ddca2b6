"""Faults in calls with a page: a page that floods, a page that does not read, a network that
changes under the call."""

from __future__ import annotations

import pytest

from artico_sync import ArticoTimeoutError
from tests.browser.conftest import MakeBrowserPeer
from tests.conftest import TIME_UNIT, MakeArtico
from tests.faults.memory import MIB, resident_memory
from tests.polling import wait_until

LIMIT = 30.0 * TIME_UNIT
BUFFER = 1 * MIB


@pytest.mark.timeout(120 * TIME_UNIT)
def test_a_page_that_floods_is_held(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    """Unread messages stay in the page; the memory of this process does not grow."""
    rtco = make_artico("python", receive_buffer=BUFFER)
    page = make_browser_peer("page")
    page_call = page.call("python")
    call = rtco.wait_for("call", timeout=LIMIT).answer().wait_open(LIMIT)
    page_call.wait_open()
    before = resident_memory()
    # Less than what a page may queue before its `send` throws (16 MB).
    count, size = 120, 100_000
    page_call.send_numbered(count, size)
    # The window is full when not one more message fits into it.
    wait_until(lambda: call.stats()["unread"] > BUFFER - 2 * size, "a full window", LIMIT)
    with pytest.raises(ArticoTimeoutError):
        call.wait_closed(timeout=0.5)
    stats = call.stats()
    assert stats["messages_received"] < count / 2
    assert stats["unread"] < 2 * BUFFER
    assert resident_memory() - before < BUFFER + 32 * MIB
    for number in range(count):
        assert call.recv(LIMIT) == f"{number} ".ljust(size, "x")
    page_call.send("after")
    assert call.recv(LIMIT) == "after"


@pytest.mark.timeout(120 * TIME_UNIT)
def test_megabytes_in_flight_reach_a_page_before_the_hangup(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    page = make_browser_peer("page", answer=True)
    rtco = make_artico("python", send_buffer=32 * MIB)
    call = rtco.call("page").wait_open(LIMIT)
    page_call = page.wait_call().wait_open()
    texts = [f"{number} ".ljust(50_000, "x") for number in range(100)]
    for text in texts:
        call.send(text, timeout=0)
    call.hangup(LIMIT)
    page_call.wait_closed()
    assert page_call.received == texts
