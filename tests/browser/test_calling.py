"""Calls between Python and a page, both ways: how they open, and what both ends know of them."""

from __future__ import annotations

import asyncio
import queue

import pytest

import artico_sync
from tests.browser.conftest import MakeBrowserPeer
from tests.conftest import MakeArtico
from tests.polling import wait_until

METADATA = [None, "", "hi", '{"room": 5}', "na\u00efve \N{SNOWMAN} \N{MUSICAL SYMBOL G CLEF}"]


@pytest.mark.parametrize("metadata", METADATA)
def test_python_calls_a_page(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, metadata: str | None
) -> None:
    page = make_browser_peer("page")
    call = make_artico("python").call("page", metadata)
    page_call = page.wait_call()
    assert (call.open, call.closed, call.close_reason) == (False, False, None)
    page_call.answer()
    with call:
        assert call.open
        assert (call.session[:5], call.initiator) == ("call:", True)
        assert (call.target, call.metadata) == ("page", metadata)
        page_call.wait_open()
        assert page_call.properties == {
            "session": call.session,
            "metadata": metadata,
            "target": "python",
            "initiator": False,
            "ready": True,
        }


@pytest.mark.parametrize("metadata", METADATA)
def test_a_page_calls_python(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, metadata: str | None
) -> None:
    rtco = make_artico("python")
    page = make_browser_peer("page")
    page_call = page.call("python", metadata)
    call = rtco.wait_for("call", timeout=10)
    assert (call.open, call.closed, call.close_reason) == (False, False, None)
    assert (call.session, call.initiator) == (page_call.session, False)
    assert (call.target, call.metadata) == ("page", metadata)
    assert rtco.calls == (call,)
    with call.answer():
        assert call.open
        page_call.wait_open()
        assert page_call.properties["ready"] is True
        assert page_call.properties["target"] == "python"


def test_a_page_calls_python_which_answers_in_a_handler(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python", connect=False)
    seen: queue.Queue[tuple[object, ...]] = queue.Queue()

    @rtco.on("call")
    def incoming(call: artico_sync.Call, metadata: str | None) -> None:
        seen.put(("call", metadata))
        call.on("open", lambda: seen.put(("open",)))
        call.on("data", lambda text: call.send(text.upper()))
        call.on("close", lambda: seen.put(("close",)))
        call.answer()

    rtco.connect()
    page_call = make_browser_peer("page").call("python", "hello").wait_open()
    page_call.send("how", "are you?")
    assert page_call.receive(2) == ["HOW", "ARE YOU?"]
    page_call.hangup()
    assert [seen.get(timeout=10) for _ in range(3)] == [("call", "hello"), ("open",), ("close",)]


def test_a_handler_may_wait_for_its_call_to_open(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")

    @rtco.on("call")
    def incoming(call: artico_sync.Call) -> None:
        with call.answer():
            call.send("one")
            call.send("two")

    page_call = make_browser_peer("page").call("python")
    page_call.wait_closed()
    assert page_call.received == ["one", "two"]
    # A busy page that confirms the close too late gets an error just before.
    assert [name for name in page_call.events() if name != "error"] == ["open", "close"]


def test_a_page_answers_late(make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer) -> None:
    page = make_browser_peer("page")
    rtco = make_artico("python")
    call = rtco.call("page")
    page_call = page.wait_call()
    # By the time a whole second call has come and gone, all signals of the first are there.
    second = rtco.call("page")
    page.wait_call(2).answer()
    second.wait_open().hangup()
    assert not call.open
    page_call.answer()
    with call:
        call.send("at last")
        assert page_call.receive(1) == ["at last"]


def test_python_answers_late(make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer) -> None:
    rtco = make_artico("python")
    page = make_browser_peer("page")
    page_call = page.call("python")
    call = rtco.wait_for("call", timeout=10)
    second = page.call("python")
    with rtco.wait_for("call", timeout=10).answer():
        second.wait_open()
    assert not call.open
    with call.answer():
        call.send("at last")
        assert page_call.receive(1) == ["at last"]


def test_a_page_is_called_from_a_thread_that_runs_an_event_loop(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    make_browser_peer("page", answer=True, echo=True)
    rtco = make_artico("python")

    async def cell_of_a_notebook() -> object:
        with rtco.call("page") as call:
            call.send("blocking, in a coroutine")
            return call.recv(timeout=10)

    assert asyncio.run(cell_of_a_notebook()) == "blocking, in a coroutine"


def test_python_and_a_page_call_each_other_at_once(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    page = make_browser_peer("page", answer=True, echo=True)
    rtco = make_artico("python")
    placed = rtco.call("page")
    page_call = page.call("python")
    came = rtco.wait_for("call", timeout=10)
    with placed, came.answer():
        placed.send("from the caller")
        came.send("from the callee")
        assert placed.recv(timeout=10) == "from the caller"
        assert came.recv(timeout=10) == "from the callee"
        assert (placed.session, came.session) == (page.wait_call().session, page_call.session)


def test_calling_an_unknown_id_fails_at_once(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")
    call = rtco.call("nobody")
    with pytest.raises(artico_sync.PeerUnavailableError):
        call.wait_open(timeout=5)
    assert (call.closed, call.close_reason) == (True, "unavailable")
    make_browser_peer("page", answer=True)
    with rtco.call("page"):
        assert rtco.state == "ready"


def test_a_page_that_left_is_unavailable(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, server: artico_sync.ArticoServer
) -> None:
    page = make_browser_peer("page")
    rtco = make_artico("python")
    page.close()
    wait_until(lambda: "page" not in server.peers, "the page to leave the server")
    with pytest.raises(artico_sync.PeerUnavailableError):
        rtco.call("page").wait_open(timeout=5)


def test_python_cannot_take_the_id_of_a_page(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    make_browser_peer("wanted")
    rtco = make_artico("wanted", connect=False)
    with pytest.raises(artico_sync.IdTakenError):
        rtco.connect()
    assert rtco.state == "disconnected"


def test_a_page_cannot_take_the_id_of_python(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("wanted")
    page = make_browser_peer("wanted", ready=False)
    page.wait_event("close")
    assert page.events("")[0].args == ("id-taken",)
    assert rtco.state == "ready"
