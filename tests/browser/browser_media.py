"""The media that a page shares on its calls, and the media it receives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.browser.browser_peer import BrowserCall, BrowserPeer

LOOK_LIMIT = 20.0
#: Pictures pass through two conversions and an encoder; the analyser's steps are 6 Hz wide.
COLOUR_TOLERANCE = 40
TONE_TOLERANCE = 12

Colour = tuple[int, int, int]
#: Id, metadata, and kind and id of each track.
SharedStream = tuple[str, str | None, list[tuple[str, str]]]


@dataclass(frozen=True)
class PageStream:
    """A stream of a page's own: one colour, one tone, or both."""

    peer: BrowserPeer
    id: str
    #: The ids of its tracks, by kind.
    tracks: dict[str, str]


def page_stream(
    peer: BrowserPeer, colour: Colour | None = None, frequency: float | None = None
) -> PageStream:
    """Make a stream in the page."""
    made = peer.invoke("makeStream", colour and list(colour), frequency)
    return PageStream(peer, made["id"], {kind: id for kind, id in made["tracks"]})


def page_camera(peer: BrowserPeer, width: int = 320, height: int = 240) -> PageStream:
    """Switch on the camera and microphone of the page."""
    made = peer.invoke("makeCamera", width, height)
    return PageStream(peer, made["id"], {kind: id for kind, id in made["tracks"]})


class PageMedia:
    """The media of one call of a page."""

    def __init__(self, call: BrowserCall) -> None:
        self.call = call

    def _invoke(self, method: str, *args: Any) -> Any:
        return self.call.peer.invoke(method, self.call.session, *args)

    def add_stream(self, stream: PageStream, metadata: str | None = None) -> None:
        self._invoke("addStream", stream.id, metadata)

    def add_stream_before_answer(self, stream: PageStream, metadata: str) -> None:
        """Add a stream between the next offer the page applies and its answer."""
        self._invoke("addStreamBeforeAnswer", stream.id, metadata)

    def add_stream_twice(self, stream: PageStream, metadata: str, again: str) -> None:
        """Add a stream, which the page takes back and adds again before its offer is answered."""
        self._invoke("addStreamTwice", stream.id, metadata, again)

    @contextmanager
    def metadata_held(self) -> Iterator[None]:
        """Hold back the page's metadata of its streams until the end of the block."""
        self.call.peer.invoke("holdMetadata")
        yield
        self.call.peer.invoke("releaseMetadata")

    def remove_stream(self, stream: PageStream) -> None:
        self._invoke("removeStream", stream.id)

    def add_track(self, stream: PageStream, kind: str) -> None:
        self._invoke("addTrack", stream.id, kind)

    def remove_track(self, stream: PageStream, kind: str) -> None:
        self._invoke("removeTrack", stream.id, kind)

    @property
    def streams(self) -> list[SharedStream]:
        """Return the streams shared with the page now, sorted."""
        return sorted(
            (id, metadata, sorted((kind, track) for kind, track in tracks))
            for id, metadata, tracks in self._invoke("streams")
        )

    def see(self, track_id: str, colour: Colour, tolerance: int = COLOUR_TOLERANCE) -> None:
        """Wait until a video track shows a colour."""
        self._invoke("seeColour", track_id, list(colour), tolerance, LOOK_LIMIT * 1000)

    def hear(self, track_id: str, frequency: float, tolerance: int = TONE_TOLERANCE) -> None:
        """Wait until a tone is heard from an audio track."""
        self._invoke("hearTone", track_id, frequency, tolerance, LOOK_LIMIT * 1000)

    def events(self) -> list[tuple[Any, ...]]:
        """The media events of the call so far, in order, with their arguments."""
        names = ("stream", "track", "removetrack", "removestream")
        return [
            (event.name, *event.args)
            for event in self.call.peer.events(self.call.session)
            if event.name in names
        ]

    @property
    def errors(self) -> list[str]:
        """Return the texts of the page's `error` events."""
        found = self.call.peer.events(self.call.session)
        return [str(event.args[0]) for event in found if event.name == "error"]
