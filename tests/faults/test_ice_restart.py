"""A call whose network path changes continues over another path, without a new connection."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import pytest

from artico_sync.signaling import Message
from tests.conftest import TIME_UNIT
from tests.faults.namespaces import SERVER, SERVER_APART, Cables, serving
from tests.faults.network import Ends, Network
from tests.faults.peer_process import PeerProcess

LIMIT = 30.0 * TIME_UNIT


def is_description(message: Message, kind: str) -> bool:
    data = message["signal"].get("data")
    return isinstance(data, dict) and data.get("type") == kind


def is_offer(message: Message) -> bool:
    return is_description(message, "offer")


def note_offers(ends: Ends) -> set[str]:
    """Record which peer makes offers from now on."""
    offered: set[str] = set()

    def note(role: str, message: Message) -> Message:
        if is_offer(message):
            offered.add(role)
        return message

    ends.signals.alices.filter = functools.partial(note, "caller")
    ends.signals.bobs.filter = functools.partial(note, "callee")
    return offered


def assert_usable(ends: Ends) -> None:
    for sender, receiver in ((ends.caller, ends.callee), (ends.callee, ends.caller)):
        sender.send("over the new path")
        assert receiver.recv(LIMIT) == "over the new path"


def remote_port(ends: Ends) -> Any:
    return ends.caller.stats()["remote"]["port"]


@pytest.mark.parametrize("offered_by", ["caller", "callee", "both"])
def test_a_call_goes_over_to_another_path(network: Network, offered_by: str) -> None:
    """One path dies, another one is there; no message sent during the change is lost."""
    first, second = network.relay(), network.relay(delay=0.005)
    # The peer that must not notice the silence has a much longer timeout.
    silence = {role: 6.0 if offered_by in (role, "both") else 60.0 for role in ("caller", "callee")}
    ends = network.connect(
        first,
        silence_timeout=silence["caller"],
        bobs={"silence_timeout": silence["callee"]},
    )
    offered = note_offers(ends)
    before = remote_port(ends)
    ends.signals.use(second)
    first.cut()
    begun = time.monotonic()
    messages = [f"{number}" for number in range(100)]
    for message in messages:
        ends.caller.send(message)
        ends.callee.send(message)
    for end in (ends.caller, ends.callee):
        assert [end.recv(LIMIT) for _ in messages] == messages
    assert time.monotonic() - begun < 6 + 2 * TIME_UNIT
    assert offered and offered <= {role for role in silence if silence[role] == 6.0}
    assert remote_port(ends) != before
    assert_usable(ends)
    assert (ends.caller.close_reason, ends.callee.close_reason) == (None, None)


def test_a_call_survives_path_after_path(network: Network) -> None:
    relays = [network.relay() for _ in range(3)]
    ends = network.connect(relays[0], silence_timeout=4.0)
    for old, new in zip(relays, relays[1:]):
        ends.signals.use(new)
        old.cut()
        ends.caller.send("here?")
        assert ends.callee.recv(LIMIT) == "here?"
        assert_usable(ends)


def test_a_restart_that_is_not_answered_in_time_is_offered_again(network: Network) -> None:
    """The first offers of it are lost with the path; the next finds the peer."""
    first, second = network.relay(), network.relay()
    ends = network.connect(first, silence_timeout=9.0)
    lost: list[Message] = []

    def lose_first(message: Message) -> Message | None:
        if is_offer(message) and not lost:
            lost.append(message)
            return None
        return message

    def lose_all(message: Message) -> Message | None:
        return None if is_offer(message) else message

    ends.signals.alices.filter, ends.signals.bobs.filter = lose_first, lose_all
    ends.signals.use(second)
    first.cut()
    ends.caller.send("found?")
    assert ends.callee.recv(LIMIT) == "found?"
    assert lost
    assert_usable(ends)


def test_no_restart_that_finds_nothing_ends_a_call_early(network: Network) -> None:
    """The old path is back before another one was found."""
    first, nowhere = network.relay(), network.relay(loss=1.0)
    ends = network.connect(first)
    begun = threading.Event()

    def note(message: Message) -> Message:
        if is_description(message, "answer"):
            begun.set()
        return message

    ends.signals.alices.filter = ends.signals.bobs.filter = note
    ends.signals.use(nowhere)
    first.cut()
    assert begun.wait(LIMIT)
    ends.signals.use(first)
    first.restore()
    assert_usable(ends)
    assert_usable(ends)


@pytest.mark.net
@pytest.mark.parametrize(
    ("server", "gap"), [(SERVER_APART, 0.0), (SERVER_APART, 3.0), (SERVER, 0.0), (SERVER, 1.0)]
)
@pytest.mark.parametrize("moves", ["caller", "callee"])
def test_an_address_goes_and_another_comes(moves: str, server: str, gap: float) -> None:
    """A laptop changes networks. If the server is reached over the same network, that connection is
    lost as well."""
    with Cables() as cables, serving(cables, server) as url:
        here, there = cables.host(), cables.host()
        here.add_address("10.199.0.11")
        there.add_address("10.199.0.12")
        callee_host, caller_host = (there, here) if moves == "caller" else (here, there)
        with PeerProcess(url, "callee", prefix=callee_host.prefix) as callee:
            callee.wait_for("ready")
            with PeerProcess(url, "caller", "callee", prefix=caller_host.prefix) as caller:
                caller.wait_for("open")
                callee.wait_for("open")
                here.remove_address("10.199.0.11")
                caller.order("send", "from the caller")
                callee.order("send", "from the callee")
                time.sleep(gap)  # how long there is no network is the point
                here.add_address("10.199.0.21")
                assert callee.wait_for("data", LIMIT) == "from the caller"
                assert caller.wait_for("data", LIMIT) == "from the callee"
                mover = caller if moves == "caller" else callee
                mover.order("stats")
                assert mover.wait_for("stats")["local"]["address"] == "10.199.0.21"
                caller.order("hangup")
                assert callee.wait_for("close") == "remote"
