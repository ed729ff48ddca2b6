"""Tests of files played into a connection."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic

import pytest

from artico_sync.errors import MediaError
from artico_sync.media import (
    MediaStream,
)
from tests.media_content import (
    RED,
    make_film,
    shows,
)
from tests.media_pair import MediaPair
from tests.polling import wait_until


@pytest.mark.slow
def test_a_looped_file_starts_again(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 0.5, sound=False)
    stream = MediaStream.from_file(film, loop=True)
    with MediaPair() as pair:
        (remote,) = pair.share(*stream.tracks)
        colors: list[str] = []
        end = monotonic() + 20
        while len(colors) < 4 and monotonic() < end:
            picture = remote.read(timeout=10)
            color = "red" if shows(picture, RED, 60) else "blue"
            if not colors or colors[-1] != color:
                colors.append(color)
        assert len(colors) >= 4
        stream.stop()


def test_a_file_not_shared_starts_no_thread(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 0.5)
    before = threading.active_count()
    stream = MediaStream.from_file(film)
    assert threading.active_count() == before
    stream.stop()
    assert all(track.ended for track in stream.tracks)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_file_pauses_while_no_call_shares_it(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 6.0, sound=False)
    stream = MediaStream.from_file(film)
    with MediaPair() as pair:
        (remote,) = pair.share(*stream.tracks)
        assert shows(remote.read(timeout=10), RED, 40)
    threading.Event().wait(1.0)
    assert not stream.tracks[0].ended  # type: ignore[union-attr]
    with MediaPair() as pair:
        pair.share(*stream.tracks)
        wait_until(lambda: stream.ended, "the end of the file", 30)


def test_files_that_cannot_be_opened_raise(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nowhere"):
        MediaStream.from_file(tmp_path / "nowhere.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("not a film")
    with pytest.raises(MediaError):
        MediaStream.from_file(text)
