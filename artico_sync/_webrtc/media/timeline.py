"""The clock of media on its way out: frames are due at a moment of `time.monotonic`; no thread of
its own.

All local tracks share this clock, so tracks produced together stay in lip sync whichever calls they
are shared with, and RTP timestamps never jump back when a track is replaced.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeVar

import av
from av import AudioFrame, VideoFrame
from av.frame import Frame

AUDIO_RATE = 48000
AUDIO_SAMPLES = 960
AUDIO_SECONDS = AUDIO_SAMPLES / AUDIO_RATE
AUDIO_TIME_BASE = Fraction(1, AUDIO_RATE)
VIDEO_RATE = 90000
VIDEO_TIME_BASE = Fraction(1, VIDEO_RATE)

F = TypeVar("F", bound=Frame)


def audio_normalizer() -> av.AudioResampler:
    """Turns any audio into frames of 20 ms of 48 kHz stereo, what the encoders take."""
    return av.AudioResampler(
        format="s16", layout="stereo", rate=AUDIO_RATE, frame_size=AUDIO_SAMPLES
    )


def silence() -> AudioFrame:
    """20 ms of silence."""
    frame = AudioFrame(format="s16", layout="stereo", samples=AUDIO_SAMPLES)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate = AUDIO_RATE
    frame.time_base = AUDIO_TIME_BASE
    return frame


def black(width: int, height: int) -> VideoFrame:
    """A black picture."""
    frame = VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


def copy_video(frame: VideoFrame) -> VideoFrame:
    """A picture of its own with the same content."""
    copy = VideoFrame(frame.width, frame.height, frame.format.name)
    for source, target in zip(frame.planes, copy.planes, strict=True):
        data = memoryview(source).cast("B")
        if source.line_size == target.line_size:
            target.update(bytes(data))
            continue
        rows = bytearray(target.buffer_size)
        width = min(source.line_size, target.line_size)
        for row in range(target.buffer_size // target.line_size):
            start = row * source.line_size
            begin = row * target.line_size
            rows[begin : begin + width] = data[start : start + width]
        target.update(bytes(rows))
    copy.colorspace = frame.colorspace
    copy.color_range = frame.color_range
    return copy


def copy_audio(frame: AudioFrame) -> AudioFrame:
    """Samples of their own with the same content."""
    copy = AudioFrame(
        format=frame.format.name, layout=frame.layout.name, samples=frame.samples, align=1
    )
    for source, target in zip(frame.planes, copy.planes, strict=True):
        target.update(bytes(source)[: target.buffer_size])
    copy.sample_rate = frame.sample_rate
    if frame.time_base is not None:
        copy.time_base = frame.time_base
    return copy


def bare_copy(frame: AudioFrame) -> AudioFrame:
    """The same samples without a timestamp: how much was written says when it is played."""
    copy = copy_audio(frame)
    copy.pts = None
    return copy


def padded(frame: AudioFrame) -> AudioFrame:
    """A last piece made 20 ms long with silence."""
    piece = silence()
    data = bytes(frame.planes[0])[: frame.samples * 4]
    piece.planes[0].update(data.ljust(piece.planes[0].buffer_size, b"\0"))
    return piece
