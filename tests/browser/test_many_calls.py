"""Many calls between Python and a page: one after another, and at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import artico_sync
from tests.browser.conftest import MakeBrowserPeer
from tests.conftest import MakeArtico


def test_twenty_calls_one_after_another(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")
    page = make_browser_peer("page", answer=True, echo=True)
    for number in range(1, 21):
        if number % 2:
            call = rtco.call("page", str(number)).wait_open()
            page_call = page.wait_call((number + 1) // 2).wait_open()
        else:
            page_call = page.call("python", str(number))
            call = rtco.wait_for("call", timeout=10).answer().wait_open()
            page_call.wait_open()
        assert call.session == page_call.session
        assert call.metadata == page_call.properties["metadata"] == str(number)
        call.send(f"message {number}")
        assert call.recv(timeout=10) == f"message {number}"
        if number % 4 < 2:
            call.hangup()
            page_call.wait_closed()
        else:
            page_call.hangup()
            call.wait_closed(timeout=5)
        assert page_call.received == [f"message {number}"]
        assert [name for name in page_call.events() if name != "error"] == ["open", "close"]
    assert rtco.calls == ()
    assert page.incoming == 10


def talk(call: artico_sync.Call, count: int) -> list[object]:
    """Send numbered messages to an echoing page; what came back."""
    with call:
        for number in range(count):
            call.send(f"{call.session} {number}")
        return [call.recv(timeout=20) for _ in range(count)]


def test_python_has_five_calls_at_a_time(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    page = make_browser_peer("page", answer=True, echo=True)
    rtco = make_artico("python")
    with ThreadPoolExecutor(5, thread_name_prefix="talker") as pool:
        calls = list(pool.map(lambda _: rtco.call("page"), range(5)))
        heard = list(pool.map(lambda call: talk(call, 50), calls))
    assert len({call.session for call in calls}) == 5
    for call, texts in zip(calls, heard, strict=True):
        assert texts == [f"{call.session} {number}" for number in range(50)]
    for count in range(1, 6):
        page.wait_call(count).wait_closed()
    assert page.incoming == 5


def test_a_page_has_five_calls_at_a_time(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")

    @rtco.on("call")
    def incoming(call: artico_sync.Call) -> None:
        call.on("data", call.send)
        call.answer()

    page = make_browser_peer("page")
    calls = [page.call("python", str(number)) for number in range(5)]
    texts = [f"text {number}" for number in range(50)]
    for call in calls:
        call.wait_open()
    for call in calls:
        call.send(*texts)
    for call in calls:
        assert call.receive(50) == texts
    for call in calls:
        call.hangup()
    assert [call.events()[:2] for call in calls] == [["open", "close"]] * 5


def test_several_pages_and_clients_at_a_time(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    for name in ("page 1", "page 2"):
        make_browser_peer(name, answer=True, echo=True)
    clients = [make_artico(f"python {number}") for number in (1, 2, 3)]
    pairs = [(rtco, name) for rtco in clients for name in ("page 1", "page 2")]
    with ThreadPoolExecutor(len(pairs), thread_name_prefix="talker") as pool:
        heard = list(pool.map(lambda pair: talk(pair[0].call(pair[1]), 20), pairs))
    for texts in heard:
        assert len(texts) == 20
        assert [str(text).split()[-1] for text in texts] == [str(n) for n in range(20)]
