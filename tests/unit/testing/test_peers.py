"""Tests of fake peers, their calls and scripts."""

from __future__ import annotations

from time import perf_counter

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    CallClosedError,
    CallError,
    CallRejectedError,
    NotReadyError,
)
from artico_sync.testing import FakeCall, FakePeer, Hub, scripts
from artico_sync.testing.scripts import GARBAGE_MESSAGES
from tests.conftest import TIME_UNIT, MakeArtico
from tests.polling import wait_until

TIMEOUT = 10


@pytest.fixture(params=["hub", "server", "url"])
def place(request: pytest.FixtureRequest) -> Hub | ArticoServer | str:
    if request.param == "hub":
        hub: Hub = request.getfixturevalue("hub")
        return hub
    server: ArticoServer = request.getfixturevalue("server")
    return server if request.param == "server" else server.url


def test_a_fake_peer_connects_to_a_hub_a_server_or_a_url(place: Hub | ArticoServer | str) -> None:
    with Hub() as hub, FakePeer(place if not isinstance(place, Hub) else hub, "bob") as bob:
        assert bob.id == "bob" and bob.calls == ()
        if isinstance(place, Hub):
            alice = hub.make_artico()
        else:
            url = place if isinstance(place, str) else place.url
            alice = Artico(url, rtc_config={"iceServers": []}).connect()
        with alice.call("bob") as call:
            call.send("echo?")
            assert call.recv(TIMEOUT) == "echo?"
        alice.close()
        assert bob.wait_for_call().received == ("echo?",)
    assert bob.artico.state == "disconnected"


@pytest.fixture
def hub() -> object:
    return Hub()


def test_a_fake_peer_of_anything_else_raises() -> None:
    with pytest.raises(TypeError):
        FakePeer(5)  # type: ignore[arg-type]


@pytest.mark.slow
def test_it_answers_late() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.answers_late(4)):
        rtco = hub.make_artico()
        start = perf_counter()
        call = rtco.call("bob")
        with pytest.raises(ArticoTimeoutError):
            call.wait_open(0.1)
        call.wait_open(TIMEOUT)
        assert perf_counter() - start >= 4
        call.send("x")
        assert call.recv(TIMEOUT) == "x"


def test_a_caller_that_gives_up_ends_the_script() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.answers_late(60)) as bob:
        call = hub.make_artico().call("bob")
        fake = bob.wait_for_call()
        call.hangup()
        fake.wait_done(TIMEOUT)
        assert not fake.call.open


@pytest.mark.parametrize("after", [0.0, 0.1])
def test_it_rejects(after: float) -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.rejects(after)):
        call = hub.make_artico().call("bob")
        with pytest.raises(CallRejectedError):
            call.wait_open(TIMEOUT)
        assert call.close_reason == "rejected"


def test_a_with_block_that_times_out_raises_and_cancels_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Call.wait_open
    monkeypatch.setattr(Call, "wait_open", lambda call: waiting(call, 0.2))
    with Hub() as hub, FakePeer(hub, "bob", scripts.never_answers()) as bob:
        with pytest.raises(ArticoTimeoutError, match="for the call to open"):
            with hub.make_artico().call("bob"):
                pytest.fail("it opened")
        bob.wait_for_call().wait_done(TIMEOUT)


def test_it_never_answers() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.never_answers()) as bob:
        call = hub.make_artico().call("bob")
        fake = bob.wait_for_call()
        with pytest.raises(ArticoTimeoutError):
            call.wait_open(0.1)
        with pytest.raises(ArticoTimeoutError):
            fake.wait_done(0)
    fake.wait_done(TIMEOUT)


@pytest.mark.parametrize("messages", [0, 2])
def test_it_hangs_up_after_some_messages(messages: int) -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.hangs_up(messages)):
        call = hub.make_artico().call("bob")
        if messages:
            call.wait_open(TIMEOUT)
        for number in range(messages):
            call.send(str(number))
        assert list(call) == [str(number) for number in range(messages)]
        assert call.close_reason == "remote"


@pytest.mark.slow
def test_it_goes_silent(server: ArticoServer) -> None:
    with FakePeer(server, "bob", scripts.goes_silent(1)) as bob:
        with Artico(server.url, rtc_config={"iceServers": []}, silence_timeout=1) as alice:
            call = alice.call("bob").wait_open(TIMEOUT)
            call.send("x")
            assert call.recv(TIMEOUT) == "x"
            wait_until(lambda: bob.calls[0].silent, "the silence")
            with pytest.raises(CallClosedError):
                call.send("y")
                call.recv(TIMEOUT)
            assert call.close_reason == "failed"
        start = perf_counter()
    assert perf_counter() - start < 1 * TIME_UNIT


def test_garbage_messages_arrive_as_they_are() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.sends_garbage()):
        with hub.make_artico().call("bob") as call:
            expected = [
                one for one in GARBAGE_MESSAGES if not (isinstance(one, str) and "cmd" in one)
            ]
            assert [call.recv(TIMEOUT) for _ in expected] == expected
            call.send("still there?")
            assert call.recv(TIMEOUT) == "still there?"


@pytest.mark.parametrize("where", ["hub", "server"])
def test_a_call_survives_garbage_signals(where: str, server: ArticoServer) -> None:
    with (
        Hub() as hub,
        FakePeer(hub if where == "hub" else server, "bob", scripts.sends_garbage_signals()) as bob,
    ):
        signaling = {"signaling": hub.signaling()} if where == "hub" else {"url": server.url}
        with Artico(rtc_config={"iceServers": []}, **signaling) as alice:
            call = alice.call("bob")
            call.on("error", lambda error: None)
            call.wait_open(TIMEOUT)
            call.send("still there?")
            assert call.recv(TIMEOUT) == "still there?"
            call.hangup()
            bob.wait_for_call().wait_done(TIMEOUT)


def test_a_custom_script_and_unexpected_signals() -> None:
    def script(call: FakeCall) -> None:
        call.answer()
        call.send("one", b"two")
        assert call.receive(TIMEOUT) == "thanks"
        call.hangup()

    with Hub() as hub, FakePeer(hub, "bob", script) as bob:
        alice = hub.make_artico("alice")
        bob.signal("alice", {"type": "sdp", "data": 5})
        with alice.call("bob") as call:
            assert [call.recv(TIMEOUT), call.recv(TIMEOUT)] == ["one", b"two"]
            call.send("thanks")
            assert bob.wait_for_call().wait_done(TIMEOUT).received == ("thanks",)
        with pytest.raises(ArticoTimeoutError):
            alice.wait_for("call", 0)


@pytest.mark.logs_errors
def test_a_failed_script_raises_in_wait_done() -> None:
    def script(call: FakeCall) -> None:
        call.answer()
        assert call.receive(TIMEOUT) == "expected"

    with Hub() as hub, FakePeer(hub, "bob", script) as bob:
        with hub.make_artico().call("bob") as call:
            call.send("other")
            with pytest.raises(AssertionError):
                bob.wait_for_call().wait_done(TIMEOUT)


def test_a_fake_peer_can_place_calls() -> None:
    with Hub() as hub, FakePeer(hub, "bob") as bob:
        alice = hub.make_artico("alice")
        fake = bob.call("alice", scripts.hangs_up(1), metadata="hi")
        call = alice.wait_for("call", TIMEOUT)
        assert (call.metadata, call.target) == ("hi", "bob")
        with call.answer():
            call.send("x")
            assert list(call) == ["x"]
        assert fake.wait_done(TIMEOUT).received == ("x",)


def test_a_fake_peer_can_place_calls_step_by_step() -> None:
    with Hub() as hub, FakePeer(hub, "bob") as bob:
        alice = hub.make_artico("alice")
        fake = bob.call("alice")
        alice.wait_for("call", TIMEOUT).answer()
        fake.wait_open(TIMEOUT)
        fake.go_silent()
        assert fake.silent and "bob" in repr(bob)
        with pytest.raises(CallError):
            fake.answer()


def test_calling_while_not_connected_raises() -> None:
    with pytest.raises(NotReadyError):
        FakePeer(Hub(), "bob").call("alice")


def test_waiting_for_a_call_times_out(make_artico: MakeArtico, server: ArticoServer) -> None:
    with FakePeer(server, "bob") as bob, pytest.raises(ArticoTimeoutError):
        bob.wait_for_call(0.05)
