"""Streams: tracks that belong together; any thread."""

from __future__ import annotations

import re
import sys
import threading
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias, cast

from artico_sync.media.local import LocalTrack
from artico_sync.media.remote import RemoteTrack

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack

#: Whatever may be shared: tracks of ours, tracks of another call, any aiortc track.
Track: TypeAlias = "LocalTrack | RemoteTrack | MediaStreamTrack"

# What RFC 8830 lets a stream id be made of.
_ID = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")


def check_track(track: object) -> Track:
    """Return `track` if it may be shared.

    Raises:
        TypeError: It may not.
    """
    if isinstance(track, (LocalTrack, RemoteTrack)):
        return track
    aiortc = sys.modules.get("aiortc")
    if aiortc is not None and isinstance(track, aiortc.MediaStreamTrack):
        return cast("MediaStreamTrack", track)
    raise TypeError(
        "a track is a VideoTrack, an AudioTrack, a remote track or an aiortc.MediaStreamTrack,"
        f" not {type(track).__name__}"
    )


class MediaStream:
    """Tracks that belong together, to share with `Call.add_stream`.

    Args:
        tracks: The tracks.
        id: The stream's id, the same at the other end; by default a random one.

    Raises:
        TypeError: Something that is not a track, or an id that is not a string.
        ValueError: The same track twice, or an id that cannot be signalled.
    """

    def __init__(self, tracks: Iterable[Track] = (), id: str | None = None) -> None:
        if id is None:
            id = str(uuid.uuid4())
        elif not isinstance(id, str):
            raise TypeError(f"a stream's id is a string, not {type(id).__name__}")
        elif _ID.fullmatch(id) is None or id == "-":
            raise ValueError(f"a stream's id is 1 to 64 letters, digits or marks, not {id!r}")
        checked = tuple(check_track(track) for track in tracks)
        if len({track.id for track in checked}) != len(checked):
            raise ValueError("a stream cannot hold the same track twice")
        self._id = id
        self._lock = threading.Lock()
        self._tracks = checked

    @property
    def id(self) -> str:
        """The stream's id, the same at the other end."""
        return self._id

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks, in the order they were added."""
        return self._tracks

    @property
    def audio_tracks(self) -> tuple[Track, ...]:
        """The tracks that carry sound."""
        return tuple(track for track in self._tracks if track.kind == "audio")

    @property
    def video_tracks(self) -> tuple[Track, ...]:
        """The tracks that carry pictures."""
        return tuple(track for track in self._tracks if track.kind == "video")

    @property
    def metadata(self) -> str | None:
        """What the other peer said about the stream; None for local ones."""
        return None

    def stop(self) -> None:
        """End every track, in every call that shares it; harmless twice."""
        for track in self._tracks:
            if not isinstance(track, RemoteTrack):
                track.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {len(self._tracks)} tracks>"


class RemoteMediaStream(MediaStream):
    """A stream another peer shares; made by a call, never by the user.

    Args:
        id: The id the other peer gave it.
        metadata: What the other peer said about it.
    """

    _tracks: tuple[RemoteTrack, ...]

    def __init__(self, id: str, metadata: str | None = None) -> None:
        super().__init__()
        # Whatever the other peer chose: it was checked with the description.
        self._id = id
        self._metadata = metadata

    @property
    def metadata(self) -> str | None:
        """What the other peer said about the stream, or None."""
        return self._metadata

    def stop(self) -> None:
        """Nothing: the tracks are the other peer's."""

    def _add(self, track: RemoteTrack) -> None:
        """The peer shares one more track of the stream; the call tells."""
        with self._lock:
            self._tracks = (*self._tracks, track)

    def _remove(self, track: RemoteTrack) -> None:
        """The peer shares a track of the stream no more; the call tells."""
        with self._lock:
            self._tracks = tuple(other for other in self._tracks if other is not track)
