"""Streams: tracks that belong together; any thread."""

from __future__ import annotations

import os
import re
import sys
import threading
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias, cast

from artico_sync._display import table
from artico_sync._not_copyable import NotCopyable
from artico_sync.media.local import FileTrack, LocalTrack
from artico_sync.media.recorder import Recorder
from artico_sync.media.remote import RemoteTrack

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack

    from artico_sync.media.remote import RemoteAudioTrack, RemoteVideoTrack

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


def has_ended(track: Track) -> bool:
    """Whether a track can give nothing more."""
    if isinstance(track, (LocalTrack, RemoteTrack)):
        return track.ended
    state: str = track.readyState
    return state == "ended"


class MediaStream(NotCopyable):
    """Tracks that belong together, to share with `Call.add_stream`; any thread (W3C Media Capture
    and Streams, MediaStream).

    Example:
        >>> stream = MediaStream([AudioTrack()], id="microphone")
        >>> stream.id, [track.kind for track in stream.tracks]
        ('microphone', ['audio'])

    Args:
        tracks: Tracks of ours, remote ones, or `aiortc.MediaStreamTrack`s.
        id: The stream's id, the same at the other end; by default a random one.

    Raises:
        TypeError: Something that is not a track, or an id that is not a string.
        ValueError: The same track twice, or an id that cannot be signalled (RFC 8830 section 2).
    """

    _copy_hint = "`MediaStream(stream.tracks)` makes another with the same tracks."

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

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        loop: bool = False,
        *,
        format: str | None = None,
        options: dict[str, str] | None = None,
    ) -> MediaStream:
        """Play a file, URL or device: one video and one audio track, in lip sync.

        It plays while a call shares it, and ends its tracks at the end.

        Example:
            >>> film = MediaStream.from_file("film.mp4", loop=True)
            >>> [track.kind for track in film.tracks]
            ['audio', 'video']
            >>> call.add_stream(film)
            >>> incoming.wait_for("stream", timeout=5).id == film.id
            True

        Args:
            path: Whatever FFmpeg opens.
            loop: Start again at the end.
            format: FFmpeg's name of the input format, for devices (`"v4l2"`, `"avfoundation"`).
            options: FFmpeg's options for it, like `{"video_size": "640x480"}`.

        Returns:
            A stream with what it has of the two, sound first.

        Raises:
            MediaError: It cannot be opened, or has neither picture nor sound.
        """
        from artico_sync.media.playback import FilePlayer

        player = FilePlayer(os.fspath(path), loop=loop, format=format, options=options)
        return cls(FileTrack(source) for source in player.sources)

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

    @property
    def ended(self) -> bool:
        """Whether none of the tracks goes on: all were stopped, or played to their ends."""
        return all(has_ended(track) for track in self.tracks)

    def stop(self) -> None:
        """End every track of ours, in every call that shares it; harmless twice, any thread.

        Example:
            >>> stream = MediaStream([VideoTrack(), AudioTrack()])
            >>> stream.stop()
            >>> stream.ended
            True
        """
        for track in self._tracks:
            if isinstance(track, LocalTrack):
                track.stop()
            elif not isinstance(track, RemoteTrack):
                from artico_sync._webrtc._aiortc.players import make_stoppable

                make_stoppable(track)
                track.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {len(self._tracks)} tracks>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("metadata", self.metadata)]
        rows += [(track.kind, track.id) for track in self._tracks]
        return table(f"{type(self).__name__} {self.id}", rows)


class RemoteMediaStream(MediaStream):
    """A stream another peer shares; made by a call, never by the user.

    It comes with the `stream` event and stands in `Call.streams` until the peer shares it no more.

    Example:
        >>> stream = call.wait_for("stream", timeout=5)
        >>> stream.metadata, [track.kind for track in stream.tracks]
        ('from the roof', ['video'])
        >>> stream in call.streams
        True

    Args:
        id: The id the other peer gave it.
        metadata: What the other peer said about it.
    """

    _tracks: tuple[RemoteTrack, ...]

    if TYPE_CHECKING:
        # They are the other peer's, all of them.
        @property
        def tracks(self) -> tuple[RemoteTrack, ...]: ...
        @property
        def audio_tracks(self) -> tuple[RemoteAudioTrack, ...]: ...
        @property
        def video_tracks(self) -> tuple[RemoteVideoTrack, ...]: ...

    def __init__(self, id: str, metadata: str | None = None) -> None:
        super().__init__()
        # Whatever the other peer chose: it was checked with the description.
        self._id = id
        self._metadata = metadata
        self._recorders: list[Recorder] = []

    @property
    def metadata(self) -> str | None:
        """What the other peer said about the stream last, or None."""
        return self._metadata

    def stop(self) -> None:
        """Nothing: the tracks are the other peer's.

        Example:
            >>> stream = call.wait_for("stream", timeout=5)
            >>> stream.stop()
            >>> stream.ended
            False
        """

    def record(self, path: str | os.PathLike[str]) -> Recorder:
        """Record the stream from now on, until `stop()` of the recorder or the end of its `with`.

        Any thread; does not wait for the stream.

        Example:
            >>> stream = call.wait_for("stream", timeout=5)
            >>> with stream.record("visit.webm") as recorder:
            ...     frame = stream.tracks[0].recv(timeout=5)    # or whatever there is to wait for
            >>> recorder.stopped
            True

        Args:
            path: The file to write, at the end and over one that is there; its suffix says what
                kind: `.mp4`, `.webm`, `.mkv`, `.mov`, or for sound alone `.wav`, `.ogg`, `.opus`,
                `.m4a`.

        Returns:
            The recorder, at work.

        Raises:
            TypeError: Not a path.
            ValueError: Another suffix.
            MediaError: The file cannot be written: there is no such folder, or it does not let us.
                Nothing is recorded then, and a file that is there stays.
        """
        path = os.fspath(path)
        if not isinstance(path, str):
            raise TypeError(f"path must be a str or os.PathLike of str, not {type(path).__name__}")
        recorder = Recorder(path, self._forget)
        with self._lock:
            self._recorders.append(recorder)
            tracks = self._tracks
        for track in tracks:
            if not track.ended:
                recorder._add(track)
        return recorder

    def _forget(self, recorder: Recorder) -> None:
        with self._lock:
            if recorder in self._recorders:
                self._recorders.remove(recorder)

    def _describe(self, metadata: str | None) -> None:
        """The peer says something else about the stream; the call tells."""
        self._metadata = metadata

    def _add(self, track: RemoteTrack) -> None:
        """The peer shares one more track of the stream; the call tells."""
        with self._lock:
            self._tracks = (*self._tracks, track)
            recorders = tuple(self._recorders)
        for recorder in recorders:
            recorder._add(track)

    def _remove(self, track: RemoteTrack) -> None:
        """The peer shares a track of the stream no more; the call tells."""
        with self._lock:
            self._tracks = tuple(other for other in self._tracks if other is not track)
