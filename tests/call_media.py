"""Tracks to share on calls, and a log of the events they cause at the other end."""

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

Color = tuple[int, int, int]
#: Name, kind (for tracks), ids and metadata of one event.
Entry = tuple[object, ...]


def pictures(color: Color, fps: float = FPS, **options: Any) -> VideoTrack:
    """Return an endless track of one color."""
    return VideoTrack.from_frames(itertools.repeat(plain(color)), fps, **options)


def sound(frequency: float) -> AudioTrack:
    """Return an endless track of one tone; each second of it continues the one before."""
    return AudioTrack.from_chunks(itertools.repeat(tone(round(frequency), 1.0)))


def film(color: Color, frequency: float) -> MediaStream:
    """Return a stream of a picture and a tone."""
    return MediaStream([pictures(color), sound(frequency)])


def wait_for_color(track: RemoteTrack, color: Color, tolerance: float = 40) -> None:
    """Read the track until it shows a color."""
    deadline = monotonic() + LIMIT
    mean = None
    while monotonic() < deadline:
        picture = track.read(timeout=LIMIT)
        if shows(picture, color, tolerance):
            return
        mean = picture.reshape(-1, 3).mean(axis=0)
    raise AssertionError(f"never saw {color}, at the end {mean}")


def read_sound(track: RemoteTrack, seconds: float) -> NDArray[Any]:
    """Read n seconds of the track's sound."""
    parts: list[NDArray[Any]] = []
    while sum(map(len, parts)) < seconds * 48000:
        parts.append(track.read(timeout=LIMIT))
    return np.concatenate(parts)


def wait_for_tone(track: RemoteTrack, frequency: float, tolerance: float = 10) -> None:
    """Read the track until its strongest frequency is that of a tone."""
    deadline = monotonic() + LIMIT
    found = 0.0
    while monotonic() < deadline:
        piece = read_sound(track, 0.25)
        found = frequency_of(piece)
        if abs(found - frequency) < tolerance and loudness(piece) > 200:
            return
    raise AssertionError(f"never found {frequency} Hz, at the end {found:.0f} Hz")


def start_thread(function: Callable[[], None]) -> threading.Thread:
    """Run a function on a thread of its own."""
    thread = threading.Thread(target=function)
    thread.start()
    return thread


class MediaLog:
    """The events of a call about the peer's streams and tracks, in order."""

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
        """All events not consumed by `wait`."""
        with self._condition:
            return list(self._entries)

    def wait(self, *wanted: Entry) -> None:
        """Wait for exactly these events, in this order, and consume them."""
        with self._condition:
            self._condition.wait_for(lambda: len(self._entries) >= len(wanted), LIMIT)
            found, self._entries = self._entries[: len(wanted)], self._entries[len(wanted) :]
        assert found == list(wanted)

    def wait_for(self, entry: Entry) -> None:
        """Wait for an event, among any others."""
        with self._condition:
            assert self._condition.wait_for(lambda: entry in self._entries, LIMIT), (
                entry,
                self._entries,
            )

    def wait_for_any(self, name: str, count: int) -> None:
        """Wait for `count` events of a name."""
        with self._condition:
            assert self._condition.wait_for(
                lambda: sum(entry[0] == name for entry in self._entries) >= count, LIMIT
            ), self._entries

    def track_of(self, kind: str) -> RemoteTrack:
        """Return the latest track of a kind."""
        return [track for track in self.tracks.values() if track.kind == kind][-1]

    def wait_error(self, count: int = 1) -> Exception:
        """Wait for the `count`th error and return it."""
        with self._condition:
            assert self._condition.wait_for(lambda: len(self.errors) >= count, LIMIT), "no error"
            return self.errors[count - 1]

    def wait_track(self, track_id: str) -> RemoteTrack:
        """Wait for the track with an id and return it."""
        with self._condition:
            assert self._condition.wait_for(lambda: track_id in self.tracks, LIMIT), self._entries
            return self.tracks[track_id]


def sharing_events(stream: MediaStream, metadata: str | None = None) -> list[Entry]:
    """Return the events for a stream that a peer begins to share."""
    return [
        ("stream", stream.id, metadata),
        *(("track", track.kind, track.id, stream.id, metadata) for track in stream.tracks),
    ]


def unsharing_events(stream: MediaStream, metadata: str | None = None) -> list[Entry]:
    """Return the events for a stream that a peer stops sharing."""
    return [
        *(("removetrack", track.kind, track.id, stream.id, metadata) for track in stream.tracks),
        ("removestream", stream.id, metadata),
    ]


def describe_streams(call: Call) -> list[tuple[str, str | None, list[tuple[str, str]]]]:
    """Return id, metadata, and kind and id of each track of the streams the peer shares now."""
    return sorted(
        (stream.id, stream.metadata, sorted((track.kind, track.id) for track in stream.tracks))
        for stream in call.streams
    )


def remote_track(call: Call, stream_id: str, kind: str) -> RemoteTrack:
    """Wait for the track of a kind in a stream the peer shares, and return it.

    The id is not known in advance: Chromium gives a track another one if it sends it on an existing
    m-section.
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
    """Check that every event is in a valid place."""
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


def numbered_pictures(size: int = 64) -> Iterator[NDArray[np.uint8]]:
    """Yield pictures, each one level brighter than the one before."""
    for number in itertools.count():
        yield np.full((size, size, 3), number % 200 + 20, np.uint8)


def rtp_streams(call: Call, direction: str, kind: str) -> list[dict[str, Any]]:
    """Return the statistics of the RTP streams of a direction and a kind."""
    found: list[dict[str, Any]] = call.stats()["streams"]
    return [one for one in found if one["direction"] == direction and one["kind"] == kind]


__all__ = [
    "FPS",
    "LIMIT",
    "MediaLog",
    "to_array",
    "check_order",
    "film",
    "read_sound",
    "start_thread",
    "numbered_pictures",
    "pictures",
    "remote_track",
    "describe_streams",
    "sound",
    "rtp_streams",
    "sharing_events",
    "unsharing_events",
    "wait_for_color",
    "wait_for_tone",
]
