"""Tracks to share on calls: the base of all tracks, and local ones written by the program.

A local track starts no thread until a call shares it, and is produced once for all calls.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.streams import FrameReader
from artico_sync._checks import (
    NotCopyable,
    check_number,
    check_optional_text,
    check_whole,
)
from artico_sync.media._frames import to_audio_frame, to_video_frame
from artico_sync.media._sources import (
    AudioSource,
    MappedFrames,
    PullingProducer,
    Source,
    VideoSource,
    iterate_source,
)

if TYPE_CHECKING:
    import av

    from artico_sync._bridge.media import FrameSource, ReceivedTrack

VIDEO_CODECS = ("VP8", "H264")
MAX_FPS = 1000
MIN_AUDIO_RATE = 8000
MAX_AUDIO_RATE = 384000


class MediaTrack(NotCopyable, ABC):
    """The base of local and remote tracks."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """`"audio"` or `"video"`."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The id of the track, the same on both sides of a call."""

    @property
    @abstractmethod
    def ended(self) -> bool:
        """True once no frame can follow."""

    @abstractmethod
    def _frame_source(self) -> FrameSource | ReceivedTrack:
        """Return the engine's source of the frames, for a call that shares the track."""

    def __repr__(self) -> str:
        state = "ended" if self.ended else "live"
        return f"<{type(self).__name__} {self.kind} {self.id} {state}>"


class LocalTrack(MediaTrack):
    """A track to share with `Call.add_stream` or `Call.add_track`, on any number of calls.

    Every method may be called from any thread.

    Example:
        >>> camera = VideoTrack(fps=15)
        >>> camera.enabled = False      # muted: the peer sees black and is not notified
        >>> camera.kind, camera.ended
        ('video', False)
    """

    _copy_hint = "share the track itself, on as many calls at once as you like."

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def kind(self) -> str:
        """`"audio"` or `"video"`."""
        return self._source.kind

    @property
    def id(self) -> str:
        """The id of the track, the same on both sides of a call."""
        return self._source.id

    @property
    def ended(self) -> bool:
        """True once the track was stopped or its source is exhausted."""
        return self._source.ended

    @property
    def enabled(self) -> bool:
        """True while the track is sent; black pictures or silence are sent while it is False."""
        return self._source.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._source.enabled = bool(enabled)

    def stop(self) -> None:
        """End the track for good, in every call that shares it; has no effect a second time.

        Example:
            >>> camera = VideoTrack(fps=15)
            >>> camera.stop()
            >>> camera.ended
            True
        """
        self._source.stop()

    def _frame_source(self) -> FrameSource:
        return self._source


class VideoTrack(LocalTrack):
    """Video written by the program.

    Example:
        >>> import numpy as np
        >>> camera = VideoTrack(fps=10)
        >>> call.add_stream(MediaStream([camera]))
        >>> for brightness in range(0, 250, 50):
        ...     camera.write(np.full((48, 64, 3), brightness, np.uint8))
        >>> incoming.wait_for("track", timeout=5).recv(timeout=5).width
        64

    Args:
        fps: Pictures per second, at most 1 000; `write` blocks to keep this rate.
        bitrate: Bits per second to encode with; None adapts to the network.
        codec: `"VP8"` or `"H264"`, used if the peer supports it; None uses the peer's first choice.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """

    _source: VideoSource

    def __init__(
        self, fps: float = 30, *, bitrate: int | None = None, codec: str | None = None
    ) -> None:
        super().__init__(VideoSource(check_number("fps", fps, above=0, most=MAX_FPS), _black))
        self.bitrate = bitrate
        self.codec = codec

    @classmethod
    def from_frames(
        cls,
        source: Iterable[Any] | Callable[[], Any],
        fps: float = 30,
        *,
        bitrate: int | None = None,
        codec: str | None = None,
    ) -> VideoTrack:
        """Return a track whose pictures are pulled on a worker thread while a call shares it.

        Example:
            >>> import itertools, numpy as np
            >>> grey = np.full((48, 64, 3), 128, np.uint8)
            >>> call.add_stream(MediaStream([VideoTrack.from_frames(itertools.repeat(grey))]))
            >>> incoming.wait_for("track", timeout=5).read(timeout=5).shape
            (48, 64, 3)

        Args:
            source: An iterable, or a function without arguments that returns the next picture or
                None at the end. A picture is anything `write` accepts. An exception in it ends the
                track.
            fps: Pictures per second, at most 1 000.
            bitrate: Bits per second to encode with; None adapts to the network.
            codec: `"VP8"` or `"H264"`, used if the peer supports it; None uses the peer's first
                choice.

        Returns:
            The track; it ends with its source.

        Raises:
            TypeError: An argument has the wrong type, or `source` is a coroutine function.
            ValueError: An argument is out of range.
        """
        track = cls(fps, bitrate=bitrate, codec=codec)
        track._source.producer = PullingProducer(
            "frames", iterate_source(source), track.write, track._source
        )
        return track

    @classmethod
    def _mapped(cls, reader: FrameReader, function: Callable[[Any], Any]) -> VideoTrack:
        track = cls()
        # The pictures arrive at the rate of the remote track.
        track._source = VideoSource(MAX_FPS, _black, live=True)
        track._source.producer = PullingProducer(
            "map", MappedFrames(reader, function), track.write, track._source, reader
        )
        return track

    @property
    def bitrate(self) -> int | None:
        """Bits per second to encode with, or None; may be changed at any time.

        The receivers' estimates of the network limit it. Setting it to anything but a whole number
        above 0 or None raises `TypeError` or `ValueError`.
        """
        return self._source.bitrate

    @bitrate.setter
    def bitrate(self, bitrate: int | None) -> None:
        if bitrate is not None:
            check_whole("bitrate", bitrate, least=1, unit="bits per second")
        self._source.bitrate = bitrate

    @property
    def codec(self) -> str | None:
        """The preferred codec; a change applies to calls that share the track afterwards.

        Setting it to anything but `"VP8"`, `"H264"` or None raises `TypeError` or `ValueError`.
        """
        return self._source.codec

    @codec.setter
    def codec(self, codec: str | None) -> None:
        check_optional_text("codec", codec)
        if codec is not None:
            if codec.upper() not in VIDEO_CODECS:
                raise ValueError(f"codec must be one of {', '.join(VIDEO_CODECS)}, not {codec!r}")
            codec = codec.upper()
        self._source.codec = codec

    def write(self, frame: Any) -> None:
        """Send one picture; blocks so that a loop of writes runs at `fps`, shared or not.

        Example:
            >>> import numpy as np
            >>> camera = VideoTrack(fps=10)
            >>> camera.write(np.zeros((48, 64, 3), np.uint8))

        Args:
            frame: A NumPy array (height, width, 3) of uint8 RGB, or an `av.VideoFrame`, 2 to 16 383
                pixels wide and high. The size may change between writes. The picture is copied.

        Raises:
            TypeError: The picture is of another type, or an array of other elements.
            ValueError: The picture is of another shape or size.
            MediaError: The track has ended.
            RuntimeError: Called on the library's loop thread.
        """
        self._source.write_frame(to_video_frame(frame))


class AudioTrack(LocalTrack):
    """Sound written by the program.

    Example:
        >>> import numpy as np
        >>> microphone = AudioTrack(rate=48000, channels=1)
        >>> call.add_stream(MediaStream([microphone]))
        >>> times = np.arange(4800) / 48000
        >>> for _ in range(5):
        ...     microphone.write(np.sin(2 * np.pi * 440 * times).astype(np.float32))
        >>> incoming.wait_for("track", timeout=5).read(timeout=5).shape
        (960, 2)

    Args:
        rate: Samples per second of the arrays written, from 8 000 to 384 000.
        channels: Channels of the arrays written, 1 or 2.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range.
    """

    _source: AudioSource

    def __init__(self, rate: int = 48000, channels: int = 1) -> None:
        check_whole("rate", rate, least=MIN_AUDIO_RATE, most=MAX_AUDIO_RATE)
        check_whole("channels", channels, least=1, most=2)
        super().__init__(AudioSource(_silence))
        self._rate = rate
        self._channels = channels
        # Held by one writer at a time: the resampler keeps the end of the last chunk.
        self._resampler_lock = threading.Lock()
        self._resampler: av.AudioResampler | None = None
        self._resampler_input: tuple[object, ...] = ()

    @classmethod
    def from_chunks(
        cls, source: Iterable[Any] | Callable[[], Any], rate: int = 48000, channels: int = 1
    ) -> AudioTrack:
        """Return a track whose sound is pulled on a worker thread while a call shares it.

        Example:
            >>> import itertools, numpy as np
            >>> silence = AudioTrack.from_chunks(itertools.repeat(np.zeros((960, 1), np.int16)))
            >>> call.add_stream(MediaStream([silence]))
            >>> incoming.wait_for("track", timeout=5).read(timeout=5).shape
            (960, 2)

        Args:
            source: An iterable, or a function without arguments that returns the next chunk or None
                at the end. A chunk is anything `write` accepts, of any length. An exception in it
                ends the track.
            rate: Samples per second, from 8 000 to 384 000.
            channels: 1 or 2.

        Returns:
            The track; it ends with its source.

        Raises:
            TypeError: An argument has the wrong type, or `source` is a coroutine function.
            ValueError: An argument is out of range.
        """
        track = cls(rate, channels)
        track._source.producer = PullingProducer(
            "chunks", iterate_source(source, track._flush), track.write, track._source
        )
        return track

    @classmethod
    def _mapped(cls, reader: FrameReader, function: Callable[[Any], Any]) -> AudioTrack:
        track = cls(48000, 2)
        track._source.producer = PullingProducer(
            "map", MappedFrames(reader, function), track.write, track._source, reader
        )
        return track

    def write(self, frame: Any) -> None:
        """Send sound of any length; blocks until only a moment of it is left to play.

        A pause between writes is silent; sound written after it is played at once.

        Example:
            >>> import numpy as np
            >>> microphone = AudioTrack(rate=48000, channels=1)
            >>> microphone.write(np.zeros((960, 1), np.int16))

        Args:
            frame: A NumPy array (samples, channels) of int16 or float32 (-1 to 1), or an
                `av.AudioFrame` of any rate and layout.

        Raises:
            TypeError: The sound is of another type, or an array of other elements.
            ValueError: The sound is of another shape.
            MediaError: The track has ended.
            RuntimeError: Called on the library's loop thread.
        """
        sound = to_audio_frame(frame, self._rate, self._channels)
        with self._resampler_lock:
            frames = self._resample(sound)
        self._source.write_frames(frames)

    def _resample(self, sound: av.AudioFrame) -> list[av.AudioFrame]:
        from artico_sync._bridge.media import audio_normalizer, bare_copy

        described = (sound.sample_rate, sound.format.name, sound.layout.name)
        if self._resampler is None or described != self._resampler_input:
            self._resampler = audio_normalizer()
            self._resampler_input = described
        return self._resampler.resample(bare_copy(sound))

    def _flush(self) -> None:
        """Send the end of the last chunk."""
        from artico_sync._bridge.media import padded

        with self._resampler_lock:
            rest = self._resampler.resample(None) if self._resampler is not None else []
            self._resampler = None
        self._source.write_frames([padded(frame) for frame in rest])


class FileTrack(LocalTrack):
    """The picture or the sound of a file; made by `MediaStream.from_file`."""

    _source: VideoSource | AudioSource

    def __init__(self, source: VideoSource | AudioSource) -> None:
        super().__init__(source)


def _black(width: int, height: int) -> av.VideoFrame:
    from artico_sync._bridge.media import black

    return black(width, height)


def _silence() -> av.AudioFrame:
    from artico_sync._bridge.media import silence

    return silence()
