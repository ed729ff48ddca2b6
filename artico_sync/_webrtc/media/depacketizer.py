"""What an RTP payload carries, as far as putting frames together needs it; loop thread."""

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
    """One packet's share of an encoded frame."""

    data: bytes
    #: Whether a decoder may start with this packet.
    begins_key: bool


def parse_payload(codec: RTCRtpCodecParameters, payload: bytes) -> Payload:
    """Strip the payload descriptor of a packet.

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
        return Payload(depayload(codec, payload), name == "H264" and _begins_h264_key(payload))
    except (IndexError, struct.error) as error:
        raise ValueError(f"malformed {name} payload: {error}") from error


def is_key_frame(codec: RTCRtpCodecParameters, payloads: list[bytes]) -> bool:
    """Whether an encoded video frame of ours can be decoded without the frames before it."""
    if codec.name.upper() == "H264":
        return any(_begins_h264_key(payload) for payload in payloads)
    return parse_payload(codec, payloads[0]).begins_key


def _begins_h264_key(payload: bytes) -> bool:
    # A decoder that has not seen the parameter sets cannot use the picture alone, so the key frame
    # begins with the sequence parameter set.
    kind = payload[0] & 0x1F
    if kind == _NAL_STAP_A:
        return len(payload) > 3 and payload[3] & 0x1F == _NAL_SPS
    if kind == _NAL_FU_A:
        return len(payload) > 1 and bool(payload[1] & 0x80) and payload[1] & 0x1F == _NAL_SPS
    return kind == _NAL_SPS
