"""Uses of a page's pictures and sounds: camera, recording, sending back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from artico_sync import Call, MediaStream
from artico_sync.media import RemoteTrack, RemoteVideoTrack
from tests.browser.browser_media import PageMedia, page_camera, page_stream
from tests.browser.conftest import MakeBrowserPeer
from tests.call_media import LIMIT, pictures, read_sound, remote_track, wait_for_color
from tests.conftest import TIME_UNIT, MakeArtico
from tests.media_content import BLUE, GREEN, RED, Film, frequency_of, loudness, shows


@pytest.fixture
def ends(make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer) -> tuple[Call, PageMedia]:
    """Both ends of a call that a page places."""
    rtco = make_artico("python")
    page_call = make_browser_peer("page").call("python")
    call = rtco.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    return call, PageMedia(page_call.wait_open())


def test_the_camera_and_microphone_of_a_page(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    camera = page_camera(page.call.peer)
    page.add_stream(camera, "camera")
    video = remote_track(call, camera.id, "video")
    audio = remote_track(call, camera.id, "audio")
    first = video.read(LIMIT)
    # Browsers begin small where they do not know the network yet.
    assert first.shape[2] == 3 and first.shape[1] * 3 == first.shape[0] * 4
    assert first.std() > 10
    moved = any(
        later.shape != first.shape or np.abs(later.astype(int) - first).mean() > 1
        for later in (video.read(LIMIT) for _ in range(30))
    )
    assert moved
    assert loudness(read_sound(audio, 1.5)) > 50


def test_a_page_gets_its_picture_back_changed(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    back = MediaStream()

    @call.on("track")
    def invert(track: RemoteTrack) -> None:
        if track.kind == "video":
            call.add_track(track.map(lambda picture: 255 - picture), back)

    shared = page_stream(page.call.peer, GREEN)
    page.add_stream(shared)
    page.call.wait_event("track")
    ((id, _, ((_, track_id),)),) = page.streams
    assert id == back.id
    page.see(track_id, (255 - GREEN[0], 255 - GREEN[1], 255 - GREEN[2]))


def test_a_page_is_recorded_and_photographed(ends: tuple[Call, PageMedia], tmp_path: Path) -> None:
    call, page = ends
    shared = page_stream(page.call.peer, BLUE, 660)
    page.add_stream(shared, "to record")
    video = remote_track(call, shared.id, "video")
    remote_track(call, shared.id, "audio")
    wait_for_color(video, BLUE)
    with call.streams[0].record(tmp_path / "page.mp4"):
        assert not threading.Event().wait(4.0)
    seen = Film(tmp_path / "page.mp4")
    assert 1.2 < seen.duration < 4 + 3 * TIME_UNIT
    assert shows(seen.pictures[-1][1], BLUE, 40)
    assert abs(frequency_of(seen.sound[-30000:-6000]) - 660) < 8
    assert shows(video.snapshot(LIMIT), BLUE, 40)
    assert isinstance(video, RemoteVideoTrack)
    assert video.png(LIMIT).startswith(b"\x89PNG")


def test_two_pages_see_one_track_produced_once(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")
    stream = MediaStream([pictures(RED)])

    @rtco.on("call")
    def share(call: Call) -> None:
        call.add_stream(stream, "one for all")
        call.answer()

    calls = [
        PageMedia(make_browser_peer(name).call("python").wait_open()) for name in ("one", "two")
    ]
    for page in calls:
        page.see(stream.tracks[0].id, RED)
        assert page.streams[0][:2] == (stream.id, "one for all")
    calls[0].call.hangup()
    calls[1].see(stream.tracks[0].id, RED)
