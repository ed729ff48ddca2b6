"""The ends of calls between Python and a page, after which nothing comes."""

from __future__ import annotations

import time

import pytest

import artico_sync
from tests.browser.chromium import Chromium
from tests.browser.conftest import MakeBrowserPeer
from tests.conftest import TIME_UNIT, MakeArtico

# A page that vanished is given up after some seconds of silence.
SILENCE_LIMIT = 10 * TIME_UNIT


def assert_over(call: artico_sync.Call, reason: str) -> None:
    assert (call.open, call.closed, call.close_reason) == (False, True, reason)
    with pytest.raises(artico_sync.CallClosedError):
        call.send("too late")
    with pytest.raises(artico_sync.CallClosedError):
        call.recv(timeout=1)
    call.hangup()


@pytest.mark.parametrize("caller", ["python", "page"])
def test_python_hangs_up(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, caller: str
) -> None:
    rtco, page = make_artico("python"), make_browser_peer("page", answer=True)
    if caller == "python":
        call = rtco.call("page").wait_open()
        page_call = page.wait_call().wait_open()
    else:
        page_call = page.call("python")
        call = rtco.wait_for("call", timeout=10).answer().wait_open()
        page_call.wait_open()
    begun = time.monotonic()
    call.hangup()
    page_call.wait_closed()
    assert time.monotonic() - begun < 2 * TIME_UNIT
    assert_over(call, "hangup")
    assert rtco.calls == ()
    # A second call follows: by then, all signals of the first have arrived.
    with rtco.call("page"):
        assert page.incoming == (2 if caller == "python" else 1)
    assert [name for name in page_call.events() if name != "error"] == ["open", "close"]


@pytest.mark.parametrize("caller", ["python", "page"])
def test_a_page_hangs_up(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, caller: str
) -> None:
    rtco, page = make_artico("python"), make_browser_peer("page", answer=True)
    if caller == "python":
        call = rtco.call("page").wait_open()
        page_call = page.wait_call().wait_open()
    else:
        page_call = page.call("python")
        call = rtco.wait_for("call", timeout=10).answer().wait_open()
        page_call.wait_open()
    page_call.send("last words")
    assert call.recv(timeout=10) == "last words"
    begun = time.monotonic()
    page_call.hangup()
    call.wait_closed(timeout=5)
    assert time.monotonic() - begun < 2 * TIME_UNIT
    assert_over(call, "remote")
    # None of the late signals of the page starts a new call.
    with rtco.call("page"):
        with pytest.raises(artico_sync.ArticoTimeoutError):
            rtco.wait_for("call", timeout=0)


def test_what_was_sent_before_hanging_up_arrives(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    page = make_browser_peer("page", answer=True)
    texts = [f"{number} {'x' * 4000}" for number in range(300)]
    with make_artico("python").call("page") as call:
        page_call = page.wait_call().wait_open()
        for text in texts:
            call.send(text)
        call.hangup(60)
    page_call.wait_closed()
    assert page_call.received == texts


def test_reading_goes_on_after_a_page_hung_up(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco, page = make_artico("python"), make_browser_peer("page", echo=True)
    page_call = page.call("python")
    call = rtco.wait_for("call", timeout=10).answer().wait_open()
    page_call.wait_open()
    page_call.send("one", "two", "three")
    call.send("ping")
    # It comes back behind the others, so that all have arrived.
    assert page_call.receive(1) == ["ping"]
    assert call.recv(timeout=10) == "one"
    call.on("close", lambda: None)
    page_call.send("four")
    assert [call.recv(timeout=10) for _ in range(4)] == ["two", "three", "ping", "four"]
    page_call.hangup()
    assert list(call) == []
    assert call.close_reason == "remote"


def test_python_rejects_a_page(make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer) -> None:
    rtco, page = make_artico("python"), make_browser_peer("page", answer=True)
    page_call = page.call("python")
    call = rtco.wait_for("call", timeout=10)
    call.hangup()
    assert_over(call, "hangup")
    with pytest.raises(artico_sync.InvalidStateError):
        call.answer()
    # Late candidates of the rejected call make no new one, on either side.
    with rtco.call("page") as next_call:
        next_call.send("still friends")
        assert page.wait_call().receive(1) == ["still friends"]
        with pytest.raises(artico_sync.ArticoTimeoutError):
            rtco.wait_for("call", timeout=0)
    assert page.incoming == 1
    assert "open" not in page_call.events()


def test_python_gives_up_a_call_that_a_page_answers_too_late(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco, page = make_artico("python"), make_browser_peer("page")
    call = rtco.call("page")
    page_call = page.wait_call()
    with pytest.raises(artico_sync.ArticoTimeoutError):
        call.wait_open(timeout=0.2)
    call.hangup()
    assert_over(call, "hangup")
    page_call.answer()
    call = rtco.call("page")
    page.wait_call(2).answer()
    with call:
        with pytest.raises(artico_sync.ArticoTimeoutError):
            rtco.wait_for("call", timeout=0)
        assert rtco.calls == (call,)
    assert page.incoming == 2
    assert "open" not in page_call.events()


def test_a_page_declines_silently(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco, page = make_artico("python"), make_browser_peer("page")
    call = rtco.call("page")
    # JavaScript's peer says nothing when it hangs up a call it never answered.
    page.wait_call().hangup()
    with pytest.raises(artico_sync.ArticoTimeoutError):
        call.wait_open(timeout=0.3)
    call.hangup()
    assert_over(call, "hangup")


def test_leaving_ends_all_calls(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    page = make_browser_peer("page", answer=True)
    rtco = make_artico("python")
    calls = [rtco.call("page").wait_open() for _ in range(3)]
    for count, call in enumerate(calls, 1):
        page.wait_call(count).wait_open()
        call.send("bye")
    rtco.close()
    for count in (1, 2, 3):
        page_call = page.wait_call(count)
        page_call.wait_closed()
        assert page_call.received == ["bye"]
    assert [call.close_reason for call in calls] == ["hangup"] * 3


def test_pages_vanish_without_a_word(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")
    crashing, calling, closing = (
        make_browser_peer(name, answer=True) for name in ("crashing", "calling", "closing")
    )
    survivor = make_browser_peer("survivor", answer=True, echo=True)
    calling.call("python")
    calls = [
        rtco.wait_for("call", timeout=10).answer().wait_open(),
        rtco.call("crashing").wait_open(),
        rtco.call("closing").wait_open(),
    ]
    other = rtco.call("survivor").wait_open()
    calling.crash()
    crashing.crash()
    closing.close()
    for call in calls[:2]:
        call.wait_closed(timeout=SILENCE_LIMIT)
        assert_over(call, "failed")
    # A browser may or may not send the close of a page that it kills.
    calls[2].wait_closed(timeout=SILENCE_LIMIT)
    assert calls[2].close_reason in ("remote", "failed")
    other.send("still there?")
    assert other.recv(timeout=10) == "still there?"
    assert survivor.wait_call().events() == ["open"]


def test_the_whole_browser_is_killed(
    own_browser: Chromium, make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    page = make_browser_peer("page", answer=True, chromium=own_browser)
    rtco = make_artico("python")
    calls = [rtco.call("page").wait_open() for _ in range(2)]
    for count in (1, 2):
        page.wait_call(count).wait_open()
    own_browser.kill()
    for call in calls:
        call.wait_closed(timeout=SILENCE_LIMIT)
        assert_over(call, "failed")
    with pytest.raises(artico_sync.PeerUnavailableError):
        rtco.call("page").wait_open(timeout=SILENCE_LIMIT)


def test_a_call_outlives_the_signaling_server(
    make_artico: MakeArtico,
    make_browser_peer: MakeBrowserPeer,
    server: artico_sync.ArticoServer,
) -> None:
    page = make_browser_peer("page", answer=True, echo=True)
    rtco = make_artico("python")
    call = rtco.call("page").wait_open()
    page_call = page.wait_call().wait_open()
    server.stop()
    page.wait_event("close")
    rtco.wait_for("reconnecting", timeout=10)
    with pytest.raises(artico_sync.NotReadyError):
        rtco.call("page")
    call.send("who needs a server?")
    assert call.recv(timeout=10) == "who needs a server?"
    call.hangup()
    page_call.wait_closed()
