"""Colours and tones from Python recognised in a page, and from a page in Python."""

from __future__ import annotations

import pytest

from artico_sync import Call, MediaStream
from tests.browser.browser_media import PageMedia, page_stream
from tests.browser.conftest import MakeBrowserPeer
from tests.call_media import (
    LIMIT,
    MediaLog,
    describe_streams,
    film,
    pictures,
    remote_track,
    rtp_streams,
    sharing_events,
    sound,
    unsharing_events,
    wait_for_color,
    wait_for_tone,
)
from tests.conftest import MakeArtico
from tests.media_content import BLUE, GREEN, RED
from tests.polling import wait_until

YELLOW = (220, 200, 30)


@pytest.fixture(params=["python", "page"])
def ends(
    request: pytest.FixtureRequest, make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> tuple[Call, PageMedia]:
    """Both ends of an open call between Python and a page, whichever placed it."""
    rtco = make_artico("python")
    page = make_browser_peer("page", answer=True)
    if request.param == "python":
        call = rtco.call("page").wait_open(LIMIT)
        page_call = page.wait_call()
    else:
        page_call = page.call("python")
        call = rtco.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    return call, PageMedia(page_call.wait_open())


def test_a_page_sees_and_hears_python(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    stream = film(RED, 440)
    video, audio = stream.tracks
    call.add_stream(stream, "of Python")
    page.see(video.id, RED)
    page.hear(audio.id, 440)
    tracks = sorted((track.kind, track.id) for track in stream.tracks)
    assert page.streams == [(stream.id, "of Python", tracks)]
    # The page may get a `stream` event with each track, but one `track` event for each.
    assert [entry for entry in page.events() if entry[0] == "track"] == [
        ("track", track.kind, track.id, stream.id, "of Python") for track in stream.tracks
    ]
    call.replace_track(video, blue := pictures(BLUE))
    page.see(video.id, BLUE)
    call.remove_track(blue)
    wait_until(lambda: page.streams == [(stream.id, "of Python", tracks[:1])], "no video", LIMIT)
    page.hear(audio.id, 440)
    call.remove_stream(stream)
    wait_until(lambda: page.streams == [], "no stream", LIMIT)
    assert page.events()[-1] == ("removestream", stream.id, "of Python")
    assert page.errors == []


def test_python_sees_and_hears_a_page(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    log = MediaLog(call)
    stream = page_stream(page.call.peer, GREEN, 660)
    page.add_stream(stream, "of the page")
    wait_until(lambda: len(log.entries) == 3, "the stream", LIMIT)
    expected = [("track", kind, stream.tracks[kind], stream.id) for kind in ("audio", "video")]
    # The metadata is not sent with the stream, and arrives after it on a busy machine.
    assert log.entries[0][:2] == ("stream", stream.id)
    assert [entry[:4] for entry in sorted(log.entries[1:], key=str)] == expected
    wait_metadata(call, "of the page")
    wait_for_color(remote_track(call, stream.id, "video"), GREEN)
    wait_for_tone(remote_track(call, stream.id, "audio"), 660)
    (numbers,) = rtp_streams(call, "inbound", "video")
    assert numbers["codec"] in ("VP8", "H264")
    assert numbers["frames_decoded"] > 0
    page.remove_track(stream, "video")
    log.wait_for(("removetrack", "video", stream.tracks["video"], stream.id, "of the page"))
    wait_for_tone(remote_track(call, stream.id, "audio"), 660)
    page.remove_stream(stream)
    log.wait_for(("removestream", stream.id, "of the page"))
    assert call.streams == ()


def test_both_ways_at_once_and_again(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    log = MediaLog(call)
    mine, from_page = film(RED, 440), page_stream(page.call.peer, BLUE, 880)
    for round in range(3):
        call.add_stream(mine, f"python {round}")
        page.add_stream(from_page, f"page {round}")
        log.wait_for_any("stream", round + 1)
        wait_metadata(call, f"page {round}")
        page.see(mine.tracks[0].id, RED)
        wait_for_color(remote_track(call, from_page.id, "video"), BLUE)
        page.hear(mine.tracks[1].id, 440)
        wait_for_tone(remote_track(call, from_page.id, "audio"), 880)
        assert page.streams[0][:2] == (mine.id, f"python {round}")
        page.remove_stream(from_page)
        call.remove_stream(mine)
        log.wait_for(("removestream", from_page.id, f"page {round}"))
        wait_until(lambda: page.streams == [], "no stream in the page", LIMIT)
    assert log.errors == []


def test_a_page_adds_a_stream_while_it_answers_an_offer(
    ends: tuple[Call, PageMedia],
) -> None:
    call, page = ends
    mine, from_page = film(RED, 440), page_stream(page.call.peer, BLUE, 880)
    page.add_stream_before_answer(from_page, "of the page")
    call.add_stream(mine, "of Python")
    wait_for_color(remote_track(call, from_page.id, "video"), BLUE)
    wait_for_tone(remote_track(call, from_page.id, "audio"), 880)
    page.see(mine.tracks[0].id, RED)
    page.hear(mine.tracks[1].id, 440)
    assert [stream.metadata for stream in call.streams] == ["of the page"]
    assert page.errors == []


def wait_metadata(call: Call, metadata: str) -> None:
    """Wait until what the page shares is one stream, described so."""
    wait_until(lambda: [one.metadata for one in call.streams] == [metadata], metadata, LIMIT)


def test_metadata_comes_after_the_stream_it_is_of(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    log = MediaLog(call)
    stream = page_stream(page.call.peer, frequency=440)
    # Neither the first time nor later is it lost, whatever was said of the stream before.
    for metadata, before in (("first", None), ("second", "first")):
        with page.metadata_held():
            page.add_stream(stream, metadata)
            log.wait_for(("stream", stream.id, before))
        wait_metadata(call, metadata)
        track = call.streams[0].tracks[0].id
        page.remove_stream(stream)
        log.wait_for(("removestream", stream.id, metadata))
        log.wait(
            ("stream", stream.id, before),
            ("track", "audio", track, stream.id, before),
            ("removetrack", "audio", track, stream.id, metadata),
            ("removestream", stream.id, metadata),
        )
    assert (log.errors, page.errors) == ([], [])


def test_metadata_of_a_stream_that_was_shared_again_before_it_could_go(
    ends: tuple[Call, PageMedia],
) -> None:
    call, page = ends
    stream = page_stream(page.call.peer, frequency=440)
    page.add_stream_twice(stream, "first", "second")
    wait_metadata(call, "second")
    wait_for_tone(remote_track(call, stream.id, "audio"), 440)
    page.remove_stream(stream)
    wait_until(lambda: call.streams == (), "no stream", LIMIT)
    assert page.errors == []


def test_a_second_stream_beside_the_first(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    log = MediaLog(call)
    first, second = film(RED, 440), MediaStream([pictures(BLUE)])
    call.add_stream(first, "first")
    call.add_stream(second, "second")
    page.see(second.tracks[0].id, BLUE)
    page.see(first.tracks[0].id, RED)
    shared, other = (
        page_stream(page.call.peer, GREEN),
        page_stream(page.call.peer, YELLOW, 550),
    )
    page.add_stream(shared, "green")
    page.add_stream(other, "yellow")
    wait_for_color(remote_track(call, shared.id, "video"), GREEN)
    wait_for_color(remote_track(call, other.id, "video"), YELLOW)
    wait_for_tone(remote_track(call, other.id, "audio"), 550)
    call.remove_stream(first)
    page.remove_stream(shared)
    log.wait_for(("removestream", shared.id, "green"))
    wait_until(lambda: len(page.streams) == 1, "one stream in the page", LIMIT)
    page.see(second.tracks[0].id, BLUE)
    wait_for_color(remote_track(call, other.id, "video"), YELLOW)
    assert [stream.id for stream in call.streams] == [other.id]


def test_what_is_shared_before_the_call_opens(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer
) -> None:
    rtco = make_artico("python")
    page = make_browser_peer("page", answer=True)
    call = rtco.call("page")
    stream = film(BLUE, 440)
    call.add_stream(stream, "early")
    page_media = PageMedia(page.wait_call())
    page_media.see(stream.tracks[0].id, BLUE)
    page_media.hear(stream.tracks[1].id, 440)
    assert page_media.streams[0][:2] == (stream.id, "early")
    call.hangup()
    page_media.call.wait_closed()


def test_a_track_added_to_a_stream_that_is_there(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    stream, tone = MediaStream([pictures(RED)]), sound(440)
    call.add_stream(stream, "growing")
    page.see(stream.tracks[0].id, RED)
    call.add_track(tone, stream)
    page.hear(tone.id, 440)
    tracks = sorted([("video", stream.tracks[0].id), ("audio", tone.id)])
    assert page.streams == [(stream.id, "growing", tracks)]
    assert page.events()[-1] == ("track", "audio", tone.id, stream.id, "growing")
    from_page = page_stream(page.call.peer, GREEN, 660)
    page.add_track(from_page, "video")
    wait_for_color(remote_track(call, from_page.id, "video"), GREEN)
    page.add_track(from_page, "audio")
    wait_for_tone(remote_track(call, from_page.id, "audio"), 660)
    assert len(call.streams) == 1
    assert [kind for kind, _ in describe_streams(call)[0][2]] == ["audio", "video"]


def test_the_end_of_a_track_reaches_the_page(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    stream = film(RED, 440)
    call.add_stream(stream)
    page.see(stream.tracks[0].id, RED)
    stream.stop()
    wait_until(lambda: page.streams == [], "no stream in the page", LIMIT)
    call.add_stream(again := film(BLUE, 880))
    page.see(again.tracks[0].id, BLUE)
    page.hear(again.tracks[1].id, 880)


@pytest.mark.parametrize("codec", ["VP8", "H264"])
def test_a_page_decodes_the_codec_wished_for(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, codec: str
) -> None:
    page = make_browser_peer("page", answer=True)
    call = make_artico("python").call("page").wait_open(LIMIT)
    track = pictures(GREEN, codec=codec)
    call.add_stream(MediaStream([track]))
    PageMedia(page.wait_call()).see(track.id, GREEN)
    assert rtp_streams(call, "outbound", "video")[0]["codec"] == codec


def test_python_and_a_page_get_the_same_events(ends: tuple[Call, PageMedia]) -> None:
    call, page = ends
    stream = MediaStream([pictures(RED)])
    call.add_stream(stream, "one")
    wait_until(lambda: len(page.events()) >= 2, "the stream", LIMIT)
    call.remove_stream(stream)
    wait_until(lambda: len(page.events()) >= 4, "the end of the stream", LIMIT)
    assert page.events() == [*sharing_events(stream, "one"), *unsharing_events(stream, "one")]
