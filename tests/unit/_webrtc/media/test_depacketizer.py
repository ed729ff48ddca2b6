"""Parsing of RTP payloads, valid and malformed, and recognition of keyframes."""

from __future__ import annotations

import pytest
from aiortc.codecs import CODECS
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from hypothesis import given
from hypothesis import strategies as st

from artico_sync._webrtc.media.depacketizer import is_keyframe, parse_payload

VP8 = next(codec for codec in CODECS["video"] if codec.name == "VP8")
H264 = next(codec for codec in CODECS["video"] if codec.name == "H264")
OPUS = CODECS["audio"][0]


@pytest.mark.parametrize("codec", [VP8, H264, OPUS])
@given(payload=st.binary(max_size=40))
def test_a_malformed_payload_raises_value_error(
    codec: RTCRtpCodecParameters, payload: bytes
) -> None:
    try:
        parse_payload(codec, payload)
    except ValueError:
        return


def test_keyframes_are_recognized() -> None:
    assert parse_payload(VP8, b"\x10\x00rest").begins_keyframe
    assert not parse_payload(VP8, b"\x10\x01rest").begins_keyframe
    assert not parse_payload(VP8, b"\x00\x00rest").begins_keyframe
    assert parse_payload(H264, b"\x67\x42\x00").begins_keyframe
    assert parse_payload(H264, b"\x78\x00\x02\x67\x42\x00\x02\x68\x01").begins_keyframe
    assert not parse_payload(H264, b"\x41\x9a\x00").begins_keyframe
    assert is_keyframe(H264, [b"\x78\x00\x02\x67\x42", b"\x65\x01"])
    assert not is_keyframe(VP8, [b"\x10\x01rest"])
