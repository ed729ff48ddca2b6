"""Tracks to share on calls, and a log of what the other end is told of them; any thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artico_sync import Call, MediaStream
from artico_sync.media import AudioTrack, RemoteTrack, VideoTrack
from artico_sync.media._frames import to_array
from tests.conftest import TIME_UNIT
from tests.media_content import frequency_of, loudness, plain, shows, tone
from tests.polling import wait_until

LIMIT = 20.0 * TIME_UNIT
FPS = 15

Colour = tuple[int, int, int]
#: Name, kind (for tracks), ids and metadata of one event.
Entry = tuple[object, ...]


def pictures(colour: Colour, fps: float = FPS, **options: Any) -> VideoTrack:
    """A track of one colour, without end."""
    return VideoTrack.from_frames(itertools.repeat(plain(colour)), fps, **options)


def sound(frequency: float) -> AudioTrack:
    """A track of one tone, without end; a second of it joins to the next."""
    return AudioTrack.from_chunks(itertools.repeat(tone(round(frequency), 1.0)))


def film(colour: Colour, frequency: float) -> MediaStream:
    """A stream of a picture and a tone."""
    return MediaStream([pictures(colour), sound(frequency)])


def wait_for_colour(track: RemoteTrack, colour: Colour, tolerance: float = 40) -> None:
    """Read the track until it shows a colour."""
    deadline = monotonic() + LIMIT
    mean = None
    while monotonic() < deadline:
        picture = track.read(timeout=LIMIT)
        if shows(picture, colour, tolerance):
            return
        mean = picture.reshape(-1, 3).mean(axis=0)
    raise AssertionError(f"never saw {colour}, in the end {mean}")


def heard(track: RemoteTrack, seconds: float) -> NDArray[Any]:
    """So many seconds of the track's sound, one after another."""
    parts: list[NDArray[Any]] = []
    while sum(map(len, parts)) < seconds * 48000:
        parts.append(track.read(timeout=LIMIT))
    return np.concatenate(parts)


def wait_for_tone(track: RemoteTrack, frequency: float, tolerance: float = 10) -> None:
    """Listen to the track until a tone is heard."""
    deadline = monotonic() + LIMIT
    found = 0.0
    while monotonic() < deadline:
        piece = heard(track, 0.25)
        found = frequency_of(piece)
        if abs(found - frequency) < tolerance and loudness(piece) > 200:
            return
    raise AssertionError(f"never heard {frequency} Hz, in the end {found:.0f} Hz")


def in_background(function: Callable[[], None]) -> threading.Thread:
    """Run a function on a thread of its own."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class MediaLog:
    """What a call is told of the peer's streams and tracks, in order."""

    NAMES = ("stream", "track", "removetrack", "removestream")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.tracks: dict[str, RemoteTrack] = {}
        self.errors: list[Exception] = []
        self._entries: list[Entry] = []
        self._condition = threading.Condition()
        call.on("stream", lambda stream, metadata: self._add("stream", stream.id, metadata))
        call.on(
            "removestream", lambda stream, metadata: self._add("removestream", stream.id, metadata)
        )
        call.on("track", self._on_track)
        call.on("removetrack", self._on_removetrack)
        call.on("error", self._on_error)

    def _add(self, *entry: object) -> None:
        with self._condition:
            self._entries.append(entry)
            self._condition.notify_all()

    def _on_track(self, track: RemoteTrack, stream: MediaStream, metadata: str | None) -> None:
        self.tracks[track.id] = track
        self._add("track", track.kind, track.id, stream.id, metadata)

    def _on_removetrack(
        self, track: RemoteTrack, stream: MediaStream, metadata: str | None
    ) -> None:
        self._add("removetrack", track.kind, track.id, stream.id, metadata)

    def _on_error(self, error: Exception) -> None:
        with self._condition:
            self.errors.append(error)
            self._condition.notify_all()

    @property
    def entries(self) -> list[Entry]:
        """All so far."""
        with self._condition:
            return list(self._entries)

    def wait(self, *wanted: Entry) -> None:
        """Wait until these were told, in this order; forget them. Nothing else may have been."""
        with self._condition:
            self._condition.wait_for(lambda: len(self._entries) >= len(wanted), LIMIT)
            found, self._entries = self._entries[: len(wanted)], self._entries[len(wanted) :]
        assert found == list(wanted)

    def wait_for(self, entry: Entry) -> None:
        """Wait until this was told, whatever else was."""
        with self._condition:
            assert self._condition.wait_for(lambda: entry in self._entries, LIMIT), (
                entry,
                self._entries,
            )

    def wait_for_any(self, name: str, count: int) -> None:
        """Wait until an event of that name was told `count` times."""
        with self._condition:
            assert self._condition.wait_for(
                lambda: sum(entry[0] == name for entry in self._entries) >= count, LIMIT
            ), self._entries

    def track_of(self, kind: str) -> RemoteTrack:
        """The track of one kind that came last."""
        return [track for track in self.tracks.values() if track.kind == kind][-1]

    def wait_error(self, count: int = 1) -> Exception:
        """Wait for the `count`th error."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.errors) >= count, LIMIT), "no error"
            return self.errors[count - 1]

    def wait_track(self, track_id: str) -> RemoteTrack:
        """Wait for the track with that id."""
        with self._condition:
            assert self._condition.wait_for(lambda: track_id in self.tracks, LIMIT), self._entries
            return self.tracks[track_id]


def told_of(stream: MediaStream, metadata: str | None = None) -> list[Entry]:
    """What a peer is told when it gets a stream."""
    return [
        ("stream", stream.id, metadata),
        *(("track", track.kind, track.id, stream.id, metadata) for track in stream.tracks),
    ]


def told_of_end(stream: MediaStream, metadata: str | None = None) -> list[Entry]:
    """What a peer is told when it loses a stream."""
    return [
        *(("removetrack", track.kind, track.id, stream.id, metadata) for track in stream.tracks),
        ("removestream", stream.id, metadata),
    ]


def shared_with(call: Call) -> list[tuple[str, str | None, list[tuple[str, str]]]]:
    """The streams a peer shares with us now: id, metadata, and kind and id of each track."""
    return sorted(
        (stream.id, stream.metadata, sorted((track.kind, track.id) for track in stream.tracks))
        for stream in call.streams
    )


def remote_track(call: Call, stream_id: str, kind: str) -> RemoteTrack:
    """Wait for the track of one kind in a stream the peer shares.

    Chromium gives a track an id of its own when it sends it on an m-line that is there already.
    """
    found: list[RemoteTrack] = []

    def there() -> bool:
        found[:] = [
            track
            for stream in call.streams
            if stream.id == stream_id
            for track in stream.tracks
            if track.kind == kind
        ]
        return bool(found)

    wait_until(there, f"{kind} in the stream {stream_id}", LIMIT)
    return found[0]


def check_order(entries: list[Entry]) -> None:
    """Every event stands where it may stand."""
    live: dict[object, set[object]] = {}
    for name, *rest in entries:
        if name == "stream":
            assert rest[0] not in live
            live[rest[0]] = set()
        elif name == "track":
            assert rest[1] not in live[rest[2]]
            live[rest[2]].add(rest[1])
        elif name == "removetrack":
            live[rest[2]].remove(rest[1])
        else:
            assert live.pop(rest[0]) == set()


def numbered(size: int = 64) -> Iterator[NDArray[np.uint8]]:
    """Pictures whose brightness goes up by one from one to the next."""
    for number in itertools.count():
        yield np.full((size, size, 3), number % 200 + 20, np.uint8)


def streams_of(call: Call, direction: str, kind: str) -> list[dict[str, Any]]:
    """The statistics of the RTP streams one way."""
    found: list[dict[str, Any]] = call.stats()["streams"]
    return [one for one in found if one["direction"] == direction and one["kind"] == kind]


__all__ = [
    "FPS",
    "LIMIT",
    "MediaLog",
    "to_array",
    "check_order",
    "film",
    "heard",
    "in_background",
    "numbered",
    "pictures",
    "remote_track",
    "shared_with",
    "sound",
    "streams_of",
    "told_of",
    "told_of_end",
    "wait_for_colour",
    "wait_for_tone",
]
