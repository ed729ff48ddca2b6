"""Streams of tracks to share on calls, and recordings of remote ones."""

from __future__ import annotations

import atexit
import os
import re
import sys
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from artico_sync._bridge.portal import assert_not_loop_thread
from artico_sync._bridge.streams import FrameReader
from artico_sync._bridge.threads import ForkGuard
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._checks import NotCopyable, check_text
from artico_sync._notebook import html_table
from artico_sync.errors import ForkError, MediaError
from artico_sync.media.tracks import FileTrack, LocalTrack, MediaTrack

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack

#: Any track that can be shared: local ones, remote ones of any call, any aiortc track.
Track: TypeAlias = "MediaTrack | MediaStreamTrack"

# The characters and the length that RFC 8830 section 2 allows for a stream id.
_STREAM_ID = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")
# Seconds a recording gets to be written at the program's exit.
EXIT_GRACE_SECONDS = 2.0


def check_track(track: object) -> Track:
    """Return `track` if it can be shared.

    Raises:
        TypeError: It is no track.
    """
    if isinstance(track, MediaTrack):
        return track
    # Not imported for this check: if aiortc is not loaded, the object is none of its tracks.
    aiortc = sys.modules.get("aiortc")
    if aiortc is not None and isinstance(track, aiortc.MediaStreamTrack):
        return cast("MediaStreamTrack", track)
    raise TypeError(
        "a track is a VideoTrack, an AudioTrack, a remote track or an aiortc.MediaStreamTrack,"
        f" not {type(track).__name__}"
    )


def has_ended(track: Track) -> bool:
    """Return True if no frame of a track can follow."""
    if isinstance(track, MediaTrack):
        return track.ended
    state: str = track.readyState
    return state == "ended"


class MediaStream(NotCopyable):
    """Tracks that belong together, to share with `Call.add_stream` (W3C Media Capture and Streams).

    Every method may be called from any thread.

    Example:
        >>> stream = MediaStream([AudioTrack()], id="microphone")
        >>> stream.id, [track.kind for track in stream.tracks]
        ('microphone', ['audio'])

    Args:
        tracks: Local tracks, remote tracks, or `aiortc.MediaStreamTrack`s.
        id: The stream's id, the same on both sides of a call; by default a random one.

    Raises:
        TypeError: A track is none, or the id is not a string.
        ValueError: The same track twice, or an id that cannot be signaled (RFC 8830 section 2).
    """

    _copy_hint = "`MediaStream(stream.tracks)` makes another with the same tracks."

    def __init__(self, tracks: Iterable[Track] = (), id: str | None = None) -> None:
        if id is None:
            id = str(uuid.uuid4())
        elif _STREAM_ID.fullmatch(check_text("id", id)) is None or id == "-":
            raise ValueError(f"a stream's id is 1 to 64 letters, digits or marks, not {id!r}")
        checked = tuple(check_track(track) for track in tracks)
        if len({track.id for track in checked}) != len(checked):
            raise ValueError("a stream cannot hold the same track twice")
        self._id = id
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
        """Return a stream that plays a file, URL or device, with picture and sound in sync.

        It plays while a call shares it; its tracks end with the file.

        Example:
            >>> film = MediaStream.from_file("film.mp4", loop=True)
            >>> [track.kind for track in film.tracks]
            ['audio', 'video']
            >>> call.add_stream(film)
            >>> incoming.wait_for("stream", timeout=5).id == film.id
            True

        Args:
            path: A file, URL or device that FFmpeg opens.
            loop: True to start again at the end.
            format: FFmpeg's name of the input format, for devices (`"v4l2"`, `"avfoundation"`).
            options: FFmpeg's options for the input, such as `{"video_size": "640x480"}`.

        Returns:
            A stream of the first audio and the first video track, as far as the input has them.

        Raises:
            MediaError: The input cannot be opened, or has neither picture nor sound.
        """
        from artico_sync.media._playback import FilePlayer

        player = FilePlayer(os.fspath(path), loop=loop, format=format, options=options)
        return cls(FileTrack(source) for source in player.sources)

    @property
    def id(self) -> str:
        """The stream's id, the same on both sides of a call."""
        return self._id

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks, in the order they were added."""
        return self._tracks

    @property
    def audio_tracks(self) -> tuple[Track, ...]:
        """The audio tracks."""
        return tuple(track for track in self._tracks if track.kind == "audio")

    @property
    def video_tracks(self) -> tuple[Track, ...]:
        """The video tracks."""
        return tuple(track for track in self._tracks if track.kind == "video")

    @property
    def metadata(self) -> str | None:
        """The metadata the other peer shared the stream with; None for local streams."""
        return None

    @property
    def ended(self) -> bool:
        """True once every track has ended."""
        return all(has_ended(track) for track in self.tracks)

    def stop(self) -> None:
        """End every local track, in every call that shares it; has no effect a second time.

        Example:
            >>> stream = MediaStream([VideoTrack(), AudioTrack()])
            >>> stream.stop()
            >>> stream.ended
            True
        """
        for track in self._tracks:
            if isinstance(track, LocalTrack):
                track.stop()
            elif not isinstance(track, MediaTrack):
                from artico_sync._bridge.media import stop_aiortc_track

                stop_aiortc_track(track)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {len(self._tracks)} tracks>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("metadata", self.metadata)]
        rows += [(track.kind, track.id) for track in self._tracks]
        return html_table(f"{type(self).__name__} {self.id}", rows)


@dataclass(frozen=True)
class RecordingFormat:
    """A file format to record to, by FFmpeg's names.

    Attributes:
        container: The file format.
        audio: The encoder for sound.
        video: The encoder for pictures; None if the format holds only sound.
    """

    container: str
    audio: str
    video: str | None


#: Recording formats by the suffix of the file.
RECORDING_FORMATS = {
    ".mp4": RecordingFormat("mp4", "aac", "libx264"),
    ".m4v": RecordingFormat("mp4", "aac", "libx264"),
    ".mov": RecordingFormat("mov", "aac", "libx264"),
    ".mkv": RecordingFormat("matroska", "libopus", "libx264"),
    ".webm": RecordingFormat("webm", "libopus", "libvpx"),
    ".m4a": RecordingFormat("mp4", "aac", None),
    ".wav": RecordingFormat("wav", "pcm_s16le", None),
    ".ogg": RecordingFormat("ogg", "libopus", None),
    ".oga": RecordingFormat("ogg", "libopus", None),
    ".opus": RecordingFormat("ogg", "libopus", None),
}
#: Frames an encoder may be behind, by kind of track; older ones are dropped.
RECORDING_BACKLOG_FRAMES = {"audio": 500, "video": 60}


def check_recording_path(path: str) -> RecordingFormat:
    """Return the format of a recording at `path` if it can be written there.

    An existing file is left as it is.

    Raises:
        ValueError: The suffix is of no known format.
        MediaError: The file, or temporary files beside it, cannot be written.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in RECORDING_FORMATS:
        raise ValueError(f"a recording ends in one of {', '.join(RECORDING_FORMATS)}, not {path!r}")
    try:
        existed = os.path.lexists(path)
        with open(path, "ab"):
            pass
        if not existed:
            os.unlink(path)
        parent = os.path.dirname(os.path.abspath(path))
        with tempfile.TemporaryDirectory(prefix=".recording-", dir=parent):
            pass
    except OSError as error:
        raise MediaError(f"Cannot record to {path}: {error.strerror or error}.") from error
    return RECORDING_FORMATS[suffix]


class Recorder(NotCopyable):
    """A recording in progress, started by `stream.record(path)`; `stop()` or leaving `with` ends
    it.

    Tracks added to the stream later are recorded as well, at their place in time. Every method may
    be called from any thread. A recording that is not stopped is completed when the program exits.

    Example:
        >>> stream = call.wait_for("stream", timeout=5)
        >>> with stream.record("visit.mp4") as recorder:
        ...     frame = stream.tracks[0].recv(timeout=5)    # or wait for anything else
        >>> recorder.path, recorder.stopped
        ('visit.mp4', True)

    Raises:
        ValueError: The suffix of the path is of no known format.
        MediaError: The file cannot be written.
    """

    _copy_hint = "`stream.record(path)` starts another recording."

    def __init__(self, path: str, on_stop: Callable[[Recorder], None]) -> None:
        format = check_recording_path(path)
        from artico_sync.media._recording import Recording

        self._recording = Recording(path, format.container, format.audio, format.video)
        self._on_stop = on_stop
        self._guard = ForkGuard("recording")
        # Held by the one thread that writes the file; others wait for it.
        self._lock = threading.Lock()
        self._stopped = False
        # The callback must not keep the recorder alive.
        reference = weakref.ref(self)
        self._at_exit = lambda: _stop_at_exit(reference)
        atexit.register(self._at_exit)

    @property
    def path(self) -> str:
        """The file being written; complete after `stop`."""
        return self._recording.path

    @property
    def stopped(self) -> bool:
        """True once the recording has been completed."""
        return self._stopped

    def _add_reader(self, kind: str, reader: FrameReader) -> None:
        """Record one more track of the stream."""
        if not self._stopped:
            self._recording.add(kind, reader)

    def stop(self, timeout: float | None = None) -> None:
        """End the recording and write the file; has no effect a second time.

        Example:
            >>> stream = call.wait_for("stream", timeout=5)
            >>> recorder = stream.record("visit.mp4")
            >>> frame = stream.tracks[0].recv(timeout=5)
            >>> recorder.stop()
            >>> recorder
            <Recorder visit.mp4 stopped>

        Args:
            timeout: Seconds to wait for frames not encoded yet; None waits without limit.

        Raises:
            MediaError: A track could not be recorded, or the file cannot be written.
            ArticoTimeoutError: The time ran out; `stop` may be called again.
            ForkError: The recording was started in another process.
            RuntimeError: Called on the library's loop thread.
        """
        self._guard.check()
        assert_not_loop_thread()
        deadline = Deadline(timeout)
        self._on_stop(self)
        with self._lock:
            if self._stopped:
                return
            self._recording.finish(deadline)
            self._stopped = True
        atexit.unregister(self._at_exit)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "recording"
        return f"<Recorder {os.path.basename(self.path)} {state}>"


def _stop_at_exit(reference: weakref.ref[Recorder]) -> None:
    recorder = reference()
    if recorder is not None:
        try:
            recorder.stop(timeout=EXIT_GRACE_SECONDS)
        except (MediaError, TimeoutError, ForkError):
            # An exit must stay silent. A forked child leaves its parent's recording alone.
            return
