"""aiortc's video encoders, with bitrates outside the limits that aiortc sets."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE
from av import VideoFrame

# FFmpeg's numbers for the color space BT.601 and for the limited range of values.
_BT601 = 6
_LIMITED = 1


class UnclampedVp8Encoder(Vp8Encoder):
    """VP8 at any bitrate; aiortc keeps it between 250 and 1500 kbit/s."""

    # The bitrate behind `target_bitrate`, whose setter clamps it.
    _Vp8Encoder__target_bitrate: int

    def set_bitrate(self, bitrate: int) -> None:
        """Encode with this many bits a second from the next frame on."""
        self._Vp8Encoder__target_bitrate = bitrate


class UnclampedH264Encoder(H264Encoder):
    """H.264 at any bitrate; aiortc keeps it between 500 and 3000 kbit/s."""

    # The bitrate behind `target_bitrate`, whose setter clamps it.
    _H264Encoder__target_bitrate: int

    def set_bitrate(self, bitrate: int) -> None:
        """Encode with this many bits a second from the next frame on."""
        self._H264Encoder__target_bitrate = bitrate

    def _encode_frame(self, frame: VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        # Called by `encode` to make the NAL units of a frame; without a codec it makes its own.
        codec = self.codec
        if (
            codec is None
            or (codec.width, codec.height) != (frame.width, frame.height)
            or abs(self.target_bitrate - (codec.bit_rate or 0)) * 10 > (codec.bit_rate or 0)
        ):
            self.codec = self._make_codec(frame.width, frame.height)
        return super()._encode_frame(frame, force_keyframe)

    def _make_codec(self, width: int, height: int) -> av.VideoCodecContext:
        """Make aiortc's codec with finer timestamps, a faster preset and the colors declared."""
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
