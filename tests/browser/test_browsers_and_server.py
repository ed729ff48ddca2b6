"""@rtco/client on both sides of our server: what JavaScript peers see of it."""

from __future__ import annotations

import pytest

import artico_sync
from tests.browser.conftest import MakeBrowserPeer
from tests.polling import wait_until


def test_two_pages_call_each_other_through_our_server(make_browser_peer: MakeBrowserPeer) -> None:
    callee = make_browser_peer("callee", answer=True, echo=True)
    caller = make_browser_peer("caller")
    call = caller.call("callee", "hi").wait_open()
    page_call = callee.wait_call().wait_open()
    assert call.properties == {
        "session": page_call.session,
        "metadata": "hi",
        "target": "callee",
        "initiator": True,
        "ready": True,
    }
    assert page_call.properties["metadata"] == "hi"
    call.send("one", "two")
    assert call.receive(2) == ["one", "two"]
    call.hangup()
    page_call.wait_closed()


def test_the_page_is_known_to_the_server_while_it_is_there(
    make_browser_peer: MakeBrowserPeer, server: artico_sync.ArticoServer
) -> None:
    peer = make_browser_peer("a-page")
    assert peer.state == "ready"
    assert "a-page" in server.peers
    random = make_browser_peer()
    assert random.id in server.peers


def test_an_id_in_use_is_refused(make_browser_peer: MakeBrowserPeer) -> None:
    make_browser_peer("wanted")
    second = make_browser_peer("wanted", ready=False)
    second.wait_event("close")
    names = [(event.name, event.args) for event in second.events("")]
    assert names == [("error", ("id-taken",)), ("close", ())]
    assert second.state == "disconnected"


def test_an_empty_id_is_refused(make_browser_peer: MakeBrowserPeer) -> None:
    peer = make_browser_peer("", ready=False)
    peer.wait_event("close")
    assert peer.events("")[0].args == ("invalid-id",)


def test_an_id_is_free_again_once_its_page_is_gone(
    make_browser_peer: MakeBrowserPeer, server: artico_sync.ArticoServer
) -> None:
    first = make_browser_peer("wanted")
    first.stop()
    wait_until(lambda: "wanted" not in server.peers, "the page to leave the server")
    assert make_browser_peer("wanted").state == "ready"


@pytest.mark.parametrize("metadata", [None, "", "\N{MUSICAL SYMBOL G CLEF}"])
def test_metadata_passes_the_server_unchanged(
    make_browser_peer: MakeBrowserPeer, metadata: str | None
) -> None:
    callee = make_browser_peer("callee", answer=True)
    caller = make_browser_peer("caller")
    caller.call("callee", metadata).wait_open()
    assert callee.wait_call().properties["metadata"] == metadata


def test_a_call_to_an_unknown_id_has_no_other_effect(make_browser_peer: MakeBrowserPeer) -> None:
    callee = make_browser_peer("callee", answer=True)
    caller = make_browser_peer("caller")
    nobody = caller.call("nobody")
    caller.call("callee").wait_open()
    assert nobody.events() == []
    assert callee.incoming == 1
