"""Raw audio and video frames: their formats, and functions that make, copy and convert them.

A frame to be sent has a due time on the clock `time.monotonic`. All local tracks share this clock,
so tracks produced together stay in lip sync whichever calls they are shared with, and RTP
timestamps never jump back when a track is replaced. The functions run on any thread.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av import AudioFrame, VideoFrame
from av.video.reformatter import VideoReformatter

AUDIO_RATE = 48000
AUDIO_SAMPLES = 960
AUDIO_SECONDS = AUDIO_SAMPLES / AUDIO_RATE
AUDIO_TIME_BASE = Fraction(1, AUDIO_RATE)
VIDEO_RATE = 90000
VIDEO_TIME_BASE = Fraction(1, VIDEO_RATE)


def audio_normalizer() -> av.AudioResampler:
    """Return a resampler from any audio to 20 ms frames of 48 kHz stereo, as encoders need it."""
    return av.AudioResampler(
        format="s16", layout="stereo", rate=AUDIO_RATE, frame_size=AUDIO_SAMPLES
    )


def silence() -> AudioFrame:
    """Return a frame of 20 ms of silence."""
    frame = AudioFrame(format="s16", layout="stereo", samples=AUDIO_SAMPLES)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate = AUDIO_RATE
    frame.time_base = AUDIO_TIME_BASE
    return frame


def black(width: int, height: int) -> VideoFrame:
    """Return a black picture."""
    frame = VideoFrame(width, height, "yuv420p")
    for plane, value in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame


def copy_video(frame: VideoFrame) -> VideoFrame:
    """Return a copy of a picture with memory of its own."""
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
    """Return a copy of an audio frame with memory of its own."""
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
    """Return a copy without a timestamp, for audio timed by its number of samples."""
    copy = copy_audio(frame)
    copy.pts = None
    return copy


def padded(frame: AudioFrame) -> AudioFrame:
    """Return a shorter last frame, filled up to 20 ms with silence."""
    piece = silence()
    data = bytes(frame.planes[0])[: frame.samples * 4]
    piece.planes[0].update(data.ljust(piece.planes[0].buffer_size, b"\0"))
    return piece


def converted(
    frame: VideoFrame, format: str, width: int | None = None, height: int | None = None
) -> VideoFrame:
    """Return a picture in another format and size, or the same one if nothing differs.

    `frame.reformat` and `frame.to_ndarray(format=...)` cache one converter in the frame, and two
    threads that use it at the same time deadlock (PyAV up to 18).
    """
    return VideoReformatter().reformat(frame, width, height, format)
