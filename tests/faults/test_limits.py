"""Each limit of the settings holds, and a client beyond one of them keeps working."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from artico_sync import Call, MessageTooLargeError
from artico_sync._bridge.events.mailbox import PENDING_LIMIT
from artico_sync._protocol.settings import Settings
from artico_sync._protocol.token_bucket import TokenBuckets
from tests.fuzz.test_signals import CHROMIUM
from tests.fuzz.victim import LIMIT, Victim
from tests.polling import wait_until

OFFER: dict[str, Any] = {"type": "sdp", "data": {"type": "offer", "sdp": CHROMIUM}}


def ring(victim: Victim, count: int) -> int:
    """Place `count` calls; return how many rang."""
    for number in range(count):
        victim.signal(OFFER, f"call:{number:010}")
    victim.check()
    return len(victim.new_calls())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "calls"),
    [
        ("maximum_ringing", 5),
        ("maximum_ringing_per_peer", 5),
        # Two calls are open already.
        ("maximum_sessions", 7),
    ],
)
def test_calls(limit: str, calls: int) -> None:
    with Victim(**{limit: calls}, ring_timeout=60.0) as victim:
        assert ring(victim, 30) == 5
        # Those that ring can still be answered and rejected, and make room.
        for call in victim.victim.calls:
            if call.target == "mallory" and not call.open:
                call.reject()
        victim.check()
        for number in range(3):
            victim.signal(OFFER, f"call:again{number}")
        victim.check()
        assert len(victim.new_calls()) == 3


@pytest.mark.slow
def test_by_default_a_peer_rings_64_times_at_most() -> None:
    with Victim(ring_timeout=60.0) as victim:
        assert ring(victim, 200) == 64


@pytest.mark.slow
def test_an_unanswered_call_ends() -> None:
    with Victim(ring_timeout=3.0) as victim:
        assert ring(victim, 3) == 3
        deadline = time.monotonic() + LIMIT
        while len(victim.victim.calls) > 2:
            assert time.monotonic() < deadline
            victim.check()


@pytest.mark.slow
def test_signals_a_second(caplog: pytest.LogCaptureFixture) -> None:
    start = time.monotonic()
    with Victim(signals_per_second=1.0, signals_burst=50) as victim:
        rang = ring(victim, 200)
        # The burst, and one more for each second it took.
        assert rang <= 50 + time.monotonic() - start
        assert "more than its share" in caplog.text
        # One peer's flood is not another one's.
        call = victim._friend.call("victim")
        victim.victim.wait_for("call", LIMIT).answer().wait_open(LIMIT)
        call.wait_open(LIMIT)


@pytest.mark.slow
def test_malformed_signals_count_as_well(caplog: pytest.LogCaptureFixture) -> None:
    start = time.monotonic()
    with Victim(signals_per_second=1.0, signals_burst=50) as victim:
        for _ in range(200):
            victim.mallory.send_raw({"target": "victim", "session": 5, "signal": {}})
        victim.check()
        malformed = [r for r in caplog.records if "malformed" in r.getMessage()]
        assert 0 < len(malformed) <= 50 + time.monotonic() - start


def test_peers_that_send_are_forgotten() -> None:
    buckets = TokenBuckets(1.0, 1, maximum=4096)
    assert all(buckets.try_acquire(f"{number}") for number in range(10_000))
    assert len(buckets._buckets) <= 4096


@pytest.mark.slow
@pytest.mark.parametrize(
    "sdp",
    [
        CHROMIUM + "a=x\r\n" * 200_000,
        CHROMIUM + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 300,
    ],
    ids=["length", "m-lines"],
)
def test_descriptions(sdp: str, caplog: pytest.LogCaptureFixture) -> None:
    with Victim() as victim:
        victim.signal({"type": "sdp", "data": {"type": "offer", "sdp": sdp}}, "call:large")
        victim.check()
        assert victim.new_calls() == []
        assert "more than" in caplog.text


@pytest.mark.slow
def test_calls_that_come_and_go_while_a_handler_is_busy() -> None:
    limits = {"maximum_ringing_per_peer": 1, "maximum_ringing": 1, "signals_burst": 10_000}
    entered, go_on = threading.Event(), threading.Event()
    seen: list[Call] = []

    def busy(call: Call) -> None:
        seen.append(call)
        entered.set()
        assert go_on.wait(10 * LIMIT)

    with Victim(**limits, ring_timeout=60.0) as victim:
        victim.victim.on("call", busy)
        try:
            for number in range(PENDING_LIMIT + 100):
                session = f"call:{number:010}"
                victim.signal(OFFER, session)
                victim.signal({"type": "bye", "agent": "artico_sync"}, session)
                if number % 100 == 0:
                    victim.check()
            assert entered.wait(LIMIT)
            victim.check()
            assert victim.victim._bridge.mailbox.pending_count("call") <= PENDING_LIMIT
        finally:
            go_on.set()
        # The newest are among those that were not dropped.
        wait_until(lambda: seen[-1].session == session, "the last call", LIMIT)


@pytest.mark.slow
def test_signals_of_a_call_that_rings() -> None:
    with Victim(ring_timeout=60.0, maximum_buffered_signals=20) as victim:
        victim.signal(OFFER, "call:many")
        for _ in range(500):
            victim.signal({"type": "candidate", "data": {"candidate": "x" * 1000}}, "call:many")
        victim.check()
        (call,) = victim.new_calls()
        session = call._bridge.engine
        assert session is not None and 0 < len(session.inbox) <= 20


@pytest.mark.slow
def test_characters_of_a_call_that_rings(caplog: pytest.LogCaptureFixture) -> None:
    padding = "x" * 50_000
    with Victim(ring_timeout=60.0) as victim:
        victim.signal(OFFER, "call:padded")
        for _ in range(200):
            victim.signal({"type": "candidate", "data": None, "pad": padding}, "call:padded")
        for _ in range(20):
            victim.signal({**OFFER, "data": {**OFFER["data"], "pad": padding}}, "call:padded")
        victim.check()
        (padded,) = victim.new_calls()
        # Unknown members are not stored, and so do not count.
        session = padded._bridge.engine
        assert session is not None and len(session.inbox) == 221
        assert session.inbox.characters < 22 * (len(CHROMIUM) + 100)
        assert "too many signals" not in caplog.text
        large = {"type": "offer", "sdp": CHROMIUM + padding * 10}
        for _ in range(20):
            victim.signal({"type": "sdp", "data": large}, "call:large")
        victim.check()
        (call,) = victim.new_calls()
        session = call._bridge.engine
        assert session is not None and len(session.inbox) == 2
        assert session.inbox.characters <= Settings().maximum_buffered_characters
        assert "too many signals" in caplog.text


@pytest.mark.slow
def test_a_call_that_rings_long_and_offers_much_is_answered() -> None:
    """Room for the signals of a browser with many tracks and networks before the answer."""
    sdp = CHROMIUM + "a=x-more:0123456789\r\n" * 500
    text = "candidate:1 1 udp 1 127.0.0.1 {} typ host generation 0 ufrag aBcD network-id 1"
    with Victim(ring_timeout=60.0) as victim:
        victim.signal({"type": "sdp", "data": {"type": "offer", "sdp": sdp}}, "call:long")
        for port in range(1000, 1150):
            data = {"candidate": text.format(port), "sdpMid": "0", "sdpMLineIndex": 0}
            victim.signal({"type": "candidate", "data": data}, "call:long")
        victim.check()
        (call,) = victim.new_calls()
        session = call._bridge.engine
        assert session is not None and len(session.inbox) == 151
        call.answer()
        wait_until(
            lambda: not len(session.inbox) and not session.inbox.characters,
            "the signals to be applied",
            LIMIT,
        )


@pytest.mark.slow
def test_candidates() -> None:
    with Victim(maximum_candidates=10) as victim:
        for port in range(1000, 1300):
            text = f"candidate:1 1 udp 1 127.0.0.1 {port} typ host"
            victim.signal({"type": "candidate", "data": {"candidate": text, "sdpMid": "0"}})
        victim.check()
        session = victim.victims_call._bridge.engine
        assert session is not None and session.connection is not None
        connection = session.connection.ice_transport.agent
        assert len(connection.known_remote_candidates) <= 10


@pytest.mark.slow
def test_messages() -> None:
    with Victim() as victim:
        limit = Settings().maximum_message
        with pytest.raises(MessageTooLargeError):
            victim.call.send("x" * (limit + 1))
        # A sender that ignores the announced limit has no success either.
        victim.victims_call.off("data")
        victim.call._bridge._send_buffer.maximum_message = 0
        victim.call.send("x" * (limit + 1))
        victim.call.send("after")
        assert victim.victims_call.recv(LIMIT) == "after"


@pytest.mark.slow
def test_calls_that_are_over_are_forgotten_in_the_end() -> None:
    with Victim(remembered_sessions=10, maximum_ringing_per_peer=100) as victim:
        for number in range(50):
            victim.signal(OFFER, f"call:{number}")
            victim.check()
            for call in victim.new_calls():
                call.reject()
        client = victim.victim._bridge._client
        assert client is not None
        assert len(client._finished) <= 10
