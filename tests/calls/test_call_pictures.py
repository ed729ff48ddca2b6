"""Pictures of a call's streams in notebooks, and calls with pictures without NumPy."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import av
import av.container
import pytest

from artico_sync import Call, MediaStream
from artico_sync.media import RemoteVideoTrack
from tests.call_media import (
    LIMIT,
    MediaLog,
    film,
    pictures,
    sharing_events,
    start_thread,
    unsharing_events,
)
from tests.command_line import running
from tests.conftest import MakeArtico
from tests.media_content import BLUE, GREEN, RED, shows
from tests.polling import wait_until


def open_pair(make_artico: MakeArtico) -> tuple[Call, Call]:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    answered = bob.wait_for("call", LIMIT).answer()
    return call.wait_open(LIMIT), answered.wait_open(LIMIT)


def decoded(data: bytes) -> Any:
    with av.open(io.BytesIO(data)) as container:
        assert isinstance(container, av.container.InputContainer)
        (frame,) = container.decode(video=0)
        return frame.to_ndarray(format="rgb24")


class Cell:
    """Stands for the cell of a notebook: what is shown in it."""

    def __init__(self) -> None:
        self.shown: list[bytes] = []

    def display(self, picture: Any, *, display_id: bool) -> Cell:
        assert display_id
        self.update(picture)
        return self

    def update(self, picture: Any) -> None:
        self.shown.append(picture.data)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    made = Cell()
    module: Any = types.ModuleType("IPython.display")
    module.display = made.display
    module.Image = lambda data, format: types.SimpleNamespace(data=data, format=format)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return made


def test_a_notebook_shows_what_a_call_brings(make_artico: MakeArtico, cell: Cell) -> None:
    alice, bob = open_pair(make_artico)
    log = MediaLog(bob)
    red = pictures(RED)
    stream = MediaStream([red])
    alice.add_stream(stream, "<b>camera</b>")
    log.wait(*sharing_events(stream, "<b>camera</b>"))
    (shared,) = bob.streams
    track = log.tracks[red.id]
    assert isinstance(track, RemoteVideoTrack)
    track.recv(LIMIT)
    data = track._repr_png_()
    assert data is not None and shows(decoded(data), RED, 40)
    page = shared._repr_html_()
    assert stream.id in page and "&lt;b&gt;camera&lt;/b&gt;" in page
    assert stream.id in bob._repr_html_()
    # Live, until the peer takes the track away.
    alice.replace_track(red, pictures(BLUE))
    watching = start_thread(track.display)
    wait_until(
        lambda: len(cell.shown) >= 3 and bool(shows(decoded(cell.shown[-1]), BLUE, 40)),
        "the blue picture",
        LIMIT,
    )
    alice.remove_stream(stream)
    log.wait(*unsharing_events(stream, "<b>camera</b>"))
    watching.join(LIMIT)
    assert not watching.is_alive()
    # A picture that cannot come any more leaves the text.
    assert track._repr_png_() is None
    assert "ended" in repr(track)


def test_the_end_of_the_call_ends_a_display(make_artico: MakeArtico, cell: Cell) -> None:
    alice, bob = open_pair(make_artico)
    log = MediaLog(bob)
    stream = film(GREEN, 440)
    alice.add_stream(stream)
    log.wait(*sharing_events(stream))
    track = log.tracks[stream.tracks[0].id]
    assert isinstance(track, RemoteVideoTrack)
    track.recv(LIMIT)
    watching = start_thread(track.display)
    alice.hangup()
    watching.join(LIMIT)
    assert not watching.is_alive()


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = None
import av
from artico_sync import Artico, ArticoServer, AudioTrack, MediaStream, VideoTrack

def picture():
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, (120, 90, 200)):
        plane.update(bytes([value]) * plane.buffer_size)
    return frame

def sound():
    frame = av.AudioFrame(format="s16", layout="mono", samples=960)
    frame.sample_rate = 48000
    frame.planes[0].update(bytes(1920))
    return frame

with ArticoServer(port=0) as server:
    options = {"rtc_config": {"iceServers": []}}
    with Artico(server.url, id="bob", **options) as bob, Artico(server.url, **options) as alice:
        bob.on("call", lambda call: call.answer())
        with alice.call("bob") as call:
            incoming = bob.calls[0]
            tracks = VideoTrack.from_frames(picture), AudioTrack.from_chunks(sound)
            call.add_stream(MediaStream(tracks))
            for _ in tracks:
                track = incoming.wait_for("track", 10)
                frame = track.recv(10)
                if track.kind == "video":
                    luma = bytes(frame.planes[0])[0]
                    assert abs(luma - 120) < 8 and track.png(10).startswith(b"\\x89PNG")
                for method in (track.read, track.snapshot, lambda: track.map(abs)):
                    try:
                        method()
                    except ImportError as error:
                        print(error)
print("done")
"""


@pytest.mark.slow
def test_a_call_without_numpy() -> None:
    with running(["-c", WITHOUT_NUMPY]) as program:
        assert program.wait() == 0, program.err.all()
        assert program.err.all() == []
        *errors, last = program.out.all()
    assert last == "done"
    assert len(errors) == 6
    assert all("pip install numpy" in error for error in errors)
