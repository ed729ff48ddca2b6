"""Video encoders at bitrates outside the limits of aiortc."""

from __future__ import annotations

from fractions import Fraction

import pytest

from artico_sync._webrtc._aiortc.encoders import (
    UnclampedH264Encoder,
    UnclampedVp8Encoder,
)
from artico_sync._webrtc.media.raw_frames import VIDEO_TIME_BASE, black


@pytest.mark.parametrize("kind", [UnclampedVp8Encoder, UnclampedH264Encoder])
@pytest.mark.parametrize("bitrate", [100_000, 5_000_000])
def test_any_bitrate_can_be_set(
    kind: type[UnclampedVp8Encoder | UnclampedH264Encoder], bitrate: int
) -> None:
    encoder = kind()
    encoder.set_bitrate(bitrate)
    assert encoder.target_bitrate == bitrate
    frame = black(160, 120)
    frame.pts, frame.time_base = 0, VIDEO_TIME_BASE
    payloads, _ = encoder.encode(frame, True)
    assert payloads
    assert encoder.codec is not None and encoder.codec.bit_rate == bitrate


def test_an_h264_codec_is_replaced_when_the_size_or_the_bitrate_changes() -> None:
    encoder = UnclampedH264Encoder()
    codecs = []
    for pts, (width, bitrate) in enumerate(
        [(160, 600_000), (160, 620_000), (160, 900_000), (320, 900_000)]
    ):
        encoder.set_bitrate(bitrate)
        frame = black(width, 120)
        frame.pts, frame.time_base = pts * 3000, Fraction(1, 90000)
        encoder.encode(frame)
        codecs.append(encoder.codec)
    assert codecs[0] is codecs[1]
    assert len({id(codec) for codec in codecs}) == 3
    assert [codec.time_base for codec in codecs if codec is not None] == [VIDEO_TIME_BASE] * 4
