"""Pictures, sounds and films that tests send, and what they recognize in what arrives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from artico_sync.media import VideoTrack

RED = (200, 30, 30)
GREEN = (30, 180, 40)
BLUE = (30, 50, 200)
#: Pictures per second of the films.
FILM_FPS = 20


def plain(color: tuple[int, int, int], width: int = 160, height: int = 120) -> NDArray[np.uint8]:
    """Return a picture of one color."""
    return np.full((height, width, 3), color, np.uint8)


def endless_video(color: tuple[int, int, int], fps: float = 30, **options: Any) -> VideoTrack:
    """Return a track that shows one color without end."""
    return VideoTrack.from_frames(itertools.repeat(plain(color)), fps, **options)


def mean_color(picture: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean color of a picture."""
    return np.asarray(picture.reshape(-1, 3).mean(axis=0), np.float64)


def shows(picture: NDArray[Any], color: tuple[int, int, int], tolerance: float = 25) -> bool:
    """Return True if the mean color of a picture is about `color`."""
    return bool(np.abs(mean_color(picture) - color).max() < tolerance)


def tone(
    frequency: float, seconds: float, rate: int = 48000, channels: int = 1, start: int = 0
) -> NDArray[np.int16]:
    """Return a sine, (samples, channels), from sample `start` on."""
    time = (np.arange(round(seconds * rate)) + start) / rate
    wave = (np.sin(2 * np.pi * frequency * time) * 12000).astype(np.int16)
    return np.repeat(wave[:, None], channels, axis=1)


def frequency_of(sound: NDArray[Any], rate: int = 48000) -> float:
    """Return the strongest frequency in a sound, (samples, channels), in Hz."""
    wave = sound[:, 0].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.fft.rfftfreq(len(wave), 1 / rate)[spectrum[1:].argmax() + 1])


def loudness(sound: NDArray[Any]) -> float:
    """Return the root mean square of a sound."""
    return float(np.sqrt(np.mean(np.square(sound.astype(np.float64)))))


def make_film(path: Path, seconds: float = 2.0, *, sound: bool = True, rate: int = 44100) -> Path:
    """Write a film, red and then blue from its middle on, when a tone begins; return its path."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=FILM_FPS, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio: Any = container.add_stream("aac", rate=rate, layout="mono") if sound else None
        frames = round(seconds * FILM_FPS)
        for index in range(frames):
            picture = plain(RED if index < frames // 2 else BLUE)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FILM_FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            half = round(seconds * rate / 2)
            wave = tone(440, seconds / 2, rate)
            samples = np.concatenate([np.zeros((half, 1), np.int16), wave])
            chunk = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
            chunk.sample_rate, chunk.pts, chunk.time_base = rate, 0, Fraction(1, rate)
            container.mux(audio.encode(chunk))
            container.mux(audio.encode(None))
    return path


class Film:
    """The content of a recorded file.

    Attributes:
        pictures: Times in seconds and pictures.
        video: Number of video tracks.
        audio: Number of audio tracks.
        duration: Duration of the file in seconds.
        sound: All samples, (samples, 1), at 48 kHz.
        sound_start: Time of the first sample in seconds.
    """

    def __init__(self, path: Path) -> None:
        self.pictures: list[tuple[float, np.ndarray[Any, Any]]] = []
        sound: list[tuple[float, np.ndarray[Any, Any]]] = []
        with av.open(str(path)) as container:
            self.video = len(container.streams.video)
            self.audio = len(container.streams.audio)
            self.duration = (container.duration or 0) / av.time_base
            resampler = av.AudioResampler(format="s16", layout="mono", rate=48000)
            decoded: Iterator[object] = container.decode()
            for frame in decoded:
                if isinstance(frame, av.VideoFrame):
                    self.pictures.append((frame.time, frame.to_ndarray(format="rgb24")))
                elif isinstance(frame, av.AudioFrame):
                    time = frame.time or 0.0
                    for piece in resampler.resample(frame):
                        sound.append((time, piece.to_ndarray().reshape(-1, 1)))
        self.sound_start = sound[0][0] if sound else 0.0
        self.sound = (
            np.concatenate([piece for _, piece in sound]) if sound else np.zeros((0, 1), np.int16)
        )

    def first(self, color: tuple[int, int, int]) -> float:
        """Return when a picture first shows a color, in seconds."""
        return next(time for time, picture in self.pictures if shows(picture, color, 40))

    def first_sound(self) -> float:
        """Return when the sound becomes loud, in seconds."""
        step = 480
        for start in range(0, len(self.sound) - step, step):
            if loudness(self.sound[start : start + step]) > 3000:
                return self.sound_start + start / 48000
        raise AssertionError("the sound never became loud")
