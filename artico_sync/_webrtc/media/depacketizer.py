"""Parsing of RTP payloads: the encoded data, and where keyframes begin."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiortc.codecs import depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

_NAL_IDR = 5
_NAL_SPS = 7
_NAL_STAP_A = 24
_NAL_FU_A = 28


@dataclass(slots=True)
class Payload:
    """The part of an encoded frame that one packet carries."""

    data: bytes
    #: Whether a decoder can start with this packet.
    begins_keyframe: bool


def parse_payload(codec: RTCRtpCodecParameters, payload: bytes) -> Payload:
    """Parse the payload of a packet and remove its payload descriptor (RFC 7741, RFC 6184).

    Raises:
        ValueError: The payload is malformed.
    """
    if not payload:
        return Payload(b"", False)
    name = codec.name.upper()
    try:
        if name == "VP8":
            descriptor, data = VpxPayloadDescriptor.parse(payload)
            first = descriptor.partition_start == 1 and descriptor.partition_id == 0
            return Payload(data, first and bool(data) and not data[0] & 1)
        return Payload(depayload(codec, payload), name == "H264" and _begins_h264_keyframe(payload))
    except (IndexError, struct.error) as error:
        raise ValueError(f"malformed {name} payload: {error}") from error


def is_keyframe(codec: RTCRtpCodecParameters, payloads: list[bytes]) -> bool:
    """Return True if the payloads of an encoded video frame are those of a keyframe."""
    if codec.name.upper() == "H264":
        return any(_begins_h264_keyframe(payload) for payload in payloads)
    return parse_payload(codec, payloads[0]).begins_keyframe


def _begins_h264_keyframe(payload: bytes) -> bool:
    # A decoder needs the parameter sets before the picture, so a keyframe begins with the sequence
    # parameter set.
    kind = payload[0] & 0x1F
    if kind == _NAL_STAP_A:
        return len(payload) > 3 and payload[3] & 0x1F == _NAL_SPS
    if kind == _NAL_FU_A:
        return len(payload) > 1 and bool(payload[1] & 0x80) and payload[1] & 0x1F == _NAL_SPS
    return kind == _NAL_SPS
