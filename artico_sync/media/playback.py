"""Plays a file, URL or device into local tracks; decodes on a worker thread.

Picture and sound share one clock, set when playing starts; what is decoded goes to the loop a
moment before it is due. Nothing is decoded while no call shares a track of the file.

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

from artico_sync._bridge.threads import Worker
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._webrtc.media.timeline import AUDIO_RATE, audio_normalizer, black, padded, silence
from artico_sync.errors import MediaError
from artico_sync.media.picture_fitting import PictureTurner
from artico_sync.media.sources import AudioSource, Source, VideoSource

logger = logging.getLogger("artico_sync.media")

# Seconds decoded ahead of time.
AHEAD = 0.25
# Seconds between the start and the first frame, for both tracks to be ready.
START = 0.02
# A player so many seconds late shifts its clock rather than hurry.
LATE = 0.3
# Seconds a gap in the sound of a file may have before it is heard.
GAP = 0.06
# Seconds between two looks at a device that has nothing yet.
DEVICE_POLL = 0.01
# FFmpeg's inputs that give frames at their own pace.
LIVE_FORMATS = frozenset(
    (
        "alsa avfoundation decklink dshow fbdev gdigrab jack kmsgrab lavfi_live oss pulse rtp rtsp"
        " sdp v4l2 video4linux2 vfwcap x11grab"
    ).split()
)


class FilePlayer:
    """A file being played.

    Args:
        path: What FFmpeg opens.
        loop: Start again at the end.
        format: FFmpeg's name of the input format, None to find out.
        options: FFmpeg's options.

    Raises:
        MediaError: It cannot be opened, or has neither picture nor sound.
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
        self.video = VideoSource(1000, black) if container.streams.video else None
        for source in self.sources:
            source.producer = _Handle(self, source)
        self._condition = threading.Condition()
        self._wanted: set[Source] = set()
        self._worker: Worker | None = None
        self._frames = self._decode()
        # Of the worker only.
        self._turner = PictureTurner()
        self._normalizer = audio_normalizer()
        self._audio_time: float | None = None
        self._base: float | None = None
        self._end = 0.0

    @property
    def sources(self) -> tuple[AudioSource | VideoSource, ...]:
        """The sources of the tracks, sound first."""
        return tuple(source for source in (self.audio, self.video) if source is not None)

    # what the sources ask for

    def start(self, source: Source) -> None:
        """Somebody takes the frames of `source`."""
        with self._condition:
            self._wanted.add(source)
            if self._worker is None:
                self._worker = Worker(
                    "play", self._run, self._pause_all, lambda: bool(self._wanted)
                )

    def pause(self, source: Source) -> None:
        """Nobody takes the frames of `source`."""
        with self._condition:
            self._wanted.discard(source)
            self._condition.notify_all()

    def _pause_all(self) -> None:
        with self._condition:
            self._wanted.clear()
            self._condition.notify_all()

    # the worker

    def _run(self) -> None:
        self._base = None
        while True:
            with self._condition:
                if not self._wanted:
                    self._worker = None
                    break
            try:
                item = next(self._frames)
                if item is None:
                    self._pause_briefly()
                else:
                    self._play(*item)
            except StopIteration:
                self._finish(None)
            except Exception as error:
                fault = MediaError(f"Cannot play {self._path}: {error!r}")
                fault.__cause__ = error
                self._finish(fault)
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

    def _pause_briefly(self) -> None:
        with self._condition:
            if self._wanted:
                self._condition.wait(DEVICE_POLL)

    def _decode(self) -> Iterator[tuple[AudioFrame | VideoFrame, float] | None]:
        """The frames of the file with their times in seconds, which go on when it starts again."""
        container = self._container
        assert container is not None
        offset = 0.0
        origin: float | None = None
        # Cast because PyAV's types leave out that a file may not say.
        start = cast("int | None", container.start_time)
        if start is not None and not self._live:
            origin = start / av.time_base
        while True:
            for frame in self._decoded(container):
                if frame is None or frame.time is None:
                    yield None
                    continue
                if origin is None:
                    origin = frame.time
                time = max(0.0, frame.time - origin) + offset
                self._end = max(self._end, time + _duration(frame))
                yield frame, time
            if not self._loop or self._end <= offset:
                return
            offset = self._end
            container.seek(0)

    def _decoded(
        self, container: av.container.InputContainer
    ) -> Iterator[AudioFrame | VideoFrame | None]:
        """What FFmpeg decodes; None where a device has nothing yet."""
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
                picture = self._turner.upright(frame)
                due = self._due(time)
                if due is not None:
                    self.video.pass_on(picture, due)
        elif self.audio is not None:
            self._play_sound(frame, time)

    def _play_sound(self, frame: AudioFrame, time: float) -> None:
        assert self.audio is not None
        if self._audio_time is None or abs(time - self._audio_time) > GAP:
            self._audio_time = time
        frame.pts = None
        for piece in self._normalizer.resample(frame):
            due = self._due(self._audio_time)
            self._audio_time += piece.samples / AUDIO_RATE
            if due is None:
                return
            self.audio.pass_on(piece, due)

    def _flush_sound(self) -> None:
        assert self.audio is not None
        for piece in self._normalizer.resample(None):
            due = self._due(self._audio_time or 0.0)
            if due is not None:
                self.audio.pass_on(padded(piece), due)

    def _due(self, time: float) -> float | None:
        """When a frame is to be sent; waits until shortly before. None when playing stopped."""
        now = monotonic()
        if self._base is None:
            self._base = now + START - time
        late = now - (self._base + time)
        if late > LATE or (self._live and late < -LATE):
            logger.debug("playing %s is %.2f s late, shifting its clock", self._path, late)
            self._base = now - time
        due = self._base + time
        with self._condition:
            if due - now > AHEAD:
                wait_until(self._condition, lambda: not self._wanted, Deadline(due - AHEAD - now))
            return due if self._wanted else None


class _Handle:
    """What one source of a player starts and pauses."""

    def __init__(self, player: FilePlayer, source: Source) -> None:
        self._player = player
        self._source = source

    def start(self) -> None:
        self._player.start(self._source)

    def pause(self) -> None:
        self._player.pause(self._source)


def _duration(frame: AudioFrame | VideoFrame) -> float:
    if isinstance(frame, AudioFrame):
        return frame.samples / frame.sample_rate if frame.sample_rate else 0.0
    if frame.duration and frame.time_base is not None:
        return float(frame.duration * frame.time_base)
    return 1 / 30
