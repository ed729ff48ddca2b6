"""Calls between two artico_sync peers, through the public API, over real WebRTC."""

from __future__ import annotations

import json
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from artico_sync import (
    Artico,
    ArticoTimeoutError,
    Call,
    CallClosedError,
    CallRejectedError,
    InvalidStateError,
    MessageTooLargeError,
    NotOpenError,
    PeerUnavailableError,
)
from artico_sync._bridge import call as call_port
from artico_sync._bridge.waiting.deadline import wait_until
from tests.blocking import Blocked
from tests.conftest import TIME_UNIT, MakeArtico

TIMEOUT = 10


@contextmanager
def open_pair(make_artico: MakeArtico, metadata: str | None = None) -> Iterator[tuple[Call, Call]]:
    """Return both ends of an open call: the caller's and the callee's."""
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id, metadata)
    answered = bob.wait_for("call", TIMEOUT).answer()
    yield call.wait_open(TIMEOUT), answered.wait_open(TIMEOUT)


@pytest.fixture
def pair(make_artico: MakeArtico) -> Iterator[tuple[Call, Call]]:
    with open_pair(make_artico, "hello") as calls:
        yield calls


def test_properties_of_both_ends(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    assert caller.session == callee.session
    assert caller.session.startswith("call:") and len(caller.session) == len("call:") + 10
    assert caller.metadata == callee.metadata == "hello"
    assert (caller.initiator, callee.initiator) == (True, False)
    assert (caller.open, callee.open, caller.closed) == (True, True, False)
    assert caller.close_reason is None
    caller.hangup()
    callee.wait_closed(TIMEOUT)
    assert (caller.closed, caller.open) == (True, False)
    assert [caller.close_reason, callee.close_reason] == ["hangup", "remote"]
    assert callee.closed


def test_targets_are_the_other_peer(make_artico: MakeArtico) -> None:
    alice, bob = make_artico("alice"), make_artico("bob")
    call = alice.call("bob")
    incoming = bob.wait_for("call", TIMEOUT)
    assert (call.target, incoming.target) == ("bob", "alice")
    assert call.metadata is None and incoming.metadata is None


AWKWARD: list[str | bytes] = [
    "",
    "null",
    "5",
    "true",
    '"text"',
    '{"type":"[artico]"}',
    '{"type":"[artico]","data":null}',
    '[{"type":"[artico]","data":{}}]',
    '{"type":"other","data":{"cmd":"stream-meta"}}',
    "\x00\x01\x7f",
    "zwölf Boxkämpfer \U0001f469‍\U0001f52c \U0010ffff",
    "line\r\nline\u2028",
    "x" * 262_144,
    "ä" * 131_072,
    b"",
    b"\x00\xff" * 1000,
    b"y" * 262_144,
]


def test_every_kind_of_message_arrives_as_it_was(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    for sender, receiver in ((caller, callee), (callee, caller)):
        for message in AWKWARD:
            sender.send(message)
        for message in AWKWARD:
            assert receiver.recv(TIMEOUT) == message


def test_bytes_like_messages_are_copied(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    buffer = bytearray(b"before")
    caller.send(buffer)
    caller.send(memoryview(b"0123456789")[::2])
    caller.send(array("B", [7, 8]))
    objects: Any = np.array([object()])
    with pytest.raises(TypeError, match="objects"):
        caller.send(objects)
    buffer[:] = b"after!"
    assert callee.recv(TIMEOUT) == b"before"
    assert callee.recv(TIMEOUT) == b"02468"
    assert callee.recv(TIMEOUT) == b"\x07\x08"


@pytest.mark.parametrize(
    "control",
    [
        {"cmd": "unknown"},
        {"cmd": "stream-meta"},
        {"cmd": "stream-meta", "payload": {"streamId": 5}},
        {"cmd": {}, "payload": []},
        "text",
        [],
        5,
    ],
)
def test_control_messages_never_reach_the_user(pair: tuple[Call, Call], control: object) -> None:
    caller, callee = pair
    caller.send(json.dumps({"type": "[artico]", "data": control}))
    caller.send("after")
    assert callee.recv(TIMEOUT) == "after"


def test_hundreds_of_messages_keep_their_order(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    echoed: list[Any] = []
    done = threading.Event()

    def echo(message: str) -> None:
        callee.send(message)

    def collect(message: str) -> None:
        echoed.append(message)
        if len(echoed) == 500:
            done.set()

    callee.on("data", echo)
    caller.on("data", collect)
    for number in range(500):
        caller.send(f"{number}")
    assert done.wait(TIMEOUT)
    assert echoed == [f"{number}" for number in range(500)]


def test_iteration_ends_with_the_call(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    with Blocked(lambda: list(callee)) as reading:
        caller.send("one")
        caller.send("two")
        caller.hangup()
    assert reading.result() == ["one", "two"]


def test_messages_from_before_the_close_can_be_read_after_it(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    for number in range(100):
        caller.send(str(number))
    caller.hangup()
    callee.wait_closed(TIMEOUT)
    assert [callee.recv(0) for _ in range(100)] == [str(number) for number in range(100)]
    with pytest.raises(CallClosedError) as raised:
        callee.recv()
    assert raised.value.session == callee.session and raised.value.peer == callee.target


def test_handlers_registered_late_get_everything(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    caller.send("early")
    caller.hangup()
    callee.wait_closed(TIMEOUT)
    events: list[Any] = []
    done = threading.Event()
    callee.on("open", lambda: events.append("open"))
    callee.on("data", lambda text: events.append(text))

    # One handler: a pending event goes to the handlers registered when it is dispatched.
    @callee.on("close")
    def closed() -> None:
        events.append("close")
        done.set()

    assert done.wait(TIMEOUT)
    assert events == ["open", "early", "close"]


def test_recv_polls_blocks_and_times_out(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    with pytest.raises(ArticoTimeoutError):
        callee.recv(timeout=0)
    with pytest.raises(TimeoutError):
        callee.recv(timeout=0.05)
    with Blocked(callee.recv) as reading:
        caller.send("now")
    assert reading.result() == "now"


@pytest.mark.parametrize("wait", ["recv", "wait_for", "wait_closed"])
def test_waits_end_with_the_call(pair: tuple[Call, Call], wait: str) -> None:
    caller, callee = pair
    waits: dict[str, Callable[[], Any]] = {
        "recv": callee.recv,
        "wait_for": lambda: callee.wait_for("stream"),
        "wait_closed": callee.wait_closed,
    }
    with Blocked(waits[wait]) as blocked:
        caller.hangup()
    if wait == "wait_closed":
        assert blocked.result() is None
    else:
        with pytest.raises(CallClosedError):
            blocked.result()


def test_unknown_target(make_artico: MakeArtico) -> None:
    alice = make_artico()
    call = alice.call("nobody-of-that-name")
    with pytest.raises(PeerUnavailableError, match="nobody-of-that-name"):
        call.wait_open()
    assert call.closed and call.close_reason == "unavailable"
    call.wait_for("close", TIMEOUT)


def test_rejection(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    with Blocked(call.wait_open) as waiting:
        incoming = bob.wait_for("call", TIMEOUT)
        incoming.hangup()
    with pytest.raises(CallRejectedError):
        waiting.result()
    assert call.close_reason == "rejected"
    assert incoming.close_reason == "hangup"


def test_who_opens_and_leaves_at_once_is_heard(
    make_artico: MakeArtico, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say_and_leave(call: Call) -> None:
        call.answer().wait_for("open", TIMEOUT)
        call.send("gone")
        call.hangup()

    alice, bob = make_artico(), make_artico()
    bob.on("call", say_and_leave)
    call = alice.call(bob.id)

    def come_late(condition: Any, predicate: Any, deadline: Any) -> Any:
        # Woken as the call opens, the thread runs only once the call is over.
        return wait_until(condition, lambda: call.closed, deadline)

    with monkeypatch.context() as patched:
        patched.setattr(call_port, "wait_until", come_late)
        assert call.wait_open(TIMEOUT) is call
    assert list(call) == ["gone"]
    with pytest.raises(CallClosedError, match="hung up"):
        call.wait_open(TIMEOUT)


def left_again(make_artico: MakeArtico) -> Call:
    """Return a callee's end that no thread waited for, after the caller sent "gone" and left."""
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    left = bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT).send("gone")
    call.hangup()
    return left


def test_messages_of_a_peer_that_left_before_the_wait_are_received(make_artico: MakeArtico) -> None:
    call = left_again(make_artico)
    call.wait_for("close", TIMEOUT)
    with call:
        assert list(call) == ["gone"]
    with pytest.raises(CallClosedError, match="hung up"):
        call.wait_open(TIMEOUT)


def test_who_waited_for_the_end_waits_in_vain_for_the_beginning(make_artico: MakeArtico) -> None:
    call = left_again(make_artico)
    call.wait_closed(TIMEOUT)
    with pytest.raises(CallClosedError, match="hung up"):
        call.wait_open(TIMEOUT)


def test_cancellation(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT)
    with Blocked(incoming.wait_closed):
        call.hangup()
    assert incoming.close_reason == "remote" and call.close_reason == "hangup"
    with pytest.raises(InvalidStateError, match="closed"):
        incoming.answer()


@pytest.mark.parametrize("busy", [0.0, 0.5])
def test_cancelling_and_leaving_at_once(make_artico: MakeArtico, busy: float) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    # Longer than an artico_sync peer takes to send `ringing`.
    call._bridge.portal.post(time.sleep, busy)
    alice.close()
    incoming = bob.wait_for("call", TIMEOUT)
    incoming.wait_closed(TIMEOUT)
    assert incoming.close_reason == "remote"


def test_answering_wrongly(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    with pytest.raises(InvalidStateError, match="Only non-initiators can answer calls"):
        call.answer()
    incoming = bob.wait_for("call", TIMEOUT)
    assert incoming.answer() is incoming
    with pytest.raises(InvalidStateError, match="already"):
        incoming.answer()


def test_sending_before_open_and_after_close(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    with pytest.raises(NotOpenError, match="Connection is not established yet."):
        call.send("too early")
    with pytest.raises(NotOpenError):
        call.flush()
    call.hangup()
    with pytest.raises(CallClosedError):
        call.send("too late")


@pytest.mark.parametrize("message", ["x" * 262_145, "ä" * 131_073, b"y" * 262_145])
def test_messages_too_large_are_refused_before_anything_is_sent(
    pair: tuple[Call, Call], message: str | bytes
) -> None:
    caller, callee = pair
    with pytest.raises(MessageTooLargeError, match="262144") as raised:
        caller.send(message)
    assert isinstance(raised.value, ValueError)
    caller.send("next")
    assert callee.recv(TIMEOUT) == "next"


@pytest.mark.parametrize("data", [None, 5, 1.5, ["x"], {"a": 1}, object()])
def test_other_types_are_refused(pair: tuple[Call, Call], data: Any) -> None:
    with pytest.raises(TypeError, match="str or bytes"):
        pair[0].send(data)


def test_text_that_is_no_unicode_is_refused(pair: tuple[Call, Call]) -> None:
    with pytest.raises(ValueError):
        pair[0].send("\ud800")


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_bad_timeouts_are_refused(
    pair: tuple[Call, Call], timeout: Any, error: type[Exception]
) -> None:
    caller = pair[0]
    for method in (caller.recv, caller.flush, caller.wait_open, caller.wait_closed, caller.hangup):
        with pytest.raises(error, match="timeout"):
            method(timeout=timeout)
    with pytest.raises(error, match="timeout"):
        caller.send("x", timeout=timeout)
    assert caller.open


def test_unknown_events_are_refused(pair: tuple[Call, Call]) -> None:
    caller = pair[0]
    methods: list[Any] = [caller.on, caller.once, caller.off, caller.wait_for]
    for method in methods:
        with pytest.raises(ValueError, match="close, data, error, open"):
            method("message")
        with pytest.raises(TypeError):
            method(5)


def test_flush_returns_when_everything_is_acknowledged(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    for _ in range(20):
        caller.send(b"z" * 100_000)
    caller.flush(TIMEOUT)
    assert caller.stats()["pending"] == 0
    for _ in range(20):
        assert len(callee.recv(TIMEOUT)) == 100_000
    caller.send("")
    caller.flush(TIMEOUT)


@pytest.mark.slow
def test_send_blocks_while_the_receiver_does_not_read(make_artico: MakeArtico) -> None:
    alice = make_artico(send_buffer=256 * 1024)
    bob = make_artico(receive_buffer=512 * 1024)
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    block = b"b" * 65_536
    sent = 0
    with pytest.raises(ArticoTimeoutError):
        while sent < 200:
            call.send(block, timeout=2.0 * TIME_UNIT)
            sent += 1
    assert 5 <= sent <= 40
    with Blocked(lambda: call.send(b"last")):
        for _ in range(sent):
            assert incoming.recv(TIMEOUT) == block
    assert incoming.recv(TIMEOUT) == b"last"


def test_hangup_delivers_what_was_sent(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    messages = [bytes([number]) * 200_000 for number in range(30)]

    def send_and_hang_up() -> None:
        for message in messages:
            caller.send(message)
        caller.hangup(timeout=TIMEOUT)

    with Blocked(send_and_hang_up):
        received = list(callee)
    assert received == messages


def test_hangup_that_cannot_deliver_says_so(make_artico: MakeArtico) -> None:
    alice = make_artico()
    bob = make_artico(receive_buffer=512 * 1024)
    call = alice.call(bob.id)
    bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    errors: list[Exception] = []
    call.on("error", errors.append)
    for _ in range(12):
        call.send(b"x" * 100_000)
    with pytest.raises(ArticoTimeoutError, match="delivered"):
        call.hangup(timeout=0.3)
    assert call.closed and call.close_reason == "hangup"
    call.hangup()
    alice.close()
    assert [type(error) for error in errors] == [ArticoTimeoutError]


def test_with_hangs_up_on_both_ways_out(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    bob.on("call", lambda call: call.answer())
    with alice.call(bob.id) as call:
        assert call.open
    assert call.close_reason == "hangup"
    with pytest.raises(KeyError), alice.call(bob.id) as call:
        raise KeyError("the user's own")
    assert call.close_reason == "hangup"


def test_both_hang_up_at_once(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    threads = [threading.Thread(target=call.hangup) for call in (caller, callee, caller, callee)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert caller.closed and callee.closed


def test_second_call_beside_the_first(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()

    @bob.on("call")
    def answer(call: Call, metadata: str | None) -> None:
        call.on("data", lambda text: call.send(f"{metadata}{text!s}"))
        call.answer()

    calls = [alice.call(bob.id, metadata=str(number)) for number in range(5)]
    for number, call in enumerate(calls):
        call.wait_open(TIMEOUT).send("!")
        assert call.recv(TIMEOUT) == f"{number}!"
    assert set(alice.calls) == set(calls)
    for call in calls:
        call.hangup()
    assert not alice.calls


def test_stats_are_plain_numbers(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    caller.send("x" * 1000)
    caller.flush(TIMEOUT)
    assert callee.stats()["unread"] > 1000
    callee.recv(TIMEOUT)
    assert callee.stats()["unread"] == 0
    stats = caller.stats()
    assert stats["messages_sent"] == 1 and stats["bytes_sent"] == 1000
    assert callee.stats()["messages_received"] == 1
    assert 0 < stats["round_trip_time"] < 5
    assert stats["local"]["type"] == "host" and stats["remote"]["protocol"] == "udp"
    json.dumps(stats)
    caller.hangup()
    with pytest.raises(CallClosedError):
        caller.stats()


def test_repr_tells_who_and_what(pair: tuple[Call, Call]) -> None:
    caller, callee = pair
    assert caller.session in repr(caller) and "open" in repr(caller)
    caller.hangup()
    assert "hangup" in repr(caller)


def test_a_call_in_the_other_direction_from_a_handler(make_artico: MakeArtico) -> None:
    alice, bob = make_artico("alice"), make_artico("bob")
    answers: list[Any] = []
    done = threading.Event()

    @bob.on("call")
    def call_back(call: Call) -> None:
        call.hangup()
        with bob.call("alice", metadata="back") as back:
            back.send("hello")
            answers.append(back.recv(TIMEOUT))
        done.set()

    @alice.on("call")
    def answer(call: Call) -> None:
        call.on("data", lambda text: call.send(text.upper()))
        call.answer()

    with pytest.raises(CallRejectedError):
        alice.call("bob").wait_open(TIMEOUT)
    assert done.wait(TIMEOUT)
    assert answers == ["HELLO"]


def test_artico_is_notified_of_ended_calls(make_artico: MakeArtico) -> None:
    alice: Artico = make_artico()
    bob = make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT)
    assert alice.calls == (call,) and bob.calls == (incoming,)
    call.hangup()
    incoming.wait_closed(TIMEOUT)
    assert not alice.calls


def test_answered_at_both_ends(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT)
    ends = (call, incoming)
    assert [end.answered for end in ends] == [False, False]
    incoming.answer()
    assert incoming.answered
    call.wait_open(TIMEOUT)
    assert call.answered
    call.hangup()
    incoming.wait_closed(TIMEOUT)
    assert [end.answered for end in ends] == [True, True]


def test_a_rejected_call_is_not_answered(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT)
    incoming.reject("busy")
    call.wait_closed(TIMEOUT)
    assert not call.answered and not incoming.answered
    with pytest.raises(InvalidStateError):
        incoming.answer()
