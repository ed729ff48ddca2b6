"""JSON messages, rejecting with a reason, ring timeouts and statistics of calls."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from artico_sync import (
    Call,
    CallRejectedError,
    InvalidStateError,
    MediaStream,
    PeerUnavailableError,
)
from tests.blocking import Blocked
from tests.conftest import MakeArtico

TIMEOUT = 10


def open_pair(make_artico: MakeArtico) -> tuple[Call, Call]:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id, "<b>hello</b>")
    incoming = bob.wait_for("call", TIMEOUT).answer()
    return call.wait_open(TIMEOUT), incoming.wait_open(TIMEOUT)


def test_json_both_ways(make_artico: MakeArtico) -> None:
    call, incoming = open_pair(make_artico)
    values: list[Any] = [{"a": [1, 2.5, None, True]}, "text", 5, None, [], {"ü": "\U0001f600"}]
    for value in values:
        call.send_json(value)
        assert incoming.recv_json(TIMEOUT) == value
    call.send("no json")
    with pytest.raises(ValueError, match="Expecting value"):
        incoming.recv_json(TIMEOUT)
    for bad, error in ((float("nan"), ValueError), ({1, 2}, TypeError)):
        with pytest.raises(error):
            call.send_json(bad)


def test_rejecting_in_words(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT)
    with Blocked(call.wait_open) as waiting:
        incoming.reject("at lunch")
    with pytest.raises(CallRejectedError, match="at lunch"):
        waiting.result()
    assert (call.close_reason, incoming.close_reason) == ("rejected", "hangup")
    with pytest.raises(InvalidStateError):
        incoming.reject()


def test_rejecting_wrongly(make_artico: MakeArtico) -> None:
    call, incoming = open_pair(make_artico)
    for either in (call, incoming):
        with pytest.raises(InvalidStateError, match="not been answered"):
            either.reject()
    wrong: Any = 5
    with pytest.raises(TypeError):
        incoming.reject(wrong)
    assert call.open


@pytest.mark.slow
def test_ringing_ends_at_the_callers_limit(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(ring_timeout=2.0), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT)
    with pytest.raises(PeerUnavailableError, match="nobody answered"):
        call.wait_open(TIMEOUT)
    incoming.wait_closed(TIMEOUT)
    assert (call.close_reason, incoming.close_reason) == ("unavailable", "remote")


@pytest.mark.slow
def test_ringing_ends_at_the_callees_limit(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico(ring_timeout=2.0)
    with pytest.raises(CallRejectedError, match="nobody answered"):
        alice.call(bob.id).wait_open(TIMEOUT)


@pytest.mark.slow
def test_an_answered_call_outlives_the_ringing_limit(make_artico: MakeArtico) -> None:
    alice, bob = make_artico(ring_timeout=4.0), make_artico(ring_timeout=4.0)
    call = alice.call(bob.id)
    bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    with pytest.raises(TimeoutError):
        call.wait_closed(4.5)
    assert call.open


def test_watched_statistics(make_artico: MakeArtico) -> None:
    call, incoming = open_pair(make_artico)
    seen: list[dict[str, Any]] = []
    enough = threading.Event()

    @call.on("stats")
    def collect(stats: dict[str, Any]) -> None:
        seen.append(stats)
        if len(seen) == 3:
            enough.set()

    incoming.send("x" * 100)
    assert call.recv(TIMEOUT) == "x" * 100
    call.watch_stats(0.05)
    assert enough.wait(TIMEOUT)
    call.hangup()
    history = call.stats_history()
    assert len(history) >= 3
    assert history[-1]["bytes_received"] == 100
    assert all(not isinstance(value, (dict, list)) for row in history for value in row.values())
    assert [row["time"] for row in history] == sorted(row["time"] for row in history)


@pytest.mark.parametrize(
    ("interval", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_bad_intervals_are_refused(
    make_artico: MakeArtico, interval: Any, error: type[Exception]
) -> None:
    call, _ = open_pair(make_artico)
    with pytest.raises(error):
        call.watch_stats(interval)


def test_html_shows_and_escapes(make_artico: MakeArtico) -> None:
    alice, bob = make_artico("<alice>"), make_artico()
    call = alice.call(bob.id, "<b>bold</b>")
    bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    assert "&lt;alice&gt;" in alice._repr_html_() and "ready" in alice._repr_html_()
    assert "&lt;b&gt;bold&lt;/b&gt;" in call._repr_html_() and bob.id in call._repr_html_()
    stats = call.stats()
    assert type(stats).__mro__[1] is dict and "round_trip_time" in stats._repr_html_()
    assert "<table" in MediaStream()._repr_html_()
