"""A receiver that does not read holds the sender: memory is bounded, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from artico_sync import ArticoServer, ArticoTimeoutError, Call
from tests.blocking import Blocked
from tests.conftest import TIME_UNIT, MakeArtico
from tests.faults.memory import MIB, resident_memory
from tests.faults.network import Ends, Network
from tests.faults.peer_process import PeerProcess
from tests.polling import wait_until

LIMIT = 30.0 * TIME_UNIT
BUFFER = MIB
# Beyond the buffers of both ends: data in flight, and data accepted beyond a closed window.
SLACK = 32 * MIB


def fill(call: Call, messages: list[str], until: float) -> int:
    """Send until there is no room for `until` seconds; how many went."""
    sent = 0
    for message in messages:
        try:
            call.send(message, timeout=until)
        except ArticoTimeoutError:
            break
        sent += 1
    return sent


@pytest.mark.parametrize("size", [40, 16_000, 262_144])
@pytest.mark.parametrize("direction", ["caller", "callee"])
def test_an_unread_call_holds_its_sender(network: Network, size: int, direction: str) -> None:
    ends = network.connect(send_buffer=BUFFER, receive_buffer=BUFFER)
    sender = ends.end(direction)
    receiver = ends.callee if direction == "caller" else ends.caller
    # Enough to fill the buffers many times.
    messages = [f"{number} ".ljust(size, "x") for number in range(min(64 * MIB // size, 40_000))]
    before = resident_memory()
    sent = fill(sender, messages, until=1.0 * TIME_UNIT)
    assert 0 < sent < len(messages), "the sender was not held"
    assert sent * size < 8 * BUFFER
    assert resident_memory() - before < SLACK
    stats = receiver.stats()
    assert stats["messages_received"] < sent
    with pytest.raises(ArticoTimeoutError):
        sender.flush(timeout=0)
    received = [receiver.recv(LIMIT) for _ in range(sent)]
    assert received == messages[:sent]
    sender.flush(LIMIT)
    sender.send("after")
    assert receiver.recv(LIMIT) == "after"


@pytest.mark.timeout(120 * TIME_UNIT)
@pytest.mark.parametrize("role", ["caller", "callee"])
def test_memory_of_both_processes_is_bounded_however_much_is_sent(
    server: ArticoServer, make_artico: MakeArtico, role: str
) -> None:
    """Memory stays bounded while the peer does not read, reads slowly, and reads at full speed."""
    # Garbage collection before each measurement may block a busy process for long.
    silence = 60.0
    rtco = make_artico("us", silence_timeout=silence)
    target = "us" if role == "caller" else None
    count, size = 2000, 100_000
    with PeerProcess(server.url, "them", target, silence_timeout=silence) as peer:
        peer.wait_for("ready")
        call = rtco.wait_for("call", LIMIT).answer() if target else rtco.call("them")
        call.wait_open(LIMIT)
        peer.wait_for("open")
        processes: tuple[int | str, ...] = ("self", peer.pid)
        before = [resident_memory(process) for process in processes]
        peer.order("flood", [count, size])
        settled(lambda: call.stats()["messages_received"])
        for number in range(count):
            assert call.recv(LIMIT) == f"{number} ".ljust(size, "x")
            # Not more often: the collection before each look holds up the whole process.
            if number % 100 == 0:
                grown = [resident_memory(p) - b for p, b in zip(processes, before, strict=True)]
                # The default buffers: 1 MiB to send, 4 MiB to receive.
                assert max(grown) < 5 * MIB + SLACK, grown
        peer.wait_for("flooded")


def settled(number: Callable[[], int]) -> None:
    """Wait until a number has not changed for a while."""
    last, since = number(), time.monotonic()

    def unchanged() -> bool:
        nonlocal last, since
        if number() != last:
            last, since = number(), time.monotonic()
        return time.monotonic() - since > 0.5 * TIME_UNIT

    wait_until(unchanged, "nothing more to come", LIMIT)


def test_a_held_sender_goes_on_when_reading_begins(network: Network) -> None:
    ends = network.connect(send_buffer=BUFFER, receive_buffer=BUFFER)
    messages = [f"{number} ".ljust(50_000, "x") for number in range(200)]

    def send_all() -> None:
        for message in messages:
            ends.caller.send(message)

    with Blocked(send_all):
        received = [ends.callee.recv(LIMIT) for _ in messages]
    assert received == messages


def test_a_slow_handler_counts_as_unread(network: Network) -> None:
    """Messages are the application's only when its handler has returned."""
    ends = network.connect(send_buffer=BUFFER, receive_buffer=BUFFER)
    entered, go_on = threading.Event(), threading.Event()
    received: list[str] = []

    def slow(message: str) -> None:
        entered.set()
        assert go_on.wait(LIMIT)
        received.append(message)

    ends.callee.on("data", slow)
    messages = [f"{number} ".ljust(100_000, "x") for number in range(400)]
    before = resident_memory()
    sent = fill(ends.caller, messages, until=1.0 * TIME_UNIT)
    assert entered.is_set()
    assert 0 < sent < len(messages), "the sender was not held"
    assert resident_memory() - before < SLACK
    assert not received
    done = threading.Event()
    ends.callee.on("data", lambda message: done.set() if len(received) == sent else None)
    go_on.set()
    assert done.wait(LIMIT)
    assert received == messages[:sent]


def test_one_unread_call_does_not_hold_another(network: Network) -> None:
    ends = network.connect(send_buffer=BUFFER, receive_buffer=BUFFER)
    fill(ends.caller, ["x" * 100_000] * 400, until=0.5 * TIME_UNIT)
    other = ends.alice.call("bob")
    answered = ends.bob.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    other.wait_open(LIMIT).send("free")
    assert answered.recv(LIMIT) == "free"


@pytest.mark.parametrize("wait", ["send", "flush"])
@pytest.mark.parametrize("ending", ["hangup", "remote", "close"])
def test_a_held_sender_learns_of_the_end(network: Network, wait: str, ending: str) -> None:
    """No wait for a reader outlives the call."""
    ends: Ends = network.connect(send_buffer=BUFFER, receive_buffer=BUFFER)
    fill(ends.caller, ["x" * 100_000] * 400, until=0.5 * TIME_UNIT)

    def hold() -> Any:
        if wait == "flush":
            return ends.caller.flush()
        while True:
            ends.caller.send("x" * 100_000)

    ends.caller.on("error", lambda error: None)
    with Blocked(hold) as held:
        if ending == "hangup":
            with pytest.raises(ArticoTimeoutError):
                ends.caller.hangup(timeout=0)
        elif ending == "remote":
            ends.callee.hangup(timeout=5)
        else:
            ends.alice.close(timeout=0.1)
    with pytest.raises(Exception, match="hung up"):
        held.result()
