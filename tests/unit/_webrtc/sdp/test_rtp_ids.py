"""Payload types and header extension ids: reservation, and its limits."""

from __future__ import annotations

import pytest
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
)

from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sdp.parser import parse_description
from artico_sync._webrtc.sdp.rtp_ids import EXTENSION_IDS, PAYLOAD_TYPES, RtpIdAllocator
from tests.descriptions import (
    AUDIO,
    DATA,
    MID_URI,
    SETTINGS,
    VIDEO,
    alone,
    answer,
    extensions_of,
    offer_of,
    payload_types_of,
    section,
)
from tests.negotiating import Still


def extension(number: int, uri: str) -> RTCRtpHeaderExtensionParameters:
    return RTCRtpHeaderExtensionParameters(id=number, uri=uri)


def codec(number: int, name: str = "x") -> RTCRtpCodecParameters:
    return RTCRtpCodecParameters(mimeType=f"video/{name}", clockRate=90000, payloadType=number)


def test_what_had_a_meaning_first_keeps_it() -> None:
    rtp_ids = RtpIdAllocator()
    rtp_ids.reserve([codec(96, "first")], [extension(5, "first"), extension(6, MID_URI)])
    rtp_ids.reserve([codec(96, "second")], [extension(5, "second"), extension(7, MID_URI)])
    assert rtp_ids._codecs[96].mimeType == "video/first"
    assert rtp_ids._extensions == {"first": 5, MID_URI: 6}
    # 7 was refused, so it is still free.
    rtp_ids.reserve([], [extension(7, "third")])
    assert rtp_ids.copy()._extensions == {"first": 5, MID_URI: 6, "third": 7}


@pytest.mark.parametrize("number", [1, 14, 15, 16, 200, 255])
def test_every_id_a_header_can_carry_is_remembered(number: int) -> None:
    before, after = RtpIdAllocator(), RtpIdAllocator()
    before.reserve([], [extension(number, MID_URI)])
    after.reserve_from(before)
    offered = {template.uri: template.id for template in after.extensions("video")}
    assert offered[MID_URI] == number
    assert list(offered.values()).count(number) == 1


def test_numbers_no_packet_can_carry_are_not_remembered() -> None:
    rtp_ids = RtpIdAllocator()
    for round_ in range(5):
        later = RtpIdAllocator()
        numbers = range(-10, 3000)
        later.reserve(
            [codec(number) for number in numbers],
            [extension(number, f"{round_}/{number}") for number in numbers],
        )
        later.reserve_from(rtp_ids)
        rtp_ids = later
    assert set(rtp_ids._codecs) == set(PAYLOAD_TYPES)
    assert set(rtp_ids._extensions.values()) == set(EXTENSION_IDS)
    assert rtp_ids.extensions("video") == []


def test_offers_with_ever_new_ids_are_answered_and_forgotten() -> None:
    async def test(connection: PeerConnection) -> None:
        for round_ in range(10):
            more = "".join(f"a=extmap:{n} {round_}/{n}\n" for n in range(100, 600))
            await answer(connection, offer_of(section(DATA, "0"), section(VIDEO, "1") + more))
        assert len(connection._rtp_ids._extensions) <= len(EXTENSION_IDS)
        connection.add_local_track(Still("video"), "s")
        offered = (await connection.create_offer()).sdp
        assert extensions_of(offered)[MID_URI] == 4
        assert 39 in payload_types_of(offered)["VP8"]

    alone(test)


def test_a_section_is_read_without_numbers_that_mean_nothing() -> None:
    extra = [f"a=extmap:{number} urn:{number}" for number in (0, 255, 256, 9_999_999_999)]
    extra += ["a=extmap:12/recvonly urn:12"]
    extra += [f"a=rtpmap:{number} X/90000" for number in (64, 95, 127, 128, 99_999, "0127")]
    extra += ["a=fmtp:128 apt=39", "a=fmtp:127 apt=39"]
    text = offer_of(section(DATA, "0"), section(VIDEO, "1") + "\n".join(extra) + "\n")
    rtp = parse_description("offer", text, SETTINGS).sections[1].media.rtp
    assert [x.id for x in rtp.headerExtensions] == [7, 4, 255, 12]
    assert [x.payloadType for x in rtp.codecs] == [39, 40, 45, 127]
    assert rtp.codecs[-1].parameters == {"apt": 39}


def test_feedback_is_read_once_and_only_where_a_codec_can_use_it() -> None:
    words = ["nack", "nack pli", "goog-remb", "transport-cc", "ccm fir", *map(str, range(400))]
    lines = [f"a=rtcp-fb:{number} {word}" for word in words for number in ("*", "39", "39")]
    text = offer_of(section(AUDIO, "0"), section(VIDEO, "1") + "\n".join(lines[:500]) + "\n")
    codecs = parse_description("offer", text, SETTINGS).sections[1].media.rtp.codecs
    used = {("goog-remb", None), ("nack", None), ("nack", "pli")}
    for codec_ in codecs:
        said = [(feedback.type, feedback.parameter) for feedback in codec_.rtcpFeedback]
        assert set(said) == used
        # At most once for all codecs and once for this one.
        assert len(said) <= 2 * len(used)
