"""Local tracks: what the user's program shows and says; any thread.

A track starts nothing until a call shares it, and is produced once however many calls do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.streams import FrameReader
from artico_sync._not_copyable import NotCopyable
from artico_sync.media.arrays import picture_of, sound_of
from artico_sync.media.pulling import MappedItems, items_of
from artico_sync.media.sources import AudioSource, PullingProducer, Source, VideoSource

if TYPE_CHECKING:
    import av

    from artico_sync._webrtc.media.fanout import FrameSource

VIDEO_CODECS = ("VP8", "H264")
RATES = range(8000, 384001)


class LocalTrack(NotCopyable):
    """A track to share with `Call.add_stream` or `Call.add_track`, on several calls if need be.

    Every method may be called from any thread.

    Example:
        >>> camera = VideoTrack(fps=15)
        >>> camera.enabled = False      # muted: the peer sees black, and is not told
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
        """The id of the track, the same at the other end."""
        return self._source.id

    @property
    def ended(self) -> bool:
        """Whether the track was stopped or has nothing more to send."""
        return self._source.ended

    @property
    def enabled(self) -> bool:
        """Whether the track is sent; while False, black pictures or silence are."""
        return self._source.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._source.enabled = bool(enabled)

    def stop(self) -> None:
        """End the track in every call that shares it, for good; harmless twice.

        Example:
            >>> camera = VideoTrack(fps=15)
            >>> camera.stop()
            >>> camera.ended
            True
        """
        self._source.stop()

    def _frame_source(self) -> FrameSource:
        """What a call sends of this track (`engine.media.local.source_for` asks)."""
        return self._source

    def __repr__(self) -> str:
        state = "ended" if self.ended else "live"
        return f"<{type(self).__name__} {self.kind} {self.id} {state}>"


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
        fps: Pictures a second, at most 1 000; `write` blocks to keep to it.
        bitrate: Bits a second to encode with; None for what suits the network.
        codec: `"VP8"` or `"H264"`, used where the peer takes it; None for the peer's first choice.

    Raises:
        TypeError: Wrong types.
        ValueError: Values out of range.
    """

    _source: VideoSource

    def __init__(
        self, fps: float = 30, *, bitrate: int | None = None, codec: str | None = None
    ) -> None:
        super().__init__(VideoSource(_check_fps(fps), _black))
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
        """A track whose pictures are pulled on a worker thread while a call shares it.

        Example:
            >>> import itertools, numpy as np
            >>> grey = np.full((48, 64, 3), 128, np.uint8)
            >>> call.add_stream(MediaStream([VideoTrack.from_frames(itertools.repeat(grey))]))
            >>> incoming.wait_for("track", timeout=5).read(timeout=5).shape
            (48, 64, 3)

        Args:
            source: An iterable, or a function without arguments that returns the next picture or
                None at the end. A picture is what `write` takes. An exception in it ends the track.
            fps: Pictures a second, at most 1 000.
            bitrate: As for `VideoTrack`.
            codec: As for `VideoTrack`.

        Returns:
            The track; the end of the source ends it.

        Raises:
            TypeError, ValueError: As `VideoTrack`, and for a source that is neither.
        """
        track = cls(fps, bitrate=bitrate, codec=codec)
        track._source.producer = PullingProducer(
            "frames", items_of(source), track.write, track._source
        )
        return track

    @classmethod
    def _mapped(cls, reader: FrameReader, function: Callable[[Any], Any]) -> VideoTrack:
        track = cls()
        # The pictures come at the pace of the track they are made from.
        track._source = VideoSource(1000, _black, live=True)
        track._source.producer = PullingProducer(
            "map", MappedItems(reader, function), track.write, track._source, reader
        )
        return track

    @property
    def bitrate(self) -> int | None:
        """Bits a second to encode with, at most what the receivers can take; may be changed, to
        None as well. Anything but a whole number above 0 raises `TypeError` or `ValueError`."""
        return self._source.bitrate

    @bitrate.setter
    def bitrate(self, bitrate: int | None) -> None:
        if bitrate is not None:
            if isinstance(bitrate, bool) or not isinstance(bitrate, int):
                raise TypeError(
                    f"bitrate must be bits a second or None, not {type(bitrate).__name__}"
                )
            if bitrate <= 0:
                raise ValueError(f"bitrate must be above 0, not {bitrate}")
        self._source.bitrate = bitrate

    @property
    def codec(self) -> str | None:
        """The codec preferred; a change counts for calls that share the track afterwards. Another
        than `"VP8"`, `"H264"` or None raises `TypeError` or `ValueError`."""
        return self._source.codec

    @codec.setter
    def codec(self, codec: str | None) -> None:
        if codec is not None:
            if not isinstance(codec, str):
                raise TypeError(f"codec must be a name or None, not {type(codec).__name__}")
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
            frame: A NumPy array (height, width, 3) of uint8 RGB, or an `av.VideoFrame`, from 2 to
                16 383 pixels wide and high. The size may change from one to the next. It is copied.

        Raises:
            TypeError, ValueError: The picture cannot be sent.
            MediaError: The track has ended.
            RuntimeError: On the library's loop thread.
        """
        self._source.write(picture_of(frame))


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
        rate: Samples a second of the arrays written, from 8 000 to 384 000.
        channels: Channels of the arrays written, 1 or 2.

    Raises:
        TypeError: Wrong types.
        ValueError: Values out of range.
    """

    _source: AudioSource

    def __init__(self, rate: int = 48000, channels: int = 1) -> None:
        for name, value in (("rate", rate), ("channels", channels)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
        if rate not in RATES:
            raise ValueError(f"rate must be {RATES.start} to {RATES.stop - 1}, not {rate}")
        if channels not in (1, 2):
            raise ValueError(f"channels must be 1 or 2, not {channels}")
        super().__init__(AudioSource(_silence))
        self._rate = rate
        self._channels = channels
        self._writing = threading.Lock()
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[object, ...] = ()

    @classmethod
    def from_chunks(
        cls, source: Iterable[Any] | Callable[[], Any], rate: int = 48000, channels: int = 1
    ) -> AudioTrack:
        """A track whose sound is pulled on a worker thread while a call shares it.

        Example:
            >>> import itertools, numpy as np
            >>> silence = AudioTrack.from_chunks(itertools.repeat(np.zeros((960, 1), np.int16)))
            >>> call.add_stream(MediaStream([silence]))
            >>> incoming.wait_for("track", timeout=5).read(timeout=5).shape
            (960, 2)

        Args:
            source: An iterable, or a function without arguments that returns the next chunk or None
                at the end. A chunk is what `write` takes, of any length. An exception ends the
                track.
            rate: Samples a second, from 8 000 to 384 000.
            channels: 1 or 2.

        Returns:
            The track; the end of the source ends it.

        Raises:
            TypeError, ValueError: As `AudioTrack`, and for a source that is neither.
        """
        track = cls(rate, channels)
        track._source.producer = PullingProducer(
            "chunks", items_of(source, track._flush), track.write, track._source
        )
        return track

    @classmethod
    def _mapped(cls, reader: FrameReader, function: Callable[[Any], Any]) -> AudioTrack:
        track = cls(48000, 2)
        track._source.producer = PullingProducer(
            "map", MappedItems(reader, function), track.write, track._source, reader
        )
        return track

    def write(self, frame: Any) -> None:
        """Send sound of any length; blocks until no more than a moment of it is left to be played.

        A writer that pauses leaves silence; what it writes then is played at once.

        Example:
            >>> import numpy as np
            >>> microphone = AudioTrack(rate=48000, channels=1)
            >>> microphone.write(np.zeros((960, 1), np.int16))

        Args:
            frame: A NumPy array (samples, channels) of int16 or float32 (-1 to 1), or an
                `av.AudioFrame` of any rate and layout.

        Raises:
            TypeError, ValueError: The sound cannot be sent.
            MediaError: The track has ended.
            RuntimeError: On the library's loop thread.
        """
        sound = sound_of(frame, self._rate, self._channels)
        # One writer at a time: the resampler remembers the end of the last chunk.
        with self._writing:
            pieces = self._resample(sound)
        self._source.write(pieces)

    def _resample(self, sound: av.AudioFrame) -> list[av.AudioFrame]:
        from artico_sync._webrtc.media.timeline import audio_normalizer, bare_copy

        format = (sound.sample_rate, sound.format.name, sound.layout.name)
        if self._resampler is None or format != self._format:
            self._resampler = audio_normalizer()
            self._format = format
        return self._resampler.resample(bare_copy(sound))

    def _flush(self) -> None:
        """Play the end of the last chunk."""
        from artico_sync._webrtc.media.timeline import padded

        with self._writing:
            rest = self._resampler.resample(None) if self._resampler is not None else []
            self._resampler = None
        self._source.write([padded(piece) for piece in rest])


class FileTrack(LocalTrack):
    """The picture or the sound of a file; made by `MediaStream.from_file`."""

    _source: VideoSource | AudioSource

    def __init__(self, source: VideoSource | AudioSource) -> None:
        super().__init__(source)


def _check_fps(fps: float) -> float:
    if isinstance(fps, bool) or not isinstance(fps, (int, float)):
        raise TypeError(f"fps must be a number, not {type(fps).__name__}")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {fps}")
    return float(fps)


def _black(width: int, height: int) -> av.VideoFrame:
    from artico_sync._webrtc.media.timeline import black

    return black(width, height)


def _silence() -> av.AudioFrame:
    from artico_sync._webrtc.media.timeline import silence

    return silence()
