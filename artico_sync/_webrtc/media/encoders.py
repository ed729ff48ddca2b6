"""aiortc's encoders with bitrates that can be chosen and timestamps of our own; runs in an
executor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from aiortc.codecs import get_encoder
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import AudioFrame, Packet, VideoFrame
from av.video.frame import PictureType

from artico_sync._webrtc.media.conversion import converted
from artico_sync._webrtc.media.depacketizer import is_key_frame
from artico_sync._webrtc.media.timeline import AUDIO_TIME_BASE, VIDEO_TIME_BASE

# FFmpeg's numbers for the colours of our pictures.
_BT601 = 6
_LIMITED = 1
# Bits a second below which no picture is worth sending.
MINIMUM_BITRATE = 30_000


@dataclass(slots=True)
class Encoded:
    """What an encoder made of one frame.

    `payloads` are the packets of one video frame; for audio each is a frame of its own, `ticks`
    long.
    """

    payloads: list[bytes]
    key: bool = True
    ticks: int = 0
    audio_level: int | None = None


class UnclampedVp8Encoder(Vp8Encoder):
    """VP8 at any bitrate; aiortc holds it between 250 and 1500 kbit/s."""

    _Vp8Encoder__target_bitrate: int

    def set_bitrate(self, bitrate: int) -> None:
        self._Vp8Encoder__target_bitrate = bitrate


class UnclampedH264Encoder(H264Encoder):
    """H.264 at any bitrate; aiortc holds it between 500 and 3000 kbit/s."""

    _H264Encoder__target_bitrate: int

    def set_bitrate(self, bitrate: int) -> None:
        self._H264Encoder__target_bitrate = bitrate

    def _encode_frame(self, frame: VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        codec = self.codec
        if (
            codec is None
            or (codec.width, codec.height) != (frame.width, frame.height)
            or abs(self.target_bitrate - (codec.bit_rate or 0)) * 10 > (codec.bit_rate or 0)
        ):
            self.codec = self._make_codec(frame.width, frame.height)
        return super()._encode_frame(frame, force_keyframe)

    def _make_codec(self, width: int, height: int) -> av.VideoCodecContext:
        """What aiortc makes, but fine timestamps, less work, and colours told, not guessed."""
        codec = av.CodecContext.create("libx264", "w")
        assert isinstance(codec, av.VideoCodecContext)
        codec.width, codec.height = width, height
        codec.bit_rate = self.target_bitrate
        codec.pix_fmt = "yuv420p"
        codec.framerate = Fraction(30)
        codec.time_base = VIDEO_TIME_BASE
        codec.options = {"level": "31", "tune": "zerolatency", "preset": "veryfast"}
        codec.profile = "Baseline"
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT601
        codec.color_range = _LIMITED
        return codec


class VideoEncoder:
    """An encoder for one video codec.

    Args:
        codec: The codec negotiated.
    """

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._codec = codec
        self._even = codec.name.upper() == "H264"
        self._encoder: UnclampedH264Encoder | UnclampedVp8Encoder = (
            UnclampedH264Encoder() if self._even else UnclampedVp8Encoder()
        )

    def set_bitrate(self, wanted: int | None, allowed: int | None) -> None:
        """Choose the bitrate from what the user wants and what the receivers can take."""
        if wanted is not None:
            bitrate = wanted if allowed is None else min(wanted, allowed)
            self._encoder.set_bitrate(max(bitrate, MINIMUM_BITRATE))
        elif allowed is not None:
            self._encoder.target_bitrate = allowed

    def encode(self, frame: VideoFrame, pts: int, force_key: bool) -> Encoded:
        """Encode a picture; `pts` counts 1/90000 s and must grow."""
        width, height = frame.width, frame.height
        if self._even:
            width, height = max(2, width & ~1), max(2, height & ~1)
        if (frame.format.name, frame.width, frame.height) != ("yuv420p", width, height):
            frame = converted(frame, "yuv420p", width, height)
        frame.pts = pts
        frame.time_base = VIDEO_TIME_BASE
        # What an earlier encoding of the same picture left there does not count.
        frame.pict_type = PictureType.NONE
        payloads, _ = self._encoder.encode(frame, force_key)
        return Encoded(payloads, bool(payloads) and is_key_frame(self._codec, payloads))

    def pack(self, packet: Packet[Any]) -> Encoded:
        """Make payloads of a picture that is encoded already."""
        payloads, _ = self._encoder.pack(packet)
        return Encoded(payloads, bool(payloads) and is_key_frame(self._codec, payloads))


class AudioEncoder:
    """An encoder for one audio codec.

    Args:
        codec: The codec negotiated.
    """

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._encoder: Encoder = get_encoder(codec)
        self._samples = 0
        # RTP ticks of one payload: all codecs here use 20 ms.
        self._ticks = codec.clockRate // 50

    def encode(self, frame: AudioFrame) -> Encoded:
        """Encode 20 ms of 48 kHz stereo."""
        frame.pts = self._samples
        frame.time_base = AUDIO_TIME_BASE
        self._samples += frame.samples
        if isinstance(self._encoder, OpusEncoder):
            # Straight into the codec: the frames have its format and size already.
            codec: Any = self._encoder.codec
            payloads = [bytes(packet) for packet in codec.encode(frame)]
        else:
            payloads, _ = self._encoder.encode(frame)
        return Encoded(payloads, ticks=self._ticks, audio_level=audio_level(frame))

    def pack(self, packet: Packet[Any]) -> Encoded:
        """Make payloads of audio that is encoded already."""
        payloads, _ = self._encoder.pack(packet)
        seconds = 0.02
        if packet.duration and packet.time_base is not None:
            seconds = float(packet.duration * packet.time_base)
        return Encoded(payloads, ticks=round(seconds * 50 * self._ticks))


def audio_level(frame: AudioFrame) -> int:
    """Loudness in dBov as RFC 6464 has it: 0 the loudest, -127 silence."""
    samples = memoryview(frame.planes[0]).cast("B").cast("h")[: frame.samples * 2 : 4]
    energy = sum(sample * sample for sample in samples)
    if not energy or not len(samples):
        return -127
    mean = energy / len(samples) / (32767.0 * 32767.0)
    return round(max(-127.0, min(0.0, 10 * math.log10(mean))))
