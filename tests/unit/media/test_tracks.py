"""Tests of local tracks over a real connection, seen and heard by the remote peer."""

from __future__ import annotations

import itertools
import sys
import threading
from time import monotonic
from typing import Any

import numpy as np
import pytest

from artico_sync.errors import ArticoTimeoutError, MediaError
from artico_sync.media import (
    AudioTrack,
    VideoTrack,
)
from artico_sync.media._frames import (
    to_array,
)
from tests.call_media import read_sound, wait_for_color
from tests.media_content import (
    BLUE,
    GREEN,
    RED,
    frequency_of,
    loudness,
    plain,
    shows,
    tone,
)
from tests.media_pair import MediaPair


class Writer(threading.Thread):
    """Writes the same picture until its track ends."""

    def __init__(self, track: VideoTrack, picture: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.track = track
        self.picture = picture
        self.start()

    def run(self) -> None:
        while not self.track.ended:
            try:
                self.track.write(self.picture)
            except MediaError:
                return


def read_clear_sound(remote: Any, frequency: float) -> Any:
    """Read half a second of a tone without a stall; after 20 seconds, whatever arrives."""
    end = monotonic() + 20
    while True:
        sound = read_sound(remote, 0.5)
        clear = abs(frequency_of(sound) - frequency) < 6 and loudness(sound) > 4000
        if clear or monotonic() > end:
            return sound


def test_a_written_picture_arrives_with_its_color_size_and_id() -> None:
    track = VideoTrack(fps=30)
    writer = Writer(track, plain(RED))
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        picture = remote.read(timeout=10)
        assert picture.shape == (120, 160, 3)
        assert shows(picture, RED)
        assert (remote.kind, remote.id, remote.ended) == ("video", track.id, False)
        assert remote.stream is pair.stream
        writer.picture = plain(BLUE)
        wait_for_color(remote, BLUE, tolerance=25)
        assert shows(remote.snapshot(), BLUE)
    assert remote.ended
    with pytest.raises(MediaError):
        while True:
            remote.recv(timeout=1)
    track.stop()
    writer.join(5)


def test_timestamps_keep_to_the_rate() -> None:
    track = VideoTrack.from_frames(itertools.repeat(plain(RED)), fps=20)
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        times = [remote.recv(timeout=10).time for _ in range(12)]
    steps = np.diff([time for time in times if time is not None])
    # On a slow machine some steps are longer, never shorter.
    assert steps.min() > 0.049
    assert abs(np.median(steps) - 0.05) < 0.001


def test_writing_is_paced_while_no_call_shares_the_track() -> None:
    track = VideoTrack(fps=50)
    picture = plain(RED)
    start = monotonic()
    for _ in range(20):
        track.write(picture)
    assert 0.38 <= monotonic() - start < 5


@pytest.mark.slow
def test_a_burst_after_a_stall_keeps_the_pace() -> None:
    track = VideoTrack(fps=50)
    picture = plain(RED)
    track.write(picture)
    threading.Event().wait(0.5)
    start = monotonic()
    for _ in range(10):
        track.write(picture)
    assert monotonic() - start >= 0.14


def test_the_size_may_change() -> None:
    track = VideoTrack(fps=30)
    writer = Writer(track, plain(RED, 160, 120))
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        assert remote.read(timeout=10).shape == (120, 160, 3)
        writer.picture = plain(GREEN, 321, 239)
        while (picture := remote.read(timeout=10)).shape != (239, 321, 3):
            pass
        assert shows(picture, GREEN)
    track.stop()
    writer.join(5)


@pytest.mark.slow
def test_a_still_picture_written_once_reaches_late_readers() -> None:
    track = VideoTrack(fps=30)
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        with pytest.raises(ArticoTimeoutError):
            remote.recv(timeout=0.1)
        track.write(plain(GREEN))
        assert shows(remote.read(timeout=20), GREEN)
        assert shows(remote.snapshot(timeout=20), GREEN)


def test_disabled_video_is_black_until_enabled() -> None:
    track = VideoTrack(fps=30)
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        track.write(plain(RED))
        wait_for_color(remote, RED, tolerance=25)
        track.enabled = False
        wait_for_color(remote, (0, 0, 0), tolerance=25)
        track.enabled = True
        track.write(plain(RED))
        wait_for_color(remote, RED, tolerance=25)


@pytest.mark.parametrize(
    ("rate", "channels", "kind"),
    [(44100, 1, np.int16), (48000, 2, np.float32), (8000, 1, np.int16)],
)
def test_a_tone_arrives_with_its_frequency(rate: int, channels: int, kind: type) -> None:
    wave = tone(440, 1, rate, channels)
    samples = wave.astype(np.float32) / 32768 if kind is np.float32 else wave
    size = 1024
    chunks = itertools.cycle([samples[i : i + size] for i in range(0, len(samples), size)])
    track = AudioTrack.from_chunks(chunks, rate=rate, channels=channels)
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        sound = read_clear_sound(remote, 440)
    assert sound.shape[1] == 2 and sound.dtype == np.int16
    assert abs(frequency_of(sound) - 440) < 6
    assert loudness(sound) > 4000


@pytest.mark.slow
def test_a_pause_between_writes_is_silent() -> None:
    track = AudioTrack()
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        with pytest.raises(ArticoTimeoutError):
            remote.recv(timeout=0.05)
        track.write(tone(500, 0.3))
        frames = [remote.recv(timeout=10) for _ in range(30)]
        track.write(tone(500, 0.3))
        frames.append(remote.recv(timeout=10))
        while loudness(to_array(frames[-1])) <= 4000:
            frames.append(remote.recv(timeout=10))
    steps = np.diff([frame.pts or 0 for frame in frames])
    # A slow machine may leave a gap; the timestamps always increase.
    assert steps.min() == np.median(steps) == 960
    levels = [loudness(to_array(frame)) for frame in frames]
    assert min(levels) < 500 and max(levels[:10]) > 4000


@pytest.mark.slow
def test_writing_sound_blocks_until_little_is_left_to_play() -> None:
    track = AudioTrack(rate=16000)
    start = monotonic()
    track.write(tone(440, 1.0, 16000))
    assert 0.8 <= monotonic() - start < 5


@pytest.mark.logs_errors
def test_an_exception_in_a_function_ends_its_track_only(caplog: pytest.LogCaptureFixture) -> None:
    pictures = iter([plain(RED)] * 3)
    failing = VideoTrack.from_frames(lambda: next(pictures), fps=30)
    fine = VideoTrack.from_frames(itertools.repeat(plain(GREEN)), fps=30)
    with MediaPair() as pair:
        _, remote = pair.share(failing, fine)
        assert shows(remote.read(timeout=10), GREEN)
        end = monotonic() + 5
        while not pair.errors and monotonic() < end:
            remote.recv(timeout=5)
        assert shows(remote.read(timeout=10), GREEN)
    assert failing.ended and not fine.ended
    assert "StopIteration" in str(pair.errors[0])
    assert "StopIteration" in caplog.text


@pytest.mark.logs_errors
def test_system_exit_in_a_function_ends_its_track_only() -> None:
    track = VideoTrack.from_frames(lambda: sys.exit(3), fps=30)
    with MediaPair() as pair:
        pair.share(track)
        end = monotonic() + 5
        while not pair.errors and monotonic() < end:
            threading.Event().wait(0.01)
    assert track.ended and "SystemExit(3)" in str(pair.errors[0])


@pytest.mark.slow
def test_an_iterable_that_ends_ends_the_track() -> None:
    track = VideoTrack.from_frames([plain(RED)] * 150, fps=50)
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        assert shows(remote.read(timeout=10), RED)
        end = monotonic() + 15
        while not track.ended and monotonic() < end:
            threading.Event().wait(0.01)
        assert track.ended
        assert pair.errors == []


def test_stopping_ends_a_write_in_progress_and_later_writes_raise() -> None:
    track = AudioTrack()
    sound = tone(440, 5.0)
    # The first write imports and creates as much as takes as long as the timer.
    track.write(sound[:960])
    timer = threading.Timer(0.5, track.stop)
    timer.start()
    start = monotonic()
    track.write(sound)
    assert monotonic() - start < 4
    timer.join()
    with pytest.raises(MediaError):
        track.write(tone(440, 0.1))


def test_a_map_function_runs_on_a_worker_and_its_results_are_sent() -> None:
    names: set[str] = set()

    def invert(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        names.add(threading.current_thread().name)
        return 255 - picture

    source = VideoTrack.from_frames(itertools.repeat(plain(RED)), fps=30)
    with MediaPair() as there, MediaPair() as back:
        (remote,) = there.share(source)
        (seen,) = back.share(remote.map(invert))
        assert shows(seen.read(timeout=10), (55, 225, 225))
    assert names == {"artico_sync-map"}


@pytest.mark.slow
def test_sound_can_be_mapped() -> None:
    source = AudioTrack.from_chunks(itertools.repeat(tone(1000, 0.1)))
    with MediaPair() as there, MediaPair() as back:
        (remote,) = there.share(source)
        (heard,) = back.share(remote.map(lambda sound: sound // 2))
        assert abs(frequency_of(read_clear_sound(heard, 1000)) - 1000) < 6


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("picture", TypeError),
        (np.zeros((10, 10, 3), np.float32), TypeError),
        (np.zeros((10, 10), np.uint8), ValueError),
        (np.zeros((10, 10, 4), np.uint8), ValueError),
        (np.zeros((0, 10, 3), np.uint8), ValueError),
    ],
)
def test_invalid_pictures_raise(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        VideoTrack().write(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"sound", TypeError),
        (np.zeros((10, 1), np.float64), TypeError),
        (np.zeros((10, 2), np.int16), ValueError),
        (np.zeros((0, 1), np.int16), ValueError),
    ],
)
def test_invalid_sounds_raise(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        AudioTrack().write(value)


async def never_awaited(*_: object) -> Any:
    raise AssertionError("this is never awaited")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: VideoTrack(fps=0), ValueError),
        (lambda: VideoTrack(fps="30"), TypeError),  # type: ignore[arg-type]
        (lambda: VideoTrack(bitrate=-1), ValueError),
        (lambda: VideoTrack(bitrate=1.5), TypeError),  # type: ignore[arg-type]
        (lambda: VideoTrack(codec="H266"), ValueError),
        (lambda: AudioTrack(rate=100), ValueError),
        (lambda: AudioTrack(channels=3), ValueError),
        (lambda: AudioTrack(rate=44100.0), TypeError),  # type: ignore[arg-type]
        (lambda: VideoTrack.from_frames(5), TypeError),  # type: ignore[arg-type]
        (lambda: VideoTrack.from_frames(never_awaited), TypeError),
        (lambda: AudioTrack.from_chunks(never_awaited), TypeError),
    ],
)
def test_invalid_arguments_of_tracks_raise(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("mapper", [5, None, never_awaited], ids=["5", "None", "async"])
def test_map_refuses_what_is_not_a_plain_function(kind: str, mapper: Any) -> None:
    with MediaPair() as pair:
        if kind == "video":
            (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(plain(RED))))
        else:
            (remote,) = pair.share(AudioTrack.from_chunks(itertools.repeat(tone(440, 0.1))))
        remote.recv(timeout=10)
        with pytest.raises(TypeError, match="function"):
            remote.map(mapper)
