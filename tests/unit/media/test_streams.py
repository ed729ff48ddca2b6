"""Tests of streams of any tracks, and of what importing and leaving them costs."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from aiortc import VideoStreamTrack
from aiortc.contrib.media import MediaPlayer

from artico_sync.media import (
    MediaStream,
    VideoTrack,
)
from tests.media_content import (
    FILM_FPS,
    RED,
    plain,
    shows,
)
from tests.media_pair import MediaPair


def run_script(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


def test_importing_the_package_imports_no_heavy_dependency() -> None:
    done = run_script(
        "import sys, artico_sync.media as media\n"
        "media.MediaStream([media.VideoTrack(), media.AudioTrack()])\n"
        "print([n for n in ('numpy', 'av', 'aiortc') if n in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_a_script_that_leaves_tracks_running_exits_at_once_and_silently() -> None:
    done = run_script(
        "import itertools, numpy\n"
        "from artico_sync import *\n"
        "server = ArticoServer(port=0).start()\n"
        "quiet = {'iceServers': []}\n"
        "alice = Artico(server.url, id='alice', rtc_config=quiet).connect()\n"
        "bob = Artico(server.url, id='bob', rtc_config=quiet).connect()\n"
        "bob.on('call', lambda call: call.answer())\n"
        "call = alice.call('bob').wait_open()\n"
        "picture = numpy.zeros((240, 320, 3), numpy.uint8)\n"
        "sound = numpy.zeros((48000, 1), numpy.int16)\n"
        "video = VideoTrack.from_frames(itertools.repeat(picture))\n"
        "audio = AudioTrack.from_chunks(itertools.repeat(sound))\n"
        "call.add_stream(MediaStream([video, audio]))\n"
        "stream = bob.calls[0].wait_for('stream', timeout=10)\n"
        "seen, heard = stream.video_tracks[0], stream.audio_tracks[0]\n"
        "bob.calls[0].add_stream(MediaStream([seen.map(lambda picture: picture)]))\n"
        "seen.recv(timeout=10), heard.recv(timeout=10)\n"
        "raise SystemExit(7)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@pytest.mark.parametrize(
    ("tracks", "id", "error"),
    [
        (["track"], None, TypeError),
        ([], 5, TypeError),
        ([], "two words", ValueError),
        ([], "", ValueError),
        ([], "x" * 65, ValueError),
    ],
)
def test_invalid_streams_raise(
    tracks: Any, id: Any, error: type[Exception]
) -> None:  # fmt: skip
    with pytest.raises(error):
        MediaStream(tracks, id=id)


def test_a_stream_holds_a_track_once_and_stops_it() -> None:
    track = VideoTrack()
    with pytest.raises(ValueError):
        MediaStream([track, track])
    stream = MediaStream([track], id="mine")
    assert (stream.id, stream.tracks, stream.video_tracks) == ("mine", (track,), (track,))
    assert (stream.audio_tracks, stream.metadata) == ((), None)
    stream.stop()
    assert track.ended


def test_any_aiortc_track_can_be_shared() -> None:
    with MediaPair() as pair:
        (remote,) = pair.share(VideoStreamTrack())
        assert remote.read(timeout=10).shape == (480, 640, 3)


@pytest.mark.slow
@pytest.mark.parametrize("decode", [True, False])
def test_a_media_player_of_aiortc_can_be_shared(tmp_path: Path, decode: bool) -> None:
    path = tmp_path / "film.webm"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libvpx", rate=FILM_FPS, options={"g": "1"})
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for index in range(5 * FILM_FPS):
            frame = av.VideoFrame.from_ndarray(plain(RED), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FILM_FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    player = MediaPlayer(str(path), decode=decode, loop=decode)
    assert player.video is not None
    with MediaPair() as pair:
        (remote,) = pair.share(player.video)
        assert shows(remote.read(timeout=10), RED, 40)
        pair.run_on_loop(player.video.stop)
