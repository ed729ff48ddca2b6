"""Tests of recordings: their content and the files they leave."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from artico_sync.errors import MediaError
from artico_sync.media import (
    AudioTrack,
    MediaStream,
    VideoTrack,
)
from tests.conftest import TIME_UNIT
from tests.media_content import (
    BLUE,
    GREEN,
    RED,
    Film,
    frequency_of,
    make_film,
    plain,
    shows,
    tone,
)
from tests.media_pair import MediaPair
from tests.polling import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_file_played_and_recorded_keeps_length_picture_tone_and_lip_sync(
    tmp_path: Path, suffix: str
) -> None:
    film = make_film(tmp_path / "film.mp4", 2.0)
    out = tmp_path / f"out{suffix}"
    with MediaPair() as pair:
        stream = MediaStream.from_file(film)
        assert [track.kind for track in stream.tracks] == ["audio", "video"]
        pair.share(*stream.tracks)
        start = monotonic()
        with pair.stream.record(out):
            wait_until(lambda: stream.ended, "the end of the file", 10)
            threading.Event().wait(0.3)
            # A slow machine plays for longer.
            stalled = max(0.0, monotonic() - start - 2.3)
    seen = Film(out)
    assert (seen.video, seen.audio) == (1, 1)
    # The recording begins before the first picture, which the peer waits for.
    lead = seen.first(RED)
    assert lead < 0.6 * TIME_UNIT
    assert abs(seen.duration - lead - 2.0) < 0.25 * TIME_UNIT + stalled
    assert abs(seen.first(BLUE) - lead - 1.0) < 0.2 * TIME_UNIT + stalled
    assert abs(seen.first_sound() - seen.first(BLUE)) < 0.09 * TIME_UNIT
    middle = seen.sound[int((seen.first_sound() + 0.2) * 48000) :][:24000]
    assert abs(frequency_of(middle) - 440) < 8
    assert len(seen.pictures) > 20 / TIME_UNIT
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".wav", ".ogg"])
def test_sound_alone_is_recorded_by_suffix(tmp_path: Path, suffix: str) -> None:
    track = AudioTrack.from_chunks(itertools.repeat(tone(1000, 0.1)))
    out = tmp_path / f"out{suffix}"
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        remote.recv(timeout=10)
        recorder = pair.stream.record(out)
        start = monotonic()
        threading.Event().wait(2.0)
        length = monotonic() - start
        recorder.stop()
        recorder.stop()
        assert recorder.stopped
    film = Film(out)
    assert abs(len(film.sound) / 48000 - length) < 0.4 * TIME_UNIT
    assert abs(frequency_of(film.sound) - 1000) < 5


FORKING = """
import os, sys
from artico_sync import ForkError
from artico_sync.media import Recorder
recorder = Recorder(sys.argv[1], lambda recorder: None)
parts = os.listdir(".")
child = os.fork()
if child == 0:
    try:
        recorder.stop()
    except ForkError:
        sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert parts == os.listdir(".") != []
recorder.stop()
assert os.listdir(".") == []
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_recording_of_its_parent_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", FORKING, "film.webm"], cwd=tmp_path, timeout=30, check=True
    )


@pytest.mark.slow
def test_late_and_short_tracks_are_recorded_at_their_place_in_time(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.mp4"
    sound = AudioTrack.from_chunks(itertools.repeat(tone(600, 0.1)))
    picture = VideoTrack.from_frames(itertools.repeat(plain(GREEN)), fps=20)
    with MediaPair() as first, MediaPair() as second:
        (heard,) = first.share(sound)
        heard.recv(timeout=10)
        with first.stream.record(out):
            start = monotonic()
            threading.Event().wait(1.5)
            (seen,) = second.share(picture)
            added = monotonic() - start
            first.stream._add(seen)
            seen.recv(timeout=10)
            shown = monotonic() - start
            threading.Event().wait(0.3)
            sound.stop()
            threading.Event().wait(0.6)
    film = Film(out)
    assert (film.video, film.audio) == (1, 1)
    late = 0.2 * TIME_UNIT
    assert added - late < film.first(GREEN) < shown + late
    assert film.duration > len(film.sound) / 48000 + 0.3


@pytest.mark.slow
def test_pictures_that_change_size_are_fitted(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    pictures = itertools.chain([plain(RED, 160, 120)] * 60, itertools.repeat(plain(BLUE, 120, 160)))
    track = VideoTrack.from_frames(pictures, fps=20)
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        with pair.stream.record(out):
            while remote.read(timeout=10).shape[0] != 160:
                pass
            threading.Event().wait(0.4)
    film = Film(out)
    last = film.pictures[-1][1]
    assert last.shape == (120, 160, 3)
    assert shows(last[10:-10, 60:100], BLUE, 40)
    assert shows(last[10:-10, :20], (0, 0, 0), 40)


def test_paths_that_cannot_be_recorded_to_raise(tmp_path: Path) -> None:
    with MediaPair() as pair:
        for path in ("film.xyz", "film", "film.mp4.part", ".mp4", ""):
            with pytest.raises(ValueError, match="mp4"):
                pair.stream.record(tmp_path / path if path else "")
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "file").write_bytes(b"")
        for path in ("nowhere/film.mp4", "folder.mp4", "file/film.mp4", f"{'x' * 300}.mp4"):
            with pytest.raises(MediaError, match="Cannot record to") as caught:
                pair.stream.record(tmp_path / path)
            assert isinstance(caught.value.__cause__, OSError)
        wrong: list[Any] = [5, None, b"film.mp4"]
        for other in wrong:
            with pytest.raises(TypeError):
                pair.stream.record(other)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "folder.mp4"]


def test_an_existing_file_stays_if_nothing_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"precious")
    with MediaPair() as pair:
        pair.stream.record(path).stop()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_without_frames_leaves_no_file(tmp_path: Path) -> None:
    with MediaPair() as pair:
        pair.stream.record(tmp_path / "film.mp4").stop()
    assert list(tmp_path.iterdir()) == []
