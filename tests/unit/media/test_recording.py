"""Files played into a connection and recorded out of it, and what is in them then."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any

import av
import numpy as np
import pytest
from aiortc.contrib.media import MediaPlayer

from artico_sync.errors import MediaError
from artico_sync.media import AudioTrack, MediaStream, VideoTrack
from tests.conftest import TIME_UNIT
from tests.media_content import BLUE, GREEN, RED, frequency_of, loudness, plain, shows, tone
from tests.media_pair import MediaPair

FPS = 20


def make_film(path: Path, seconds: float = 2.0, *, sound: bool = True, rate: int = 44100) -> Path:
    """A film red in its first half and blue in its second; the tone begins with the blue."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio: Any = container.add_stream("aac", rate=rate, layout="mono") if sound else None
        frames = round(seconds * FPS)
        for index in range(frames):
            picture = plain(RED if index < frames // 2 else BLUE)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
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
    """The content of a recorded file."""

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

    def first(self, colour: tuple[int, int, int]) -> float:
        """When the picture first shows a colour, in seconds."""
        return next(time for time, picture in self.pictures if shows(picture, colour, 40))

    def first_sound(self) -> float:
        """When the sound becomes loud, in seconds."""
        step = 480
        for start in range(0, len(self.sound) - step, step):
            if loudness(self.sound[start : start + step]) > 3000:
                return self.sound_start + start / 48000
        raise AssertionError("the sound never becomes loud")


def wait_ended(stream: MediaStream, limit: float = 10) -> None:
    end = monotonic() + limit
    while monotonic() < end:
        if all(getattr(track, "ended", True) for track in stream.tracks):
            return
        threading.Event().wait(0.02)
    pytest.fail("the file did not end")


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
            wait_ended(stream)
            threading.Event().wait(0.3)
            # A machine that stalls plays for longer.
            stalled = max(0.0, monotonic() - start - 2.3)
    seen = Film(out)
    assert (seen.video, seen.audio) == (1, 1)
    # It begins with the recording, and so with the wait for the first picture.
    lead = seen.first(RED)
    assert lead < 0.6 * TIME_UNIT
    assert abs(seen.duration - lead - 2.0) < 0.25 * TIME_UNIT + stalled
    assert abs(seen.first(BLUE) - lead - 1.0) < 0.2 * TIME_UNIT + stalled
    assert abs(seen.first_sound() - seen.first(BLUE)) < 0.09 * TIME_UNIT
    middle = seen.sound[int((seen.first_sound() + 0.2) * 48000) :][:24000]
    assert abs(frequency_of(middle) - 440) < 8
    assert len(seen.pictures) > 20 / TIME_UNIT
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


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
from artico_sync.media.recorder import Recorder
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
def test_a_child_that_ends_leaves_the_recording_of_its_parent_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", FORKING, "film.webm"], cwd=tmp_path, timeout=30, check=True
    )


def test_a_track_that_comes_late_and_one_that_ends_early_lie_in_their_places(
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


def test_a_looped_file_goes_on(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 0.5, sound=False)
    stream = MediaStream.from_file(film, loop=True)
    with MediaPair() as pair:
        (remote,) = pair.share(*stream.tracks)
        colours: list[str] = []
        end = monotonic() + 20
        while len(colours) < 4 and monotonic() < end:
            picture = remote.read(timeout=10)
            colour = "red" if shows(picture, RED, 60) else "blue"
            if not colours or colours[-1] != colour:
                colours.append(colour)
        assert len(colours) >= 4
        stream.stop()


def test_a_file_shared_by_nobody_starts_no_thread(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 0.5)
    before = threading.active_count()
    stream = MediaStream.from_file(film)
    assert threading.active_count() == before
    stream.stop()
    assert all(track.ended for track in stream.tracks)  # type: ignore[union-attr]


def test_a_file_pauses_while_nobody_takes_it(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 6.0, sound=False)
    stream = MediaStream.from_file(film)
    with MediaPair() as pair:
        (remote,) = pair.share(*stream.tracks)
        assert shows(remote.read(timeout=10), RED, 40)
    threading.Event().wait(1.0)
    assert not stream.tracks[0].ended  # type: ignore[union-attr]
    with MediaPair() as pair:
        pair.share(*stream.tracks)
        wait_ended(stream, 30)


def test_what_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="nowhere"):
        MediaStream.from_file(tmp_path / "nowhere.mp4")
    text = tmp_path / "text.mp4"
    text.write_text("this is no film")
    with pytest.raises(MediaError):
        MediaStream.from_file(text)


def test_what_cannot_be_recorded_is_told_at_once(tmp_path: Path) -> None:
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


def test_a_file_stays_until_there_is_a_recording_to_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"precious")
    with MediaPair() as pair:
        pair.stream.record(path).stop()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    with MediaPair() as pair:
        pair.stream.record(tmp_path / "film.mp4").stop()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("decode", [True, False])
def test_a_media_player_of_aiortc_may_be_shared(tmp_path: Path, decode: bool) -> None:
    path = tmp_path / "film.webm"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libvpx", rate=FPS, options={"g": "1"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for index in range(5 * FPS):
            frame = av.VideoFrame.from_ndarray(plain(RED), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    player = MediaPlayer(str(path), decode=decode, loop=decode)
    assert player.video is not None
    with MediaPair() as pair:
        (remote,) = pair.share(player.video)
        assert shows(remote.read(timeout=10), RED, 40)
        pair.run_on_loop(player.video.stop)


def test_a_remote_track_may_be_shared_on() -> None:
    source = VideoTrack.from_frames(itertools.repeat(plain(GREEN)))
    with MediaPair() as first, MediaPair() as second:
        (remote,) = first.share(source)
        (again,) = second.share(remote)
        assert shows(again.read(timeout=10), GREEN)
        assert shows(remote.read(timeout=10), GREEN)
        times = [remote.recv(timeout=10).time or 0.0 for _ in range(10)]
        assert times == sorted(times)
