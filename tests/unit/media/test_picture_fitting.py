"""Pictures are turned upright and fitted without distortion."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from artico_sync.media import picture_fitting
from artico_sync.media.picture_fitting import PictureFitter, PictureTurner
from tests.media_content import BLUE, GREEN, plain, shows


def frame_of(picture: Any) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def array_of(frame: av.VideoFrame) -> Any:
    return frame.to_ndarray(format="rgb24")


def test_a_picture_of_the_same_size_stays_as_it_is_and_its_frame_untouched() -> None:
    frame = frame_of(plain(GREEN, 64, 48))
    frame.pts = 7
    fitted = PictureFitter(64, 48).fit(frame)
    assert shows(array_of(fitted), GREEN) and fitted is not frame
    fitted.pts = 9
    assert frame.pts == 7


def test_another_shape_gets_black_bars() -> None:
    fitter = PictureFitter(160, 120)
    for width, height in ((60, 120), (320, 640), (60, 120)):
        picture = array_of(fitter.fit(frame_of(plain(BLUE, width, height))))
        assert picture.shape == (120, 160, 3)
        assert shows(picture[:, 60:100], BLUE)
        assert shows(picture[:, :40], (0, 0, 0))


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (-90, (0, 1)), (90, (1, 0)), (180, (1, 1))]
)
def test_a_film_taken_on_its_side_is_turned_upright(
    monkeypatch: pytest.MonkeyPatch, rotation: int, corner: tuple[int, int]
) -> None:
    picture = plain(BLUE, 80, 60)
    picture[:30, :40] = GREEN
    frame = frame_of(picture)
    steps = picture_fitting.TURNS[-rotation % 360]
    turner = PictureTurner()
    if steps:
        turned = turner._filter.run(frame, steps)
        stand_in: Any = SimpleNamespace(rotation=rotation)
        monkeypatch.setattr(turner._filter, "run", lambda _, wanted: wanted)
        chosen: object = turner.upright(stand_in)
        assert chosen == steps
    else:
        turned = turner.upright(frame)
    array = array_of(turned)
    if rotation in (90, -90):
        assert array.shape == (80, 60, 3)
    quarters = [np.array_split(half, 2, axis=1) for half in np.array_split(array, 2)]
    assert shows(quarters[corner[0]][corner[1]], GREEN)
