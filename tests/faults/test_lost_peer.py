"""A peer that is killed, cut off or asleep: the call ends, or lives on, as documented."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    Call,
    CallClosedError,
    ConnectionFailedError,
)
from artico_sync.server.server import ServerLimits
from tests.blocking import Blocked
from tests.conftest import TIME_UNIT, MakeArtico
from tests.faults.namespaces import SERVER_APART, Cables, serving
from tests.faults.network import Network
from tests.faults.peer_process import PeerProcess

LIMIT = 30.0 * TIME_UNIT
#: Seconds of silence, in place of the default of 6.
SILENCE = 1.5 * TIME_UNIT
#: Seconds that a busy machine may add to it.
LATE = 3.0 * TIME_UNIT
# Seconds that a busy machine may add to a silence just below the limit.
PATIENCE = TIME_UNIT - 1.0
ROLES = pytest.mark.parametrize("role", ["caller", "callee"])


@contextmanager
def call_with_process(
    server: ArticoServer, make_artico: MakeArtico, role: str, silence: float
) -> Iterator[tuple[Call, PeerProcess]]:
    """An open call with another process, as the caller or the callee."""
    rtco = make_artico("us", silence_timeout=silence)
    target = "us" if role == "callee" else None
    with PeerProcess(server.url, "them", target, silence_timeout=silence) as peer:
        peer.wait_for("ready")
        if role == "caller":
            call = rtco.call("them")
        else:
            call = rtco.wait_for("call", LIMIT).answer()
        call.wait_open(LIMIT)
        peer.wait_for("open")
        yield call, peer


@ROLES
def test_a_killed_process(server: ArticoServer, make_artico: MakeArtico, role: str) -> None:
    with call_with_process(server, make_artico, role, SILENCE) as (call, peer):
        with Blocked(call.recv) as waiting:
            begun = time.monotonic()
            peer.kill()
            call.wait_closed(LIMIT)
        assert time.monotonic() - begun < SILENCE + LATE
    assert call.close_reason == "failed"
    with pytest.raises(ConnectionFailedError):
        waiting.result()
    with pytest.raises(CallClosedError):
        call.send("too late")


def ringing_call(rtco: Artico, peer: PeerProcess, role: str) -> Call:
    """A call with the other process that is still ringing."""
    if role == "callee":
        return rtco.wait_for("call", LIMIT)
    call = rtco.call("them")
    peer.wait_for("ringing")
    return call


@ROLES
def test_a_process_killed_while_it_rings(make_artico: MakeArtico, role: str) -> None:
    """Only the server can report the loss."""
    limits = ServerLimits(absence_timeout=0.5)
    with ArticoServer(port=0, limits=limits) as server:
        rtco = make_artico("us", url=server.url)
        target = "us" if role == "callee" else None
        with PeerProcess(server.url, "them", target, answer=False) as peer:
            peer.wait_for("ready")
            call = ringing_call(rtco, peer, role)
            with Blocked(lambda: call.wait_open(None)) as waiting:
                begun = time.monotonic()
                peer.kill()
                call.wait_closed(LIMIT)
            assert time.monotonic() - begun < 0.5 + LATE
            with pytest.raises(CallClosedError, match="left"):
                waiting.result()
            assert call.close_reason == ("unavailable" if role == "caller" else "remote")
            rtco.close()


@ROLES
def test_a_process_that_is_started_again_does_not_ring_on(
    server: ArticoServer, make_artico: MakeArtico, role: str
) -> None:
    """The new one has the id of the old one, which is known to be gone by that."""
    rtco = make_artico("us")
    target = "us" if role == "callee" else None
    with PeerProcess(server.url, "them", target, answer=False) as peer:
        peer.wait_for("ready")
        call = ringing_call(rtco, peer, role)
        peer.kill()
    with PeerProcess(server.url, "them") as peer:
        peer.wait_for("ready")
        call.wait_closed(LIMIT)
        assert call.close_reason == ("unavailable" if role == "caller" else "remote")
        rtco.call("them").wait_open(LIMIT)


@ROLES
@pytest.mark.parametrize("waited", [0.8, 3.0, 4.6])
def test_a_process_that_sleeps_for_a_while_keeps_its_call(
    server: ArticoServer,
    make_artico: MakeArtico,
    caplog: pytest.LogCaptureFixture,
    role: str,
    waited: float,
) -> None:
    """Another path is searched during the sleep, and the process finds two offers when it wakes."""
    with call_with_process(server, make_artico, role, 6.0 + PATIENCE) as (call, peer):
        peer.stop()
        call.send("while asleep")
        time.sleep(waited)  # how long it sleeps is the point
        peer.go_on()
        assert peer.wait_for("data") == "while asleep"
        peer.order("send", "awake")
        assert call.recv(LIMIT) == "awake"
        # Whatever the silence has set off comes to its end, and the call is as good as before.
        call.send("still there?")
        assert peer.wait_for("data") == "still there?"
        peer.order("hangup")
        call.wait_closed(LIMIT)
        assert call.close_reason == "remote"
    assert "dropped a signal" not in caplog.text


@ROLES
def test_a_process_that_sleeps_for_long_loses_its_call(
    server: ArticoServer, make_artico: MakeArtico, role: str
) -> None:
    with call_with_process(server, make_artico, role, SILENCE) as (call, peer):
        begun = time.monotonic()
        peer.stop()
        call.wait_closed(LIMIT)
        assert time.monotonic() - begun < SILENCE + LATE
        assert call.close_reason == "failed"
        # The other side learns of it when it wakes up.
        peer.go_on()
        assert peer.wait_for("close") in ("failed", "remote")


@pytest.mark.net
@ROLES
@pytest.mark.parametrize("for_good", [False, True], ids=["for a moment", "for good"])
def test_a_cable_that_is_pulled(role: str, for_good: bool) -> None:
    """After a short cut the messages arrive; after a lasting one both calls end as failed."""
    silence = 3.0 if for_good else 9.0
    with Cables() as cables, serving(cables, SERVER_APART) as url:
        here, there = cables.host(), cables.host()
        here.add_address("10.199.0.11")
        there.add_address("10.199.0.12")
        with PeerProcess(url, "callee", prefix=there.prefix, silence_timeout=silence) as callee:
            callee.wait_for("ready")
            with PeerProcess(
                url, "caller", "callee", prefix=here.prefix, silence_timeout=silence
            ) as caller:
                caller.wait_for("open")
                callee.wait_for("open")
                (here if role == "caller" else there).pull_cable()
                caller.order("send", "from the caller")
                callee.order("send", "from the callee")
                if for_good:
                    begun = time.monotonic()
                    assert caller.wait_for("close") == callee.wait_for("close") == "failed"
                    assert time.monotonic() - begun < silence + LATE
                    return
                time.sleep(3.0)  # the duration of the cut
                (here if role == "caller" else there).plug_in()
                assert callee.wait_for("data") == "from the caller"
                assert caller.wait_for("data") == "from the callee"


@ROLES
def test_a_path_that_is_cut_ends_the_call_on_both_sides(network: Network, role: str) -> None:
    relay = network.relay()
    ends = network.connect(relay, silence_timeout=SILENCE)
    end = ends.end(role)
    with Blocked(end.recv) as waiting:
        begun = time.monotonic()
        relay.cut()
        ends.caller.wait_closed(LIMIT)
        ends.callee.wait_closed(LIMIT)
    assert time.monotonic() - begun < SILENCE + LATE
    assert (ends.caller.close_reason, ends.callee.close_reason) == ("failed", "failed")
    with pytest.raises(ConnectionFailedError):
        waiting.result()


def test_by_default_a_path_that_is_cut_is_noticed_within_six_seconds(network: Network) -> None:
    relay = network.relay()
    ends = network.connect(relay)
    begun = time.monotonic()
    relay.cut()
    for end in (ends.caller, ends.callee):
        end.wait_closed(LIMIT)
        # Up to a second of the 6 may have been silent already, more on a busy machine.
        assert 3 < time.monotonic() - begun < 6 + LATE
        assert end.close_reason == "failed"


@pytest.mark.parametrize(("silence", "cut"), [(6.0, 5.0), (3.0, 2.0)])
def test_a_path_that_comes_back_keeps_the_call_and_loses_nothing(
    network: Network, silence: float, cut: float
) -> None:
    relay = network.relay()
    ends = network.connect(relay, silence_timeout=silence + PATIENCE)
    messages = [f"{number}" for number in range(200)]
    begun = time.monotonic()
    relay.cut()
    for message in messages:
        ends.caller.send(message)
        ends.callee.send(message)
    # The test is about the duration of the cut.
    time.sleep(max(0.0, cut - (time.monotonic() - begun)))
    relay.restore()
    for end in (ends.caller, ends.callee):
        assert [end.recv(LIMIT) for _ in messages] == messages
    ends.caller.send("and on")
    assert ends.callee.recv(LIMIT) == "and on"
    assert ends.caller.open and ends.callee.open


@ROLES
def test_a_path_that_is_never_there_fails_the_call(network: Network, role: str) -> None:
    """Signaling works, but packets are lost."""
    relay = network.relay(loss=1.0)
    alice, bob, _ = network.clients(relay, connect_timeout=1.0)
    call = alice.call("bob")
    answered = bob.wait_for("call", LIMIT).answer()
    end = call if role == "caller" else answered
    with pytest.raises(ConnectionFailedError):
        end.wait_open(LIMIT)
    for one in (call, answered):
        one.wait_closed(LIMIT)
        assert one.close_reason == "failed"
