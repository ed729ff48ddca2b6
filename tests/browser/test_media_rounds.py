"""Both sides share and unshare at the same moment, again and again; it settles every time."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from artico_sync import Call, MediaStream
from artico_sync.media import AudioTrack, VideoTrack
from tests.browser.browser_media import PageMedia, PageStream, page_stream
from tests.browser.conftest import MakeBrowserPeer
from tests.browser.repetitions import rounds
from tests.call_media import (
    LIMIT,
    MediaLog,
    check_order,
    describe_streams,
    pictures,
    remote_track,
    wait_for_color,
)
from tests.conftest import MakeArtico
from tests.media_content import BLUE, GREEN, RED
from tests.polling import wait_until

ROUNDS = rounds(10)
KINDS = (("video",), ("audio",), ("video", "audio"))


def kinds_of(call: Call) -> list[tuple[str, str | None, list[str]]]:
    """Return the page's streams in Python: ids, metadata, and the kinds of their tracks."""
    return [(id, text, [kind for kind, _ in tracks]) for id, text, tracks in describe_streams(call)]


class Python:
    """Shares streams on its call."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.shared: list[tuple[MediaStream, str]] = []

    def make(self, kinds: tuple[str, ...]) -> MediaStream:
        return MediaStream([VideoTrack() if kind == "video" else AudioTrack() for kind in kinds])

    def add(self, stream: MediaStream, metadata: str) -> None:
        self.call.add_stream(stream, metadata)
        self.shared.append((stream, metadata))

    def remove(self, index: int) -> MediaStream:
        stream, _ = self.shared.pop(index)
        self.call.remove_stream(stream)
        return stream

    def wanted(self) -> list[Any]:
        return sorted(
            (stream.id, text, sorted((track.kind, track.id) for track in stream.tracks))
            for stream, text in self.shared
        )


class Browser:
    """Shares streams on its call."""

    def __init__(self, page: PageMedia) -> None:
        self.page = page
        self.shared: list[tuple[PageStream, str]] = []

    def make(self, kinds: tuple[str, ...]) -> PageStream:
        return page_stream(
            self.page.call.peer,
            GREEN if "video" in kinds else None,
            440 if "audio" in kinds else None,
        )

    def add(self, stream: PageStream, metadata: str) -> None:
        self.page.add_stream(stream, metadata)
        self.shared.append((stream, metadata))

    def remove(self, index: int) -> PageStream:
        stream, _ = self.shared.pop(index)
        self.page.remove_stream(stream)
        return stream

    def wanted(self) -> list[Any]:
        return sorted((stream.id, text, sorted(stream.tracks)) for stream, text in self.shared)


def act(side: Any, seed: int, round: int, start: threading.Barrier) -> None:
    """One side's part of a round."""
    chance = random.Random(seed * 100 + round)
    new = side.make(chance.choice(KINDS))
    start.wait(LIMIT)
    if len(side.shared) > 2 or (side.shared and chance.random() < 0.4):
        gone = side.remove(chance.randrange(len(side.shared)))
        if chance.random() < 0.4:
            side.add(gone, f"again in round {round}")
    if len(side.shared) < 3:
        side.add(new, f"round {round}")


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("caller", ["python", "page"])
def test_ten_rounds(
    make_artico: MakeArtico, make_browser_peer: MakeBrowserPeer, caller: str, seed: int
) -> None:
    rtco = make_artico("python")
    peer = make_browser_peer("page", answer=True)
    if caller == "python":
        call = rtco.call("page").wait_open(LIMIT)
        page = PageMedia(peer.wait_call().wait_open())
    else:
        page = PageMedia(peer.call("python"))
        call = rtco.wait_for("call", LIMIT).answer().wait_open(LIMIT)
    log, python, browser = MediaLog(call), Python(call), Browser(page)
    for round in range(ROUNDS):
        start = threading.Barrier(2)
        sides = [
            threading.Thread(target=act, args=(side, number, round, start))
            for number, side in ((seed, python), (-seed, browser))
        ]
        for side in sides:
            side.start()
        for side in sides:
            side.join()
        for receiver, sender in ((page, python), (call, browser)):
            wait_agreement(receiver, sender, round)
    check_order(log.entries)
    # JavaScript reports a stream with each of its tracks, and Chromium sometimes omits a
    # `removetrack` when it rolls back for an offer, so only the final state is checked there.
    assert (log.errors, page.errors) == ([], [])
    # The final tracks carry pictures in both directions.
    python.add(MediaStream([last := pictures(RED)]), "last")
    page.see(last.id, RED)
    shown = page_stream(peer, BLUE)
    browser.add(shown, "last")
    wait_for_color(remote_track(call, shown.id, "video"), BLUE)
    call.send("settled")
    assert page.call.receive(1) == ["settled"]


def wait_agreement(receiver: Call | PageMedia, sender: Any, round: int) -> None:
    """Wait until the receiver has what the sender shares."""

    def found() -> list[Any]:
        return kinds_of(receiver) if isinstance(receiver, Call) else receiver.streams

    try:
        wait_until(lambda: bool(found() == sender.wanted()), "agreement", LIMIT)
    except AssertionError as error:
        raise AssertionError(f"round {round}: {found()} for {sender.wanted()}") from error
