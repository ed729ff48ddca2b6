"""Hostile signals, descriptions and candidates against a client that is in a call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artico_sync import ArticoError, MediaStream, VideoTrack
from artico_sync._protocol.messages import MalformedError, parse_control, parse_signal
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import parse_candidate_signal
from artico_sync._webrtc.sdp.parser import parse_description
from artico_sync.signaling import Message
from tests.fuzz.profile import fuzzed
from tests.fuzz.strategies import CANDIDATE_SIGNALS, JSON, SIGNALS, mutations
from tests.fuzz.victim import Victim

pytestmark = pytest.mark.slow

SETTINGS = Settings()

#: What a browser offers, as Chromium 156 writes it.
CHROMIUM = """v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS stream
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:aBcD
a=ice-pwd:0123456789abcdef01234567
a=ice-options:trickle
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:0
a=sctp-port:5000
a=max-message-size:262144
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:aBcD
a=ice-pwd:0123456789abcdef01234567
a=ice-options:trickle
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:1
a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:9 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:stream track
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack pli
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f
a=ssrc-group:FID 1 2
a=ssrc:1 cname:x
a=ssrc:2 cname:x
""".format(fingerprint=":".join(["AB"] * 32)).replace("\n", "\r\n")


@pytest.fixture
def victim() -> Any:
    with Victim() as made:
        yield made


# without a network: the parsers raise what they say, and nothing else


@fuzzed(300)
@given(message=JSON | st.builds(lambda signal: {"source": "x", "session": "call:1",
                                                "signal": signal}, SIGNALS))  # fmt: skip
def test_parsing_a_signal(message: object) -> None:
    try:
        parse_signal(message, SETTINGS)
    except MalformedError:
        return


@fuzzed(300)
@given(text=mutations(CHROMIUM) | st.text(max_size=200), kind=st.sampled_from(["offer", "answer"]))
def test_parsing_a_description(text: str, kind: str) -> None:
    try:
        parse_description(kind, text, SETTINGS)
    except ValueError:
        return


@fuzzed(300)
@given(data=JSON | CANDIDATE_SIGNALS.map(lambda signal: signal.get("data")))
def test_parsing_a_candidate(data: object) -> None:
    try:
        parse_candidate_signal(data)
    except ValueError:
        return


@fuzzed(200)
@given(value=JSON, cut=st.integers(0, 5))
def test_parsing_a_control_message(value: object, cut: int) -> None:
    text = json.dumps({"type": "[artico]", "data": value})
    parse_control(text[: len(text) - cut])
    parse_control("{" * 100_000)
    parse_control('{"type":"[artico]","data":' * 5_000)


# against a client


@pytest.mark.timeout(180)
def test_signals_of_any_kind(victim: Victim) -> None:
    sessions = st.sampled_from([None, None, None, "", "call:x", "room:1:call:2", "\x00", 5, None])

    @fuzzed(150)
    @given(signals=st.lists(st.tuples(SIGNALS, sessions), min_size=1, max_size=6))
    def attack(signals: list[tuple[object, object]]) -> None:
        for signal, session in signals:
            victim.signal(signal, session)
        victim.check()

    attack()
    # Its own call with the victim may have ended by its own goodbye only before it opened.
    assert len(victim.victim.calls) <= 2 + 64


@pytest.mark.timeout(180)
def test_messages_of_any_kind(victim: Victim) -> None:
    @fuzzed(100)
    @given(
        message=st.dictionaries(
            st.sampled_from(["session", "signal", "metadata", "source", "x"]), JSON, max_size=5
        )
    )
    def attack(message: dict[str, Any]) -> None:
        victim.mallory.send_raw({**message, "target": "victim"})
        victim.check()

    attack()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_damaged_offers_of_new_calls(victim: Victim, moment: str) -> None:
    """Answered before or after they came: the call fails, and nothing else does."""
    number = 0
    answered = 0

    @fuzzed(60)
    @given(sdp=mutations(CHROMIUM), candidates=st.lists(CANDIDATE_SIGNALS, max_size=3))
    def attack(sdp: str, candidates: list[dict[str, Any]]) -> None:
        nonlocal answered, number
        number += 1
        session = f"call:fuzz{number:06}"
        offer = {"type": "sdp", "data": {"type": "offer", "sdp": sdp}}
        victim.signal(offer, session)
        if moment == "after":
            for candidate in candidates:
                victim.signal(candidate, session)
        victim.check()
        calls = victim.new_calls()
        for call in calls:
            call.on("error", lambda error: None)
            try:
                call.answer()
                answered += 1
            except ArticoError:
                continue
        for candidate in candidates:
            victim.signal(candidate, session)
        victim.check()
        for call in calls:
            call.hangup(timeout=0)

    attack()
    assert answered > number / 4, "nearly all were refused at the door"


@pytest.mark.timeout(180)
def test_damaged_offers_in_a_call(victim: Victim) -> None:
    """The peer of an open call goes mad: its call may suffer, another one must not."""
    offers: list[str] = []
    track = VideoTrack()
    inner = victim.mallory.signal

    def spy(message: Message) -> bool | None:
        data = message["signal"].get("data")
        if isinstance(data, dict) and data.get("type") == "offer":
            offers.append(data["sdp"])
        return inner(message)

    victim.mallory.signal = spy  # type: ignore[method-assign]
    victim.call.add_stream(MediaStream([track]), "real")
    victim.victims_call.wait_for("stream", timeout=20)
    real = offers[-1]

    @fuzzed(80)
    @given(sdp=mutations(real), kind=st.sampled_from(["offer", "offer", "answer"]))
    def attack(sdp: str, kind: str) -> None:
        victim.signal({"type": "sdp", "data": {"type": kind, "sdp": sdp}})
        victim.check()

    attack()
    track.stop()
