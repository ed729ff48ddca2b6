"""Playback of a file, URL or device into local tracks, decoded on a worker thread.

Picture and sound share one clock, which is set when playback starts; frames go to the loop a moment
before they are due. Nothing is decoded while no call shares a track of the file.

Lock order: the player's condition is taken alone.
"""

from __future__ import annotations

import errno
import logging
import sys
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any, cast

import av
from av import AudioFrame, VideoFrame

from artico_sync._bridge.media import (
    AUDIO_RATE,
    audio_normalizer,
    black,
    padded,
    silence,
)
from artico_sync._bridge.threads import Worker
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync.errors import MediaError
from artico_sync.media._frames import PictureRotator
from artico_sync.media._sources import AudioSource, Source, VideoSource

logger = logging.getLogger(__name__)

# How far ahead frames are decoded.
DECODE_AHEAD_SECONDS = 0.25
# Time between the start and the first frame, in which both tracks become ready.
START_DELAY_SECONDS = 0.02
# A player that is later than this shifts its clock; it does not skip or hurry.
MAX_LATE_SECONDS = 0.3
# A gap in the sound of a file that is longer than this is played as silence.
MAX_GAP_SECONDS = 0.06
# Pause before a device that has no frame yet is asked again.
DEVICE_POLL_SECONDS = 0.01
# Rate of the sources, above that of any file: playback has a clock of its own.
UNPACED_FPS = 1000
# FFmpeg inputs that deliver frames at their own pace.
LIVE_FORMATS = frozenset(
    (
        "alsa avfoundation decklink dshow fbdev gdigrab jack kmsgrab lavfi_live oss pulse rtp rtsp"
        " sdp v4l2 video4linux2 vfwcap x11grab"
    ).split()
)


class FilePlayer:
    """A file being played.

    Args:
        path: A file, URL or device that FFmpeg opens.
        loop: True to start again at the end.
        format: FFmpeg's name of the input format; None to detect it.
        options: FFmpeg's options for the input.

    Raises:
        MediaError: The input cannot be opened, or has neither picture nor sound.
    """

    def __init__(
        self, path: str, *, loop: bool, format: str | None, options: dict[str, str] | None
    ) -> None:
        if format is None and sys.platform == "linux" and path.startswith("/dev/video"):
            format = "v4l2"
        try:
            container = av.open(path, format=format, options=options or {})
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"Cannot open {path}: {error}") from error
        self._path = path
        self._loop = loop
        self._container: av.container.InputContainer | None = container
        self._live = bool(LIVE_FORMATS.intersection(container.format.name.split(",")))
        self._streams: list[Any] = [
            *container.streams.audio[:1],
            *(s for s in container.streams.video[:1]),
        ]
        if not self._streams:
            raise MediaError(f"There is neither picture nor sound in {path}.")
        self.audio = AudioSource(silence) if container.streams.audio else None
        self.video = VideoSource(UNPACED_FPS, black) if container.streams.video else None
        for source in self.sources:
            source.producer = _SourceProducer(self, source)
        self._condition = threading.Condition()
        self._active: set[Source] = set()
        self._worker: Worker | None = None
        self._frames = self._decode()
        # Used by the worker only.
        self._rotator = PictureRotator()
        self._normalizer = audio_normalizer()
        self._audio_time: float | None = None
        # The moment at which time 0 of the file is due.
        self._base: float | None = None
        self._end = 0.0

    @property
    def sources(self) -> tuple[AudioSource | VideoSource, ...]:
        """The sources of the tracks, sound first."""
        return tuple(source for source in (self.audio, self.video) if source is not None)

    # called by the sources' producers

    def start(self, source: Source) -> None:
        """Play a source."""
        with self._condition:
            self._active.add(source)
            if self._worker is None:
                self._worker = Worker(
                    "play", self._run, self._pause_all, lambda: bool(self._active)
                )

    def pause(self, source: Source) -> None:
        """Stop playing a source; playback pauses with the last one."""
        with self._condition:
            self._active.discard(source)
            self._condition.notify_all()

    def _pause_all(self) -> None:
        with self._condition:
            self._active.clear()
            self._condition.notify_all()

    # called by the worker

    def _run(self) -> None:
        self._base = None
        while True:
            with self._condition:
                if not self._active:
                    self._worker = None
                    break
            try:
                item = next(self._frames)
                if item is None:
                    self._wait_for_device()
                else:
                    self._play(*item)
            except StopIteration:
                self._finish(None)
            except Exception as error:
                failure = MediaError(f"Cannot play {self._path}: {error!r}")
                failure.__cause__ = error
                self._finish(failure)
        if all(source.ended for source in self.sources):
            self._close()

    def _finish(self, error: MediaError | None) -> None:
        if self.audio is not None and error is None:
            self._flush_sound()
        for source in self.sources:
            source.stop(error)
        self._pause_all()

    def _close(self) -> None:
        with self._condition:
            container, self._container = self._container, None
        if container is not None:
            container.close()

    def _wait_for_device(self) -> None:
        with self._condition:
            if self._active:
                self._condition.wait(DEVICE_POLL_SECONDS)

    def _decode(self) -> Iterator[tuple[AudioFrame | VideoFrame, float] | None]:
        """Yield frames and their times in seconds, which continue when the file starts again.

        Yields None if a device has no frame yet.
        """
        container = self._container
        assert container is not None
        offset = 0.0
        origin: float | None = None
        # A cast because PyAV's types omit that a file may have no start time.
        start = cast("int | None", container.start_time)
        if start is not None and not self._live:
            origin = start / av.time_base
        while True:
            for frame in self._decode_once(container):
                if frame is None or frame.time is None:
                    yield None
                    continue
                if origin is None:
                    origin = frame.time
                time = max(0.0, frame.time - origin) + offset
                self._end = max(self._end, time + _duration_of(frame))
                yield frame, time
            if not self._loop or self._end <= offset:
                return
            offset = self._end
            container.seek(0)

    def _decode_once(
        self, container: av.container.InputContainer
    ) -> Iterator[AudioFrame | VideoFrame | None]:
        """Yield the frames up to the end of the file; None if a device has no frame yet."""
        while True:
            try:
                yield from container.decode(*self._streams)
                return
            except av.FFmpegError as error:
                if error.errno != errno.EAGAIN:
                    raise
            yield None

    def _play(self, frame: AudioFrame | VideoFrame, time: float) -> None:
        if isinstance(frame, VideoFrame):
            if self.video is not None and self.video.attached:
                picture = self._rotator.rotate_upright(frame)
                due = self._wait_until_near(time)
                if due is not None:
                    self.video.forward_frame(picture, due)
        elif self.audio is not None:
            self._play_sound(frame, time)

    def _play_sound(self, frame: AudioFrame, time: float) -> None:
        assert self.audio is not None
        if self._audio_time is None or abs(time - self._audio_time) > MAX_GAP_SECONDS:
            self._audio_time = time
        frame.pts = None
        for piece in self._normalizer.resample(frame):
            due = self._wait_until_near(self._audio_time)
            self._audio_time += piece.samples / AUDIO_RATE
            if due is None:
                return
            self.audio.forward_frame(piece, due)

    def _flush_sound(self) -> None:
        assert self.audio is not None
        for piece in self._normalizer.resample(None):
            due = self._wait_until_near(self._audio_time or 0.0)
            if due is not None:
                self.audio.forward_frame(padded(piece), due)

    def _wait_until_near(self, time: float) -> float | None:
        """Wait until shortly before a frame is due; return when, or None if playback paused."""
        now = monotonic()
        if self._base is None:
            self._base = now + START_DELAY_SECONDS - time
        late = now - (self._base + time)
        if late > MAX_LATE_SECONDS or (self._live and late < -MAX_LATE_SECONDS):
            logger.debug("playing %s is %.2f s late, shifting its clock", self._path, late)
            self._base = now - time
        due = self._base + time
        with self._condition:
            if due - now > DECODE_AHEAD_SECONDS:
                wait_until(
                    self._condition,
                    lambda: not self._active,
                    Deadline(due - DECODE_AHEAD_SECONDS - now),
                )
            return due if self._active else None


class _SourceProducer:
    """The producer of one source of a player."""

    def __init__(self, player: FilePlayer, source: Source) -> None:
        self._player = player
        self._source = source

    def start(self) -> None:
        self._player.start(self._source)

    def pause(self) -> None:
        self._player.pause(self._source)


def _duration_of(frame: AudioFrame | VideoFrame) -> float:
    """Return the duration of a frame in seconds."""
    if isinstance(frame, AudioFrame):
        return frame.samples / frame.sample_rate if frame.sample_rate else 0.0
    if frame.duration and frame.time_base is not None:
        return float(frame.duration * frame.time_base)
    return 1 / 30
