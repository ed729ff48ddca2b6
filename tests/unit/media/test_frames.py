"""Tests of frames: conversion by several threads, sizes and rotations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from artico_sync.media._frames import (
    ROTATION_FILTERS,
    PictureFitter,
    PictureRotator,
    encode_jpeg,
    encode_png,
    to_array,
    to_video_frame,
)
from tests.media_content import (
    BLUE,
    GREEN,
    plain,
    shows,
)

TIMEOUT = 20.0


def frame_of(picture: Any) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def rgb_of(frame: av.VideoFrame) -> Any:
    return frame.to_ndarray(format="rgb24")


def test_threads_convert_the_same_picture_at_once() -> None:
    # The readers of a track share its frames: one displays them, another maps them.
    conversions: list[Callable[[av.VideoFrame], object]] = [
        to_array,
        encode_jpeg,
        encode_png,
        to_video_frame,
    ]
    rounds = 100
    pictures = [av.VideoFrame(160, 120, "yuv422p") for _ in range(rounds)]
    together = threading.Barrier(len(conversions))
    done: list[Callable[[av.VideoFrame], object]] = []

    def convert_all(convert: Callable[[av.VideoFrame], object]) -> None:
        for picture in pictures:
            together.wait(TIMEOUT)
            convert(picture)
        done.append(convert)

    # Daemons, so that a thread that hangs in C does not keep the tests from ending.
    threads = [
        threading.Thread(target=convert_all, args=(convert,), daemon=True)
        for convert in conversions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(done) == len(conversions)


def test_fitting_a_picture_of_the_same_size_copies_it() -> None:
    frame = frame_of(plain(GREEN, 64, 48))
    frame.pts = 7
    fitted = PictureFitter(64, 48).fit(frame)
    assert shows(rgb_of(fitted), GREEN) and fitted is not frame
    fitted.pts = 9
    assert frame.pts == 7


def test_fitting_another_shape_adds_black_bars() -> None:
    fitter = PictureFitter(160, 120)
    for width, height in ((60, 120), (320, 640), (60, 120)):
        picture = rgb_of(fitter.fit(frame_of(plain(BLUE, width, height))))
        assert picture.shape == (120, 160, 3)
        assert shows(picture[:, 60:100], BLUE)
        assert shows(picture[:, :40], (0, 0, 0))


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (-90, (0, 1)), (90, (1, 0)), (180, (1, 1))]
)
def test_rotated_pictures_are_turned_upright(
    monkeypatch: pytest.MonkeyPatch, rotation: int, corner: tuple[int, int]
) -> None:
    picture = plain(BLUE, 80, 60)
    picture[:30, :40] = GREEN
    frame = frame_of(picture)
    steps = ROTATION_FILTERS[-rotation % 360]
    rotator = PictureRotator()
    if steps:
        turned = rotator._filters.apply(frame, steps)
        stand_in: Any = SimpleNamespace(rotation=rotation)
        monkeypatch.setattr(rotator._filters, "apply", lambda _, wanted: wanted)
        chosen: object = rotator.rotate_upright(stand_in)
        assert chosen == steps
    else:
        turned = rotator.rotate_upright(frame)
    array = rgb_of(turned)
    if rotation in (90, -90):
        assert array.shape == (80, 60, 3)
    quarters = [np.array_split(half, 2, axis=1) for half in np.array_split(array, 2)]
    assert shows(quarters[corner[0]][corner[1]], GREEN)
