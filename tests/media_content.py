"""Pictures and sounds the tests send, and what they recognise in what arrives."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

RED = (200, 30, 30)
GREEN = (30, 180, 40)
BLUE = (30, 50, 200)


def plain(colour: tuple[int, int, int], width: int = 160, height: int = 120) -> NDArray[np.uint8]:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def colour_of(picture: NDArray[Any]) -> NDArray[np.float64]:
    """The mean colour of a picture."""
    return np.asarray(picture.reshape(-1, 3).mean(axis=0), np.float64)


def shows(picture: NDArray[Any], colour: tuple[int, int, int], tolerance: float = 25) -> bool:
    """Whether a picture is of about one colour."""
    return bool(np.abs(colour_of(picture) - colour).max() < tolerance)


def tone(
    frequency: float, seconds: float, rate: int = 48000, channels: int = 1, start: int = 0
) -> NDArray[np.int16]:
    """A sine, (samples, channels), from sample `start`."""
    time = (np.arange(round(seconds * rate)) + start) / rate
    wave = (np.sin(2 * np.pi * frequency * time) * 12000).astype(np.int16)
    return np.repeat(wave[:, None], channels, axis=1)


def frequency_of(sound: NDArray[Any], rate: int = 48000) -> float:
    """The strongest frequency in a sound, (samples, channels), in Hz."""
    wave = sound[:, 0].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.fft.rfftfreq(len(wave), 1 / rate)[spectrum[1:].argmax() + 1])


def loudness(sound: NDArray[Any]) -> float:
    """Root mean square of a sound."""
    return float(np.sqrt(np.mean(np.square(sound.astype(np.float64)))))
