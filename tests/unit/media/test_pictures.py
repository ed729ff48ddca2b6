"""What a notebook shows of a track, and what is missing without NumPy and IPython."""

from __future__ import annotations

import itertools
import subprocess
import sys
import types
from io import BytesIO
from typing import Any

import av
import pytest

from artico_sync.media import MediaStream, RemoteVideoTrack, VideoTrack
from tests.media_content import GREEN, plain, shows
from tests.media_pair import MediaPair


def decoded(data: bytes) -> Any:
    with av.open(BytesIO(data), "r") as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_a_notebook_shows_the_picture_of_a_track() -> None:
    track = VideoTrack.from_frames(itertools.repeat(plain(GREEN)))
    with MediaPair() as pair:
        (remote,) = pair.share(track)
        assert isinstance(remote, RemoteVideoTrack)
        remote.recv(timeout=10)
        data = remote._repr_png_()
        assert data is not None and data.startswith(b"\x89PNG")
        assert shows(decoded(data), GREEN)
    assert remote._repr_png_() is None


def test_display_updates_a_cell_until_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, picture: Any) -> None:
            shown.append(picture)
            if len(shown) == 5:
                raise KeyboardInterrupt

    def display(picture: Any, display_id: bool) -> Handle:
        shown.append(picture)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    module.Image = lambda data, format: data  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(plain(GREEN))))
        assert isinstance(remote, RemoteVideoTrack)
        remote.display()
        assert len(shown) == 5
        assert all(shows(decoded(data), GREEN) for data in shown)
        shown.clear()
        remote.display(timeout=0.05)


def test_display_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(plain(GREEN))))
        assert isinstance(remote, RemoteVideoTrack)
        remote.recv(timeout=10)
        with pytest.raises(ImportError, match="IPython"):
            remote.display()


def test_without_numpy_frames_work_and_arrays_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = av.VideoFrame.from_ndarray(plain(GREEN), format="rgb24")
    with MediaPair() as pair:
        (remote,) = pair.share(VideoTrack.from_frames(itertools.repeat(picture)))
        assert isinstance(remote, RemoteVideoTrack)
        monkeypatch.setitem(sys.modules, "numpy", None)
        assert remote.recv(timeout=10) is not None
        assert remote.png().startswith(b"\x89PNG")
        for method in (remote.read, remote.snapshot, lambda: remote.map(abs)):
            with pytest.raises(ImportError, match="pip install numpy"):
                method()


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )


def test_the_facade_imports_nothing_heavy() -> None:
    done = run(
        "import sys, artico_sync.media as media\n"
        "media.MediaStream([media.VideoTrack(), media.AudioTrack()])\n"
        "print([n for n in ('numpy', 'av', 'aiortc') if n in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_script_that_forgets_its_tracks_exits_at_once_and_quietly() -> None:
    done = run(
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
def test_bad_streams_are_refused_at_once(
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
