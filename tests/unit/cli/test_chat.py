"""`artico-sync call` and `answer`, run as programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from artico_sync import ArticoServer, Call
from tests.command_line import artico_sync, terminal
from tests.conftest import TIME_UNIT, MakeArtico

pytestmark = pytest.mark.slow

LEAVING = 0.2 * TIME_UNIT
# Time for the interpreter to exit on a machine that runs other tests.
EXITING = 2.0 * TIME_UNIT
TIMEOUT = 20.0 * TIME_UNIT


def test_two_terminals_chat(server: ArticoServer) -> None:
    with artico_sync("answer", "--id", "bob", "--no-stun", url=server.url) as bob:
        bob.err.wait_for("waiting for a call to bob")
        with artico_sync(
            "call", "bob", "--no-stun", "--metadata", "dinner", url=server.url
        ) as alice:
            alice.err.wait_for("calling bob ...")
            alice.err.wait_for("connected in ")
            bob.err.wait_for("dinner")
            alice.type("hello\n")
            assert bob.out.wait_for("hello") == "hello"
            bob.type("größe \N{WAVING HAND SIGN}\n")
            assert alice.out.wait_for("gr") == "größe \N{WAVING HAND SIGN}"
            bob.end_input()
            assert bob.wait() == 0
            alice.err.wait_for("bob hung up")
            assert alice.wait() == 0
            # stdout carries the peer's messages only.
            assert alice.out.all() == ["größe \N{WAVING HAND SIGN}"]
        assert bob.out.all() == ["hello"]


def test_piped_input_is_delivered_before_hanging_up(
    server: ArticoServer, make_artico: MakeArtico
) -> None:
    bob = make_artico("bob")
    lines = [f"line {number} {'x' * 1000}" for number in range(3000)]
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer()
        alice.type("\n".join(lines))
        alice.end_input()
        assert list(call) == lines
        assert call.close_reason == "remote"
        assert alice.wait() == 0
        assert alice.out.all() == []


def test_blank_lines_and_windows_line_ends(server: ArticoServer, make_artico: MakeArtico) -> None:
    bob = make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer()
        alice.type("one\r\n\ntwo\n")
        alice.end_input()
        assert list(call) == ["one", "", "two"]


def upper(call: Call) -> None:
    call.on("data", lambda text: call.send(text.upper()))
    call.answer()


@pytest.mark.parametrize("options", [["--replies", "2"], ["--wait", f"{4 * TIME_UNIT:g}"]])
def test_waits_for_replies(
    server: ArticoServer, make_artico: MakeArtico, options: list[str]
) -> None:
    make_artico("bob").on("call", upper)
    with artico_sync("call", "bob", "--no-stun", *options, url=server.url) as alice:
        alice.type("one\ntwo\n")
        alice.end_input()
        assert alice.wait() == 0
        assert alice.out.all() == ["ONE", "TWO"]


def test_too_few_replies(server: ArticoServer, make_artico: MakeArtico) -> None:
    make_artico("bob").on("call", upper)
    arguments = ["call", "bob", "--no-stun", "--replies", "2", "--wait", f"{3 * TIME_UNIT:g}"]
    with artico_sync(*arguments, url=server.url) as alice:
        alice.type("one\n")
        alice.end_input()
        assert alice.wait() == 7
        assert alice.out.all() == ["ONE"]


def test_json_lines(server: ArticoServer, make_artico: MakeArtico) -> None:
    bob = make_artico("bob")

    @bob.on("call")
    def incoming(call: Call) -> None:
        call.answer().wait_open()
        call.send('a "quoted"\ntext')
        call.send(b"\0\1")
        call.hangup()

    with artico_sync("call", "bob", "--no-stun", "--json", url=server.url) as alice:
        assert alice.wait() == 0
        events = [json.loads(line) for line in alice.out.all()]
        assert alice.err.all() == []
    names = [event["event"] for event in events]
    assert names == ["connecting", "ready", "calling", "open", "data", "data", "close"]
    assert events[4]["data"] == 'a "quoted"\ntext'
    assert events[5]["base64"] == "AAE="
    assert events[6]["reason"] == "remote"


def test_nobody_there(server: ArticoServer) -> None:
    with artico_sync("call", "nobody", "--no-stun", url=server.url) as alice:
        assert alice.wait() == 4
        assert alice.err.all()[-1].startswith("artico-sync: ")


def test_rejected(server: ArticoServer, make_artico: MakeArtico) -> None:
    make_artico("bob").on("call", lambda call: call.hangup())
    with artico_sync("call", "bob", "--no-stun", "--json", url=server.url) as alice:
        assert alice.wait() == 5
        error = json.loads(alice.out.all()[-1])
        assert (error["event"], error["error"], error["status"]) == (
            "error",
            "CallRejectedError",
            5,
        )


def test_not_answered_in_time(server: ArticoServer, make_artico: MakeArtico) -> None:
    make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", "--timeout", "0.5", url=server.url) as alice:
        assert alice.wait() == 7
        assert "bob has not answered" in alice.err.all()[-1]


def test_nobody_calls_in_time(server: ArticoServer) -> None:
    with artico_sync("answer", "--no-stun", "--timeout", "0.5", url=server.url) as bob:
        assert bob.wait() == 7


def test_no_server() -> None:
    with artico_sync("call", "bob", "--no-stun", url="http://127.0.0.1:9") as alice:
        assert alice.wait() == 3
        assert len(alice.err.all()) == 2


def test_id_taken(server: ArticoServer, make_artico: MakeArtico) -> None:
    make_artico("bob")
    with artico_sync("answer", "--id", "bob", "--no-stun", url=server.url) as bob:
        assert bob.wait() == 3


def test_line_too_long(server: ArticoServer, make_artico: MakeArtico) -> None:
    bob = make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer()
        alice.type("x" * 300_000 + "\nshort\n")
        alice.end_input()
        assert list(call) == ["short"]
        assert alice.wait() == 8


def test_peer_gone_before_all_was_sent(server: ArticoServer, make_artico: MakeArtico) -> None:
    bob = make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer().wait_open()
        alice.type("first\n")
        assert call.recv(TIMEOUT) == "first"
        call.hangup()
        alice.err.wait_for("bob hung up")
        assert alice.wait() == 0


def test_a_caller_that_gives_up_is_not_the_last(
    server: ArticoServer, make_artico: MakeArtico
) -> None:
    with artico_sync("answer", "--id", "bob", "--no-stun", url=server.url) as bob:
        bob.err.wait_for("waiting")
        alice = make_artico("alice")
        # A peer that calls and closes at once: by the time it is answered, it is gone.
        alice.call("bob").hangup()
        with alice.call("bob") as call:
            call.send("now")
            bob.out.wait_for("now")
        bob.end_input()
        assert bob.wait() == 0


def test_a_second_caller_is_rejected(server: ArticoServer, make_artico: MakeArtico) -> None:
    with artico_sync("answer", "--id", "bob", "--no-stun", url=server.url) as bob:
        bob.err.wait_for("waiting")
        with make_artico("alice").call("bob"):
            bob.err.wait_for("connected")
            second = make_artico("carol").call("bob")
            second.wait_closed(TIMEOUT)
            assert second.close_reason == "rejected"
            bob.err.wait_for("busy")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_call_cleanly(
    server: ArticoServer, make_artico: MakeArtico, number: signal.Signals
) -> None:
    bob = make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer().wait_open()
        alice.err.wait_for("connected")
        status, seconds = alice.interrupt(number)
        assert status == 128 + number
        assert seconds < LEAVING + EXITING
        call.wait_closed(TIMEOUT)
        assert call.close_reason == "remote"
        assert "Traceback" not in "\n".join(alice.err.all())


def test_ctrl_c_while_calling_and_while_waiting(
    server: ArticoServer, make_artico: MakeArtico
) -> None:
    bob = make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        bob.wait_for("call", TIMEOUT)
        status, seconds = alice.interrupt()
        assert (status, seconds < LEAVING + EXITING) == (130, True)
        assert "Traceback" not in "\n".join(alice.err.all())
    with artico_sync("answer", "--no-stun", url=server.url) as carol:
        carol.err.wait_for("waiting")
        status, seconds = carol.interrupt()
        assert (status, seconds < LEAVING + EXITING) == (130, True)
        assert "Traceback" not in "\n".join(carol.err.all())


def test_whoever_reads_the_output_goes(server: ArticoServer, make_artico: MakeArtico) -> None:
    bob = make_artico("bob")
    with artico_sync("call", "bob", "--no-stun", url=server.url) as alice:
        call = bob.wait_for("call", TIMEOUT).answer().wait_open()
        assert alice.process.stdout is not None
        os.dup2(os.open(os.devnull, os.O_RDONLY), alice.process.stdout.fileno())
        # The read under way still gets one message; the next one meets a closed pipe.
        call.send("the last")
        assert alice.out.all() == ["the last"]
        call.send("nobody reads this")
        assert alice.wait() == 141
        assert "Traceback" not in "\n".join(alice.err.all())


def test_on_a_terminal(server: ArticoServer, make_artico: MakeArtico) -> None:
    bob = make_artico("bob")
    with (
        terminal() as (controller, terminal_end),
        artico_sync("call", "bob", "--no-stun", url=server.url, stdin=terminal_end) as alice,
    ):
        call = bob.wait_for("call", TIMEOUT).answer().wait_open()
        os.write(controller, b"typed\n")
        assert call.recv(TIMEOUT) == "typed"
        os.write(controller, b"\x04")
        assert alice.wait() == 0
        call.wait_closed(TIMEOUT)


def test_no_standard_input_at_all(server: ArticoServer, make_artico: MakeArtico) -> None:
    make_artico("bob").on("call", lambda call: call.answer())
    with artico_sync("call", "bob", "--no-stun", url=server.url, stdin=subprocess.DEVNULL) as alice:
        assert alice.wait() == 0


def test_only_listening(server: ArticoServer, make_artico: MakeArtico) -> None:
    with artico_sync("answer", "--id", "bob", "-n", "--no-stun", url=server.url) as bob:
        bob.err.wait_for("waiting")
        with make_artico("alice").call("bob") as call:
            call.send("one")
            call.send("two")
        assert bob.wait() == 0
        assert bob.out.all() == ["one", "two"]
