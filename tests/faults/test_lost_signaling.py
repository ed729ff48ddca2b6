"""The signaling server is lost and comes back, at each moment of a call's life."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    CallClosedError,
    CallRejectedError,
    MediaStream,
    NotReadyError,
    VideoTrack,
)
from tests.blocking import Blocked
from tests.conftest import RTC_CONFIG, TIME_UNIT
from tests.polling import wait_until

LIMIT = 30.0 * TIME_UNIT


class Outage:
    """A server that can go and come back on the same port, and two clients of it."""

    def __init__(self) -> None:
        self._server = ArticoServer(port=0).start()
        self._port = int(self._server.url.rsplit(":", 1)[1])
        self.alice = self._client("alice")
        self.bob = self._client("bob")

    def _client(self, id: str) -> Artico:
        return Artico(self._server.url, id=id, rtc_config=dict(RTC_CONFIG)).connect()

    def begin(self) -> None:
        """Stop the server; returns when both clients have noticed."""
        self._server.stop()
        for rtco in (self.alice, self.bob):
            wait_until(lambda: rtco.state != "ready", "the loss", LIMIT)

    def end(self, *, wait: bool = True) -> None:
        """Start it again; returns when both clients are back."""
        self._server = ArticoServer(port=self._port).start()
        if wait:
            for rtco in (self.alice, self.bob):
                rtco.connect(LIMIT)

    def ring(self) -> tuple[Call, Call]:
        call = self.alice.call("bob", "hello")
        return call, self.bob.wait_for("call", LIMIT)

    def talk(self) -> tuple[Call, Call]:
        call, incoming = self.ring()
        incoming.answer().wait_open(LIMIT)
        return call.wait_open(LIMIT), incoming

    def close(self) -> None:
        self.alice.close()
        self.bob.close()
        self._server.stop()


@pytest.fixture
def outage() -> Iterator[Outage]:
    made = Outage()
    yield made
    made.close()


def assert_usable(caller: Call, callee: Call) -> None:
    for sender, receiver in ((caller, callee), (callee, caller)):
        sender.send("hello")
        assert receiver.recv(LIMIT) == "hello"


def test_before_the_call_reached_the_server(outage: Outage) -> None:
    """Placed at the very moment of the loss: it is placed when the server is back."""
    outage.begin()
    with pytest.raises(NotReadyError):
        outage.alice.call("bob")
    outage.end()
    assert_usable(*outage.talk())


@pytest.mark.parametrize("answered", ["during", "after"])
def test_while_ringing(outage: Outage, answered: str) -> None:
    call, incoming = outage.ring()
    with Blocked(lambda: call.wait_open(LIMIT)) as opening:
        outage.begin()
        if answered == "during":
            incoming.answer()
        with pytest.raises(ArticoTimeoutError):
            incoming.wait_open(timeout=0.1)
        outage.end()
        if answered == "after":
            incoming.answer()
        incoming.wait_open(LIMIT)
    assert opening.result() is call
    assert_usable(call, incoming)


def test_rejected_during_the_outage(outage: Outage) -> None:
    call, incoming = outage.ring()
    outage.begin()
    incoming.hangup()
    assert incoming.close_reason == "hangup"
    assert not call.closed
    outage.end()
    with pytest.raises(CallRejectedError):
        call.wait_open(LIMIT)


def test_given_up_during_the_outage(outage: Outage) -> None:
    """The caller hangs up a call that rings; the callee learns of it after the return."""
    call, incoming = outage.ring()
    outage.begin()
    call.hangup()
    assert call.close_reason == "hangup"
    assert not incoming.closed
    outage.end()
    incoming.wait_closed(LIMIT)
    assert incoming.close_reason == "remote"


def test_while_negotiating(outage: Outage) -> None:
    """Lost right after the answer, which may or may not have passed the server."""
    call, incoming = outage.ring()
    incoming.answer()
    outage.begin()
    outage.end()
    incoming.wait_open(LIMIT)
    call.wait_open(LIMIT)
    assert_usable(call, incoming)


def test_while_open(outage: Outage) -> None:
    caller, callee = outage.talk()
    outage.begin()
    assert_usable(caller, callee)
    assert caller.open and callee.open
    outage.end()
    assert_usable(caller, callee)
    # The ids are the same, and new calls find them.
    assert_usable(*outage.talk())


@pytest.mark.parametrize("shared_by", ["caller", "callee", "both"])
def test_tracks_shared_during_the_outage_arrive_after_it(outage: Outage, shared_by: str) -> None:
    caller, callee = outage.talk()
    outage.begin()
    tracks = []
    for role, end in (("caller", caller), ("callee", callee)):
        if shared_by in (role, "both"):
            track = VideoTrack()
            tracks.append(track)
            end.add_stream(MediaStream([track]), role)
    for role, end in (("caller", callee), ("callee", caller)):
        if shared_by in (role, "both"):
            with pytest.raises(ArticoTimeoutError):
                end.wait_for("stream", timeout=0.3)
    outage.end()
    for role, end in (("caller", callee), ("callee", caller)):
        if shared_by in (role, "both"):
            assert end.wait_for("stream", LIMIT).metadata == role
    assert_usable(caller, callee)
    for track in tracks:
        track.stop()


def test_shared_and_unshared_during_the_outage(outage: Outage) -> None:
    """A stream that is unshared before the return is never announced."""
    caller, callee = outage.talk()
    first, second = (MediaStream([VideoTrack()]) for _ in range(2))
    outage.begin()
    caller.add_stream(first, "first")
    caller.remove_stream(first)
    caller.add_stream(second, "second")
    outage.end()
    assert callee.wait_for("stream", LIMIT).id == second.id
    for stream in (first, second):
        stream.stop()


def test_lost_while_renegotiating(outage: Outage) -> None:
    """The offer or its answer goes down with the server."""
    caller, callee = outage.talk()
    streams = [MediaStream([VideoTrack()]) for _ in range(3)]
    caller.add_stream(streams[0], "0")
    outage.begin()
    caller.add_stream(streams[1], "1")
    outage.end()
    caller.add_stream(streams[2], "2")
    assert {callee.wait_for("stream", LIMIT).id for _ in streams} == {s.id for s in streams}
    for stream in streams:
        stream.stop()


@pytest.mark.parametrize("role", ["caller", "callee"])
def test_hanging_up_during_the_outage(outage: Outage, role: str) -> None:
    """The channel itself reports the end, without the server."""
    caller, callee = outage.talk()
    end, other = (caller, callee) if role == "caller" else (callee, caller)
    outage.begin()
    with Blocked(other.recv) as reading:
        end.send("last words")
        end.hangup()
    assert reading.result() == "last words"
    other.wait_closed(LIMIT)
    assert (end.close_reason, other.close_reason) == ("hangup", "remote")
    outage.end()
    assert outage.alice.calls == outage.bob.calls == ()


def test_lost_while_hanging_up(outage: Outage) -> None:
    caller, callee = outage.talk()
    done = threading.Thread(target=caller.hangup)
    done.start()
    outage.begin()
    done.join(LIMIT)
    callee.wait_closed(LIMIT)
    assert caller.close_reason == "hangup"


WAITS: dict[str, Callable[[Artico, Call], object]] = {
    "recv": lambda rtco, call: call.recv(),
    "wait_closed": lambda rtco, call: call.wait_closed(),
    "stream": lambda rtco, call: call.wait_for("stream"),
    "call": lambda rtco, call: rtco.wait_for("call"),
    "client": lambda rtco, call: rtco.wait_closed(),
    "connect": lambda rtco, call: rtco.connect(None),
}


@pytest.mark.parametrize("wait", WAITS)
def test_waits_last_through_the_outage_and_end_with_what_they_wait_on(
    outage: Outage, wait: str
) -> None:
    """Losing the server ends no wait but one that can no longer succeed."""
    caller, callee = outage.talk()
    outage.begin()
    with Blocked(lambda: WAITS[wait](outage.alice, caller)) as waiting:
        if wait in ("recv", "wait_closed", "stream"):
            callee.hangup()
        else:
            outage.alice.close()
    if wait in ("client", "wait_closed"):
        assert waiting.result() is None
    elif wait in ("recv", "stream"):
        with pytest.raises(CallClosedError):
            waiting.result()
    else:
        with pytest.raises(Exception, match="closed"):
            waiting.result()


def test_events_of_an_outage(outage: Outage) -> None:
    outage.alice.wait_for("open", LIMIT)
    outage.begin()
    outage.alice.wait_for("reconnecting", LIMIT)
    outage.end()
    assert outage.alice.wait_for("open", LIMIT) == "alice"


def test_outage_after_outage(outage: Outage) -> None:
    caller, callee = outage.talk()
    for _ in range(3):
        outage.begin()
        outage.end()
        assert_usable(caller, callee)
    assert_usable(*outage.talk())


def test_closing_during_the_outage(outage: Outage) -> None:
    """Closing takes no longer than while connected, and releases everything."""
    caller, callee = outage.talk()
    outage.begin()
    outage.alice.close(timeout=5)
    callee.wait_closed(LIMIT)
    assert (caller.close_reason, callee.close_reason) == ("hangup", "remote")
