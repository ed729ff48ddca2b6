"""Tracks and streams that other peers share.

A track is decoded while any thread reads it; decoding stops a few seconds after the last read.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.streams import FrameReader, Post
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.errors import MediaError
from artico_sync.media._frames import display_live, encode_png, import_numpy, to_array
from artico_sync.media.streams import RECORDING_BACKLOG_FRAMES, MediaStream, Recorder
from artico_sync.media.tracks import AudioTrack, LocalTrack, MediaTrack, VideoTrack

if TYPE_CHECKING:
    import numpy as np
    from av.frame import Frame
    from numpy.typing import NDArray

    from artico_sync._bridge.media import ReceivedTrack

# Seconds a notebook waits for the picture of a track it shows.
REPR_TIMEOUT_SECONDS = 2.0


class RemoteTrack(MediaTrack):
    """A track another peer shares; made by a call, never by the user.

    Iterating gives the frames until the track ends. Every method may be called from any thread; if
    several threads read one track, each frame goes to one of them.

    Example:
        >>> track = call.wait_for("track", timeout=5)
        >>> track.kind, track.ended, track.stream.metadata
        ('video', False, 'from the roof')
        >>> for frame in track:
        ...     break
        >>> frame.width, frame.height
        (64, 48)
    """

    _copy_hint = "pass the track itself on; `snapshot()` takes what it shows now."

    def __init__(self, track: ReceivedTrack, stream: RemoteMediaStream | None, post: Post) -> None:
        self._track = track
        self._stream = stream
        self._post = post
        self._reader = FrameReader(track, post)

    @property
    def kind(self) -> str:
        """`"audio"` or `"video"`."""
        return self._track.kind

    @property
    def id(self) -> str:
        """The id of the track, the same on both sides of a call."""
        return self._track.id

    @property
    def stream(self) -> RemoteMediaStream | None:
        """The stream the track belongs to."""
        return self._stream

    @property
    def ended(self) -> bool:
        """True once no frame can arrive: the peer removed the track, or the call closed."""
        return self._track.readyState == "ended"

    def recv(self, timeout: float | None = None) -> Frame:
        """Wait for the next unread `av` frame, in order; a slow reader misses the oldest ones.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> frame = track.recv(timeout=5)
            >>> frame.width, frame.height
            (64, 48)

        Args:
            timeout: Seconds to wait; None waits without limit, 0 polls.

        Returns:
            An `av.VideoFrame` or an `av.AudioFrame`.

        Raises:
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended, and its last frames were read.
            ForkError: The call was made in another process.
            RuntimeError: Called on the library's loop thread.
        """
        return self._reader.get(Deadline(timeout))[0]

    def read(self, timeout: float | None = None) -> NDArray[np.uint8] | NDArray[np.int16]:
        """Wait for the next unread frame as `recv` does, and return it as a NumPy array.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> track.read(timeout=5).shape
            (48, 64, 3)

        Args:
            timeout: Seconds to wait; None waits without limit, 0 polls.

        Returns:
            (height, width, 3) of uint8 RGB, or (samples, channels) of int16.

        Raises:
            ImportError: NumPy is not installed.
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended, and its last frames were read.
            ForkError: The call was made in another process.
            RuntimeError: Called on the library's loop thread.
        """
        import_numpy()
        return to_array(self.recv(timeout))

    def snapshot(self, timeout: float | None = 10) -> NDArray[np.uint8] | NDArray[np.int16]:
        """Return the current frame as a NumPy array, without taking it from `recv`.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> track.snapshot(timeout=5).shape
            (48, 64, 3)

        Args:
            timeout: Seconds to wait for a frame; None waits without limit.

        Returns:
            (height, width, 3) of uint8 RGB, or (samples, channels) of int16.

        Raises:
            ImportError: NumPy is not installed.
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended.
            ForkError: The call was made in another process.
            RuntimeError: Called on the library's loop thread.
        """
        import_numpy()
        return to_array(self._current_frame(Deadline(timeout)))

    def _current_frame(self, deadline: Deadline) -> Frame:
        reader = self._make_reader()
        try:
            return reader.get(deadline)[0]
        finally:
            reader.close()

    def _make_reader(self, **options: Any) -> FrameReader:
        """Return one more reader of the track; it gets every frame, as `recv` does."""
        return FrameReader(self._track, self._post, **options)

    def __iter__(self) -> Iterator[Frame]:
        while True:
            try:
                frame = self.recv()
            except MediaError:
                return
            yield frame

    @abstractmethod
    def map(self, function: Callable[[Any], Any]) -> LocalTrack:
        """Return a local track whose frames are made from this one's, to share on any call.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> negative = track.map(lambda picture: 255 - picture)
            >>> call.add_stream(MediaStream([negative]))
            >>> black, white = track, incoming.wait_for("track", timeout=5)
            >>> bool(white.read(timeout=5).mean() - black.read(timeout=5).mean() > 200)
            True

        Args:
            function: Called on a worker thread with each frame as a NumPy array; returns anything
                the new track's `write` accepts. An exception in it ends the new track.

        Returns:
            A track of the same kind; it ends with this one.

        Raises:
            TypeError: The argument is not a function, or a coroutine function.
            ImportError: NumPy is not installed.
        """

    def _frame_source(self) -> ReceivedTrack:
        return self._track


class RemoteVideoTrack(RemoteTrack):
    """Video another peer shares; a notebook shows its current picture.

    Example:
        >>> track = call.wait_for("track", timeout=5)
        >>> track.read(timeout=5).shape
        (48, 64, 3)
    """

    def png(self, timeout: float | None = 10) -> bytes:
        """Return the current picture as a PNG file, without taking it from `recv`; needs no NumPy.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> with open("seen.png", "wb") as file:
            ...     written = file.write(track.png(timeout=5))

        Args:
            timeout: Seconds to wait for a picture; None waits without limit.

        Returns:
            The content of the file.

        Raises:
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended.
            ForkError: The call was made in another process.
            RuntimeError: Called on the library's loop thread.
        """
        return encode_png(self._current_frame(Deadline(timeout)))

    def _repr_png_(self) -> bytes | None:
        # Called by notebooks, which show the text if no picture arrives soon.
        try:
            return self.png(timeout=REPR_TIMEOUT_SECONDS)
        except (TimeoutError, MediaError):
            return None

    def display(self, timeout: float | None = None) -> None:
        """Show the track live in a notebook's cell, until it ends or the cell is interrupted.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> track.display(timeout=0.2)
            <IPython.core.display.Image object>...

        Args:
            timeout: Seconds to show it; None shows it until it ends.

        Raises:
            ImportError: IPython is not installed.
            RuntimeError: Called on the library's loop thread.
        """
        # A buffer of one picture: a browser slower than the track gets fewer pictures, not old
        # ones.
        reader = self._make_reader(limit=1)
        try:
            display_live(lambda deadline: reader.get(deadline)[0], timeout)
        finally:
            reader.close()

    def map(self, function: Callable[[Any], Any]) -> VideoTrack:
        import_numpy()
        return VideoTrack._mapped(self._make_reader(idle=None), function)


class RemoteAudioTrack(RemoteTrack):
    """Sound another peer shares.

    Example:
        >>> track = call.wait_for("track", timeout=5)
        >>> track.kind, track.recv(timeout=5).sample_rate
        ('audio', 48000)
    """

    def map(self, function: Callable[[Any], Any]) -> AudioTrack:
        import_numpy()
        return AudioTrack._mapped(self._make_reader(idle=None), function)


def make_remote_track(
    track: ReceivedTrack, stream: RemoteMediaStream | None, post: Post
) -> RemoteTrack:
    """Return the user's object of a received track, of the class for its kind.

    Args:
        track: The track on the loop.
        stream: The stream it belongs to.
        post: Runs a function on the loop soon.
    """
    kind = RemoteVideoTrack if track.kind == "video" else RemoteAudioTrack
    return kind(track, stream, post)


class RemoteMediaStream(MediaStream):
    """A stream another peer shares; made by a call, never by the user.

    It arrives with the `stream` event and is in `Call.streams` until the peer stops sharing it.

    Example:
        >>> stream = call.wait_for("stream", timeout=5)
        >>> stream.metadata, [track.kind for track in stream.tracks]
        ('from the roof', ['video'])
        >>> stream in call.streams
        True

    Args:
        id: The id the other peer gave the stream.
        metadata: The metadata the other peer shared it with.
    """

    _tracks: tuple[RemoteTrack, ...]

    if TYPE_CHECKING:
        # All tracks are remote ones.
        @property
        def tracks(self) -> tuple[RemoteTrack, ...]: ...
        @property
        def audio_tracks(self) -> tuple[RemoteAudioTrack, ...]: ...
        @property
        def video_tracks(self) -> tuple[RemoteVideoTrack, ...]: ...

    def __init__(self, id: str, metadata: str | None = None) -> None:
        super().__init__()
        # Any id the peer chose; it was checked with the session description.
        self._id = id
        self._metadata = metadata
        self._lock = threading.Lock()
        self._recorders: list[Recorder] = []

    @property
    def metadata(self) -> str | None:
        """The metadata the other peer shared the stream with last, or None."""
        return self._metadata

    def stop(self) -> None:
        """Do nothing: only the other peer can end its tracks.

        Example:
            >>> stream = call.wait_for("stream", timeout=5)
            >>> stream.stop()
            >>> stream.ended
            False
        """

    def record(self, path: str | os.PathLike[str]) -> Recorder:
        """Start recording the stream, until `stop()` of the recorder or the end of its `with`.

        May be called from any thread; does not wait for frames.

        Example:
            >>> stream = call.wait_for("stream", timeout=5)
            >>> with stream.record("visit.webm") as recorder:
            ...     frame = stream.tracks[0].recv(timeout=5)    # or wait for anything else
            >>> recorder.stopped
            True

        Args:
            path: The file; it is written when the recording ends and replaces an existing one. Its
                suffix selects the format: `.mp4`, `.m4v`, `.webm`, `.mkv`, `.mov`, or for sound
                alone `.wav`, `.ogg`, `.oga`, `.opus`, `.m4a`.

        Returns:
            The recorder, which has started.

        Raises:
            TypeError: The path is not a str or a path object.
            ValueError: The suffix is of no known format.
            MediaError: The file cannot be written: the folder does not exist, or permission is
                denied. Nothing is recorded then, and an existing file stays.
        """
        path = os.fspath(path)
        if not isinstance(path, str):
            raise TypeError(f"path must be a str or os.PathLike of str, not {type(path).__name__}")
        recorder = Recorder(path, self._discard_recorder)
        with self._lock:
            self._recorders.append(recorder)
            tracks = self._tracks
        for track in tracks:
            if not track.ended:
                _record_track(recorder, track)
        return recorder

    def _discard_recorder(self, recorder: Recorder) -> None:
        with self._lock:
            if recorder in self._recorders:
                self._recorders.remove(recorder)

    # called by the call

    def _describe(self, metadata: str | None) -> None:
        """Replace the metadata by what the peer sent last."""
        self._metadata = metadata

    def _add(self, track: RemoteTrack) -> None:
        """Add a track that the peer shares from now on."""
        with self._lock:
            self._tracks = (*self._tracks, track)
            recorders = tuple(self._recorders)
        for recorder in recorders:
            _record_track(recorder, track)

    def _remove(self, track: RemoteTrack) -> None:
        """Remove a track that the peer has stopped sharing."""
        with self._lock:
            self._tracks = tuple(other for other in self._tracks if other is not track)


def _record_track(recorder: Recorder, track: RemoteTrack) -> None:
    limit = RECORDING_BACKLOG_FRAMES[track.kind]
    recorder._add_reader(track.kind, track._make_reader(limit=limit, idle=None))


class RemoteMediaFactory:
    """Makes and updates the users' objects of what a peer shares, for the bridge; loop thread."""

    def stream(self, stream_id: str, metadata: str | None) -> RemoteMediaStream:
        return RemoteMediaStream(stream_id, metadata)

    def describe(self, stream: RemoteMediaStream, metadata: str | None) -> None:
        stream._describe(metadata)

    def track(self, track: ReceivedTrack, stream: RemoteMediaStream, post: Post) -> RemoteTrack:
        return make_remote_track(track, stream, post)

    def add(self, stream: RemoteMediaStream, track: RemoteTrack) -> None:
        stream._add(track)

    def remove(self, stream: RemoteMediaStream, track: RemoteTrack) -> None:
        stream._remove(track)
