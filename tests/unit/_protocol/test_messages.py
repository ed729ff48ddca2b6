"""Received signals: which are accepted, which members are kept, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from artico_sync._protocol import messages as wire
from artico_sync._protocol.messages import MalformedError, Signal
from artico_sync._protocol.settings import Settings
from tests.fuzz.test_signals import CHROMIUM

SETTINGS = Settings()

CANDIDATE = {
    "candidate": "candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host generation 0 ufrag aBcD",
    "sdpMid": "0",
    "sdpMLineIndex": 0,
    "usernameFragment": "aBcD",
}


def parse(body: object, **others: object) -> Signal:
    message = {"source": "bob", "session": "call:0123456789", "signal": body, **others}
    return wire.parse_signal(message, SETTINGS)


def sdp(**members: object) -> dict[str, Any]:
    return {"type": "sdp", "data": {"type": "offer", "sdp": CHROMIUM, **members}}


@pytest.mark.parametrize(
    "body",
    [
        sdp(),
        sdp(type="answer"),
        sdp(offer="0123abcd"),
        {"type": "candidate", "data": CANDIDATE},
        {"type": "candidate", "data": {"candidate": ""}},
        {"type": "candidate", "data": None},
    ],
    ids=["offer", "answer", "token", "candidate", "last candidate", "no candidate"],
)
def test_valid_signals_pass_unchanged(body: dict[str, Any]) -> None:
    signal = parse(body, metadata="greeting")
    assert signal.body == body
    assert (signal.source, signal.session) == ("bob", "call:0123456789")
    assert (signal.metadata, signal.type, signal.from_artico_sync) == (
        "greeting",
        body["type"],
        False,
    )


@pytest.mark.parametrize(
    "body",
    [sdp(), {"type": "candidate", "data": CANDIDATE}, wire.bye("hangup", "later"), wire.ringing()],
    ids=["description", "candidate", "bye", "ringing"],
)
def test_unknown_members_are_dropped(body: dict[str, Any]) -> None:
    padding = {"pad": "x" * 10_000, "more": [{}] * 1000}
    plain = parse(body)
    padded = {**body, **padding}
    if "data" in body:
        padded["data"] = {**body["data"], **padding}
    assert parse(padded).body == plain.body
    assert parse(padded).characters == plain.characters


def test_of_an_unknown_type_only_the_name_is_kept() -> None:
    assert parse({"type": "news", "data": {"pad": "x" * 10_000}}).body == {"type": "news"}


def test_characters_are_those_of_the_text() -> None:
    assert parse(sdp()).characters == len("offer" + CHROMIUM)
    texts = [value for value in CANDIDATE.values() if isinstance(value, str)]
    assert parse({"type": "candidate", "data": CANDIDATE}).characters == len("".join(texts))
    assert parse({"type": "candidate", "data": None}).characters == 0


def test_a_bye_may_have_a_reason_and_a_detail() -> None:
    signal = parse(wire.bye("rejected", "not now"))
    assert (signal.reason, signal.detail, signal.from_artico_sync) == ("rejected", "not now", True)
    for data in (None, 5, {}, {"reason": 5, "detail": []}):
        signal = parse({"type": "bye", "data": data})
        assert (signal.reason, signal.detail) == ("", None)
    long = parse({"type": "bye", "data": {"detail": "x" * 5000}})
    assert long.detail == "x" * wire.LONGEST_DETAIL


@pytest.mark.parametrize(
    "message",
    [
        sdp(sdp=None),
        sdp(sdp="x" * (SETTINGS.maximum_sdp + 1)),
        sdp(type="rollback"),
        sdp(offer=5),
        sdp(offer="x" * 65),
        {"type": "sdp"},
        {"type": "candidate", "data": "candidate:1"},
        {"type": "candidate", "data": {**CANDIDATE, "sdpMid": 0}},
        {"type": "candidate", "data": {**CANDIDATE, "candidate": "x" * 3000}},
        {"type": "candidate", "data": {**CANDIDATE, "sdpMLineIndex": True}},
        {"type": "candidate", "data": {**CANDIDATE, "sdpMLineIndex": -1}},
        {"type": "candidate", "data": {**CANDIDATE, "sdpMLineIndex": 10**1000}},
        {"type": 5},
        None,
    ],
)
def test_malformed_signals_are_refused(message: object) -> None:
    with pytest.raises(MalformedError):
        parse(message)


@pytest.mark.parametrize(
    "session", ["call:x\nCRITICAL root: the disk is full", "call:\x1b[2J", "call:\u2028", "\ud800"]
)
def test_session_ids_that_cannot_be_printed_are_refused(session: str) -> None:
    with pytest.raises(MalformedError, match="not printable"):
        parse(sdp(), session=session)
