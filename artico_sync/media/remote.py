"""Remote tracks: what comes from the other peer; any thread.

A track is decoded while somebody reads it, and stops being decoded a few seconds after the last
read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.streams import FrameReader, Post
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._not_copyable import NotCopyable
from artico_sync.errors import MediaError
from artico_sync.media.arrays import array_of, numpy
from artico_sync.media.local import AudioTrack, LocalTrack, VideoTrack
from artico_sync.media.pictures import display_live, png_of

if TYPE_CHECKING:
    import numpy as np
    from av.frame import Frame
    from numpy.typing import NDArray

    from artico_sync._webrtc.media.remote_track import ReceivedTrack
    from artico_sync.media.streams import RemoteMediaStream

# Seconds a notebook waits for the picture of a track it shows.
REPR_TIMEOUT = 2.0


class RemoteTrack(NotCopyable, ABC):
    """A track another peer shares; made by a call, never by the user.

    Iterating gives the frames until the track ends. Every method may be called from any thread; of
    several readers of one track each frame goes to one.

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
        """The id of the track, the same at the other end."""
        return self._track.id

    @property
    def stream(self) -> RemoteMediaStream | None:
        """The stream the track belongs to."""
        return self._stream

    @property
    def ended(self) -> bool:
        """Whether no frame can come any more: the peer took the track away, or the call closed."""
        return self._track.readyState == "ended"

    def recv(self, timeout: float | None = None) -> Frame:
        """The next `av` frame nobody has read, in order; a slow reader misses the oldest ones.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> frame = track.recv(timeout=5)
            >>> frame.width, frame.height
            (64, 48)

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            An `av.VideoFrame`, or an `av.AudioFrame`.

        Raises:
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended, and its last frames were read.
            ForkError: The track came to another process.
            RuntimeError: On the library's loop thread.
        """
        return self._reader.get(Deadline(timeout))[0]

    def read(self, timeout: float | None = None) -> NDArray[np.uint8] | NDArray[np.int16]:
        """The same as `recv`, as a NumPy array.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> track.read(timeout=5).shape
            (48, 64, 3)

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            (height, width, 3) of uint8 RGB, or (samples, channels) of int16.

        Raises:
            ImportError: NumPy is not installed.
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended, and its last frames were read.
            RuntimeError: On the library's loop thread.
        """
        numpy()
        return array_of(self.recv(timeout))

    def snapshot(self, timeout: float | None = 10) -> NDArray[np.uint8] | NDArray[np.int16]:
        """What the track shows now, as a NumPy array; takes nothing from `recv`.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> track.snapshot(timeout=5).shape
            (48, 64, 3)

        Args:
            timeout: Seconds to wait for a frame; None for ever.

        Returns:
            (height, width, 3) of uint8 RGB, or (samples, channels) of int16.

        Raises:
            ImportError: NumPy is not installed.
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended.
            RuntimeError: On the library's loop thread.
        """
        numpy()
        return array_of(self._current(Deadline(timeout)))

    def _current(self, deadline: Deadline) -> Frame:
        reader = FrameReader(self._track, self._post)
        try:
            return reader.get(deadline)[0]
        finally:
            reader.close()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            try:
                frame = self.recv()
            except MediaError:
                return
            yield frame

    @abstractmethod
    def map(self, function: Callable[[Any], Any]) -> LocalTrack:
        """A local track whose frames are made from this one's, to share on any call.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> negative = track.map(lambda picture: 255 - picture)
            >>> call.add_stream(MediaStream([negative]))
            >>> black, white = track, incoming.wait_for("track", timeout=5)
            >>> bool(white.read(timeout=5).mean() - black.read(timeout=5).mean() > 200)
            True

        Args:
            function: Called on a worker thread with each frame as a NumPy array; returns what the
                track's `write` takes. An exception in it ends the new track.

        Returns:
            A track of the same kind; it ends with this one.

        Raises:
            TypeError: Not a function, or a coroutine function.
            ImportError: NumPy is not installed.
        """

    def _frame_source(self) -> ReceivedTrack:
        """What a call sends of this track when it is shared on (`source_for` asks)."""
        return self._track

    def __repr__(self) -> str:
        state = "ended" if self.ended else "live"
        return f"<{type(self).__name__} {self.kind} {self.id} {state}>"


class RemoteVideoTrack(RemoteTrack):
    """Video another peer shares; a notebook shows its picture.

    Example:
        >>> track = call.wait_for("track", timeout=5)
        >>> track.read(timeout=5).shape
        (48, 64, 3)
    """

    def png(self, timeout: float | None = 10) -> bytes:
        """What the track shows now, as a PNG file; needs no NumPy, takes nothing from `recv`.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> with open("seen.png", "wb") as file:
            ...     written = file.write(track.png(timeout=5))

        Args:
            timeout: Seconds to wait for a picture; None for ever.

        Returns:
            The file's content.

        Raises:
            ArticoTimeoutError: The time ran out.
            MediaError: The track has ended.
            RuntimeError: On the library's loop thread.
        """
        return png_of(self._current(Deadline(timeout)))

    def _repr_png_(self) -> bytes | None:
        # What a notebook asks for; without a picture soon it shows the text.
        try:
            return self.png(timeout=REPR_TIMEOUT)
        except (TimeoutError, MediaError):
            return None

    def display(self, timeout: float | None = None) -> None:
        """Show the track live in a notebook's cell, until it ends or the cell is interrupted.

        Example:
            >>> track = call.wait_for("track", timeout=5)
            >>> track.display(timeout=0.2)
            <IPython.core.display.Image object>...

        Args:
            timeout: Seconds to show it; None for as long as it lasts.

        Raises:
            ImportError: There is no IPython.
            RuntimeError: On the library's loop thread.
        """
        # One picture kept: a browser slower than the track sees fewer, never old ones.
        reader = FrameReader(self._track, self._post, limit=1)
        try:
            display_live(lambda deadline: reader.get(deadline)[0], timeout)
        finally:
            reader.close()

    def map(self, function: Callable[[Any], Any]) -> VideoTrack:
        numpy()
        return VideoTrack._mapped(FrameReader(self._track, self._post, idle=None), function)


class RemoteAudioTrack(RemoteTrack):
    """Sound another peer shares.

    Example:
        >>> track = call.wait_for("track", timeout=5)
        >>> track.kind, track.recv(timeout=5).sample_rate
        ('audio', 48000)
    """

    def map(self, function: Callable[[Any], Any]) -> AudioTrack:
        numpy()
        return AudioTrack._mapped(FrameReader(self._track, self._post, idle=None), function)


def make_remote_track(
    track: ReceivedTrack, stream: RemoteMediaStream | None, post: Post
) -> RemoteTrack:
    """The user's object of a track that comes from a peer, of the right kind.

    Args:
        track: The track on the loop.
        stream: The stream it belongs to.
        post: Runs a function on the loop soon (`Portal.post`).
    """
    kind = RemoteVideoTrack if track.kind == "video" else RemoteAudioTrack
    return kind(track, stream, post)
