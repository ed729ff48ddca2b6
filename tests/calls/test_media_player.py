"""aiortc's MediaPlayer shared on calls: it stops with its tracks, and logs nothing."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import pytest
from aiortc.contrib.media import MediaPlayer

from artico_sync import MediaStream
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.media.streams import Track
from tests.call_media import LIMIT, wait_for_color
from tests.conftest import MakeArtico
from tests.media_content import RED, plain

PROGRAM = """
import logging, sys, threading
from aiortc.contrib.media import MediaPlayer
from artico_sync import Artico, MediaStream, MemoryHub
# Development mode also reports callbacks that are slow on a busy machine.
logging.getLogger("asyncio").setLevel(logging.ERROR)

hub = MemoryHub()
alice, bob = (Artico(signaling=hub.signaling(name)).connect() for name in ("alice", "bob"))
call = alice.call("bob")
answered = bob.wait_for("call", timeout=10).answer()
player = MediaPlayer(sys.argv[1], loop=True)
call.add_stream(MediaStream([player.video, player.audio]))
answered.wait_for("track", timeout=10).recv(timeout=10)
if sys.argv[2] == "close":
    alice.close()
    bob.close()
    assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
    assert player.video.readyState == "ended"
print("done")
"""


@pytest.fixture(scope="module")
def film_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of red with silence."""
    path = tmp_path_factory.mktemp("player") / "film.webm"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx", rate=30)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("libopus", rate=48000, layout="stereo")
        assert isinstance(audio, av.AudioStream)
        for index in range(90):
            picture = av.VideoFrame.from_ndarray(plain(RED), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 30)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for index in range(150):
            sound = av.AudioFrame(format="s16", layout="stereo", samples=960)
            sound.planes[0].update(bytes(sound.planes[0].buffer_size))
            sound.rate, sound.pts, sound.time_base = 48000, index * 960, Fraction(1, 48000)
            container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path


def stream_of(player: MediaPlayer) -> MediaStream:
    assert player.video is not None and player.audio is not None
    return MediaStream([player.video, player.audio])


@pytest.mark.slow
@pytest.mark.parametrize("end", ["close", "exit"])
def test_a_player_that_still_plays_ends_in_silence(film_path: Path, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, str(film_path), end],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "done\n", 0)


def test_a_player_shared_again_goes_on(film_path: Path, make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    stream = stream_of(MediaPlayer(str(film_path), loop=True))
    for _ in range(2):
        call = alice.call(bob.id)
        with bob.wait_for("call", LIMIT).answer() as answered:
            call.wait_open(LIMIT).add_stream(stream)
            wait_for_color(answered.wait_for("stream", LIMIT).video_tracks[0], RED)
    assert not stream.ended
    stream.stop()


def test_stopping_a_player_ends_it_for_the_peer(film_path: Path, make_artico: MakeArtico) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    with bob.wait_for("call", LIMIT).answer() as answered:
        stream = stream_of(MediaPlayer(str(film_path), loop=True))
        call.add_stream(stream)
        wait_for_color(answered.wait_for("stream", LIMIT).video_tracks[0], RED)
        stream.stop()
        assert answered.wait_for("removestream", LIMIT).id == stream.id
        assert "media-player" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("closing", [False, True], ids=["two stop", "one closes"])
def test_threads_that_stop_a_player_at_once_do_not_disturb_each_other(
    film_path: Path, make_artico: MakeArtico, closing: bool
) -> None:
    """aiortc would close the file twice, which ends the interpreter."""
    alice, bob = make_artico(), make_artico()
    player = MediaPlayer(str(film_path), loop=True)
    call = alice.call(bob.id)
    with bob.wait_for("call", LIMIT).answer() as answered:
        call.wait_open(LIMIT).add_stream(stream_of(player))
        wait_for_color(answered.wait_for("stream", LIMIT).video_tracks[0], RED)
        together = threading.Barrier(2)

        def stop(track: Track | None) -> None:
            assert track is not None
            together.wait(LIMIT)
            MediaStream([track]).stop()

        def close() -> None:
            together.wait(LIMIT)
            alice.close()

        with ThreadPoolExecutor(2, thread_name_prefix="stopper") as pool:
            jobs = [pool.submit(stop, player.video)]
            jobs.append(pool.submit(close) if closing else pool.submit(stop, player.audio))
            for job in jobs:
                job.result(LIMIT)
        stream_of(player).stop()
        assert "media-player" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.slow
def test_a_player_that_comes_to_its_end_may_be_stopped_at_that_moment(
    film_path: Path, make_artico: MakeArtico
) -> None:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    with bob.wait_for("call", LIMIT).answer() as answered:
        stream = stream_of(MediaPlayer(str(film_path)))
        call.wait_open(LIMIT).add_stream(stream)
        wait_for_color(answered.wait_for("stream", LIMIT).video_tracks[0], RED)
        deadline = Deadline(LIMIT)
        while not stream.ended:
            assert not deadline.expired
        stream.stop()
        assert answered.wait_for("removestream", LIMIT).id == stream.id
