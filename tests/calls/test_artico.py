"""A client through the public API: connecting, events, closing."""

from __future__ import annotations

import math
import socket
import threading
from typing import Any

import pytest

import artico_sync
from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    IdTakenError,
    MemoryHub,
    MemorySignaling,
    NotReadyError,
    SignalingError,
)
from tests.blocking import Blocked
from tests.conftest import RTC_CONFIG, MakeArtico
from tests.polling import wait_until

TIMEOUT = 10


def test_creating_one_starts_nothing() -> None:
    before = threading.active_count()
    rtco = Artico("http://localhost:1")
    assert threading.active_count() == before
    assert rtco.state == "disconnected" and rtco.calls == ()
    assert len(rtco.id) == 24 and rtco.id.isalnum()
    rtco.close()


def test_connect_and_close(make_artico: MakeArtico) -> None:
    rtco = make_artico("alice", connect=False)
    assert rtco.connect() is rtco and rtco.connect() is rtco
    assert rtco.state == "ready" and rtco.id == "alice"
    assert rtco.wait_for("open", 0) == "alice"
    with Blocked(rtco.wait_closed):
        rtco.close()
    rtco.close()
    rtco.wait_closed(0)
    assert rtco.state == "disconnected"
    assert rtco.wait_for("close", 0) is None


def test_a_closed_client_can_connect_again(make_artico: MakeArtico) -> None:
    rtco = make_artico("again")
    for _ in range(2):
        rtco.close()
        rtco.connect()
    other = make_artico()
    call = other.call("again")
    assert rtco.wait_for("call", TIMEOUT).session == call.session


def test_url_comes_from_the_environment(
    server: ArticoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARTICO_URL", server.url)
    with Artico() as rtco:
        assert rtco.id in server.peers


def test_id_taken(make_artico: MakeArtico) -> None:
    make_artico("alice")
    second = make_artico("alice", connect=False)
    with pytest.raises(IdTakenError) as raised:
        second.connect()
    assert raised.value.peer == "alice"
    assert second.state == "disconnected"


def test_no_server() -> None:
    rtco = Artico("http://127.0.0.1:9")
    with pytest.raises(SignalingError, match="refused"):
        rtco.connect()
    assert rtco.state == "disconnected"


def test_closing_ends_a_connect_under_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rtco = Artico(f"http://127.0.0.1:{silent.getsockname()[1]}")
        for _ in range(2):
            blocked = Blocked(lambda: rtco.connect(TIMEOUT * 6))
            with pytest.raises(SignalingError, match="closed while this call"):
                with blocked:
                    rtco.close()
                blocked.result()
            assert rtco.state == "disconnected"
            assert not [t for t in threading.enumerate() if t.name.startswith("artico_sync-")]


def test_a_connect_that_fails_after_all_leaves_nothing_of_the_calls_that_came() -> None:
    """The client was ready for a moment, in which a call came in."""
    hub = MemoryHub()
    rung = threading.Event()
    calls: list[Call] = []

    class Fickle(MemorySignaling):
        def connect(self) -> None:
            super().connect()
            calls.append(alice.call("bob"))
            assert rung.wait(TIMEOUT)
            raise SignalingError("I have changed my mind.")

    def incoming(call: Call) -> None:
        calls.append(call.answer())
        rung.set()

    bob = Artico(signaling=Fickle(hub, "bob"), rtc_config=RTC_CONFIG)
    bob.on("call", incoming)
    with Artico(signaling=hub.signaling("alice"), rtc_config=RTC_CONFIG) as alice:
        with pytest.raises(SignalingError, match="changed"):
            bob.connect(TIMEOUT)
        assert bob.state == "disconnected" and bob.calls == ()
        assert [one.close_reason for one in calls if not one.initiator] == ["hangup"]
        bob.close()


def test_calling_before_connecting(make_artico: MakeArtico) -> None:
    rtco = make_artico(connect=False)
    for attempt in range(2):
        with pytest.raises(NotReadyError, match="Cannot call peers until signaling is ready."):
            rtco.call("bob")
        if attempt == 0:
            rtco.connect()
            rtco.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"url": 5}, TypeError),
        ({"url": "ftp://x"}, ValueError),
        ({"url": "no url"}, ValueError),
        ({"id": ""}, ValueError),
        ({"id": "\ud800"}, ValueError),
        ({"id": 5}, TypeError),
        ({"token": 5}, TypeError),
        ({"rtc_config": 5}, TypeError),
        ({"rtc_config": {"iceServer": []}}, ValueError),
        ({"rtc_config": {"iceServers": {"urls": "stun:x"}}}, TypeError),
        ({"rtc_config": {"iceServers": [{"urls": "http://x"}]}}, ValueError),
        ({"rtc_config": {"iceServers": [{"urls": "turn:x"}]}}, ValueError),
        ({"rtc_config": {"iceServers": [{"urls": 5}]}}, TypeError),
        ({"rtc_config": {"iceTransportPolicy": "public"}}, ValueError),
        ({"silence_timeout": 0}, ValueError),
        ({"connect_timeout": "5"}, TypeError),
        ({"receive_buffer": 10}, ValueError),
        ({"receive_buffer": 2**32}, ValueError),
        ({"send_buffer": 1.5}, TypeError),
        ({"signaling": object()}, TypeError),
        ({"signaling": artico_sync.MemoryHub().signaling("x"), "url": "http://x"}, ValueError),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Artico(
            **{"url": "http://localhost:1", **arguments}
            if "signaling" not in arguments
            else arguments
        )


@pytest.mark.parametrize("seconds", [math.inf, 10**400, 1e300], ids=["inf", "int", "float"])
def test_infinite_and_huge_seconds_are_accepted(make_artico: MakeArtico, seconds: float) -> None:
    names = ("connect_timeout", "silence_timeout", "ring_timeout", "switch_interval")
    alice, bob = (make_artico(**dict.fromkeys(names, seconds)) for _ in range(2))
    call = alice.call(bob.id)
    bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT).watch_stats(seconds)
    assert call.stats()["phase"] == "open"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((5,), TypeError),
        (("",), ValueError),
        (("bob", 5), TypeError),
        (("me",), ValueError),
        (("bob", "x" * 65_537), ValueError),
        (("bob", "\ud800"), ValueError),
        (("\ud800",), ValueError),
    ],
)
def test_bad_calls_are_refused(
    make_artico: MakeArtico, arguments: tuple[Any, ...], error: type[Exception]
) -> None:
    rtco = make_artico("me")
    with pytest.raises(error):
        rtco.call(*arguments)
    assert rtco.calls == ()


def test_the_longest_metadata_arrives(make_artico: MakeArtico) -> None:
    bob = make_artico("bob")
    make_artico("alice").call("bob", "é" * 65_536)
    assert bob.wait_for("call", TIMEOUT).metadata == "é" * 65_536


def test_rtc_config_as_in_javascript_and_as_in_aiortc() -> None:
    import aiortc

    Artico(
        "http://localhost:1",
        rtc_config={
            "iceServers": [
                {"urls": "stun:stun.example:3478"},
                {"urls": ["turn:turn.example?transport=tcp"], "username": "u", "credential": "c"},
            ],
            "iceTransportPolicy": "relay",
        },
    )
    Artico("http://localhost:1", rtc_config=aiortc.RTCConfiguration(iceServers=[]))


def test_close_hangs_up_and_delivers(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    calls = [alice.call(bob.id) for _ in range(3)]
    incoming = [bob.wait_for("call", TIMEOUT).answer() for _ in calls]
    for call in calls:
        call.wait_open(TIMEOUT).send("last words")
    alice.close()
    for call in incoming:
        assert list(call) == ["last words"]
        assert call.close_reason == "remote"


def test_close_rejects_what_still_rings(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    bob.wait_for("call", TIMEOUT)
    bob.close()
    call.wait_closed(TIMEOUT)
    assert call.close_reason == "rejected"


def test_waits_end_when_the_client_closes(make_artico: MakeArtico) -> None:
    rtco = make_artico()
    with Blocked(lambda: rtco.wait_for("call")) as waiting:
        rtco.close()
    with pytest.raises(NotReadyError, match="closed"):
        waiting.result()


def test_closing_inside_a_handler(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    closed = threading.Event()

    @bob.on("call")
    def close(call: artico_sync.Call) -> None:
        bob.close()
        closed.set()

    call = alice.call(bob.id)
    assert closed.wait(TIMEOUT)
    bob.wait_closed(TIMEOUT)
    call.wait_closed(TIMEOUT)


@pytest.mark.parametrize("what", ["wait_closed", "connect"])
def test_a_handler_may_wait_for_the_close_that_waits_for_it(what: str) -> None:
    rtco = Artico(signaling=MemoryHub().signaling("alice"), rtc_config=RTC_CONFIG).connect()
    handled = threading.Event()

    def on_close() -> None:
        getattr(rtco, what)(timeout=None)
        handled.set()

    rtco.once("close", on_close)
    closing = threading.Thread(target=rtco.close, args=(None,), daemon=True)
    closing.start()
    assert handled.wait(TIMEOUT)
    closing.join(TIMEOUT)
    assert not closing.is_alive()
    assert rtco.state == ("ready" if what == "connect" else "disconnected")
    rtco.close()


def test_calls_are_handed_out_one_by_one(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    taken: list[artico_sync.Call] = []
    workers = [
        threading.Thread(target=lambda: taken.append(bob.wait_for("call", TIMEOUT)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    sessions = {alice.call(bob.id).session for _ in range(3)}
    for worker in workers:
        worker.join(TIMEOUT)
    assert {call.session for call in taken} == sessions


def test_losing_the_server_keeps_calls_and_comes_back(make_artico: MakeArtico) -> None:
    server = ArticoServer(port=0).start()
    port = int(server.url.rpartition(":")[2])
    alice = make_artico("alice", url=server.url)
    bob = make_artico("bob", url=server.url)
    call = alice.call("bob")
    incoming = bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    alice.wait_for("open", TIMEOUT)
    server.stop()
    alice.wait_for("reconnecting", TIMEOUT)
    assert alice.state != "ready"
    with pytest.raises(NotReadyError):
        alice.call("bob")
    call.send("still here")
    assert incoming.recv(TIMEOUT) == "still here"
    with ArticoServer(port=port):
        assert alice.wait_for("open", TIMEOUT) == "alice"
        bob.connect(TIMEOUT)
        second = alice.call("bob")
        bob.wait_for("call", TIMEOUT).answer()
        second.wait_open(TIMEOUT)
        call.send("and here")
        assert incoming.recv(TIMEOUT) == "and here"
        alice.close()
        bob.close()


def test_a_call_placed_before_the_server_went_connects_after_its_return(
    make_artico: MakeArtico,
) -> None:
    server = ArticoServer(port=0).start()
    port = int(server.url.rpartition(":")[2])
    alice = make_artico("alice", url=server.url)
    bob = make_artico("bob", url=server.url)
    call = alice.call("bob")
    incoming = bob.wait_for("call", TIMEOUT)
    server.stop()
    wait_until(lambda: bob.state != "ready", "bob to notice", TIMEOUT)
    incoming.answer()
    with ArticoServer(port=port):
        call.wait_open(TIMEOUT)
        incoming.wait_open(TIMEOUT)
        alice.close()
        bob.close()


def test_connecting_runs_out_of_time_on_a_silent_server() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        rtco = Artico(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ArticoTimeoutError):
            rtco.connect(timeout=0.3)
        assert rtco.state == "disconnected"


def test_exports_are_there() -> None:
    for name in artico_sync.__all__:
        assert getattr(artico_sync, name) is not None
