"""The tracks shared on a call: which changes are allowed, and in which order the loop gets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from artico_sync._bridge.streams import SharedTracks
from artico_sync.errors import InvalidStateError


class Track:
    """A track that is known by its id."""

    def __init__(self, id: str) -> None:
        self.id = id


class RecordingMedia:
    """Records the changes in place of the engine's `LocalMedia`."""

    def __init__(self) -> None:
        self.changes: list[tuple[Any, ...]] = []

    def share(self, *arguments: Any) -> None:
        self.changes.append(("share", *arguments))

    def unshare(self, *arguments: Any) -> None:
        self.changes.append(("unshare", *arguments))

    def replace(self, *arguments: Any) -> None:
        self.changes.append(("replace", *arguments))


def run_at_once(function: Callable[..., object], *arguments: object) -> None:
    function(*arguments)


def goes_on(track: Any) -> bool:
    return False


@pytest.fixture
def media() -> RecordingMedia:
    return RecordingMedia()


@pytest.fixture
def shared(media: Any) -> SharedTracks:
    return SharedTracks(run_at_once, lambda: media, "call:x", "bob")


def test_changes_reach_the_loop_in_order(shared: SharedTracks, media: RecordingMedia) -> None:
    one, two, three = Track("one"), Track("two"), Track("three")
    shared.add("desk", "at work", (one, two), goes_on)
    shared.replace(one, three)
    shared.remove(two)
    shared.remove_stream("desk")
    assert media.changes == [
        ("share", "desk", "at work", (one, two)),
        ("replace", one, three, "desk"),
        ("unshare", (two,)),
        ("unshare", (three,)),
    ]


def test_a_track_that_has_ended_may_be_shared_again(
    shared: SharedTracks, media: RecordingMedia
) -> None:
    track = Track("one")
    shared.add("desk", None, (track,), goes_on)
    with pytest.raises(InvalidStateError, match="one is shared on this call already") as caught:
        shared.add("desk", None, (Track("two"), track), goes_on)
    assert (caught.value.session, caught.value.peer) == ("call:x", "bob")
    shared.add("room", None, (track,), lambda track: True)
    assert [change[1] for change in media.changes] == ["desk", "room"]


def test_unknown_tracks_and_streams_are_refused(
    shared: SharedTracks, media: RecordingMedia
) -> None:
    one, two = Track("one"), Track("two")
    shared.add("desk", None, (one,), goes_on)
    with pytest.raises(ValueError, match="track two is not shared"):
        shared.remove(two)
    with pytest.raises(ValueError, match="track two is not shared"):
        shared.replace(two, Track("three"))
    with pytest.raises(ValueError, match="stream roof is not shared"):
        shared.remove_stream("roof")
    with pytest.raises(InvalidStateError, match="one is shared"):
        shared.replace(one, one)
    assert len(media.changes) == 1


def test_without_a_session_nothing_happens() -> None:
    shared = SharedTracks(run_at_once, lambda: None, "call:x", "bob")
    track = Track("one")
    shared.add("desk", None, (track,), goes_on)
    shared.remove(track)
