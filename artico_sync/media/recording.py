"""Records remote tracks to a file; one worker thread a lane of the file.

Each lane (the picture, the sound) is encoded as it comes into a file of its own beside the wanted
one; `finish` puts them together. So a lane may begin late, end early, pass from one track to the
next, and still lie at the right moment.

All lanes share one timeline: frames lie where they were captured as far as the arrival tells, which
is their timestamp plus the shortest delay seen lately.

Lock order: a recording's lock, then a lane's, then a reader's; the timeline's alone.
"""

from __future__ import annotations

import heapq
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from time import monotonic
from typing import Any

import av
from av import AudioFrame, VideoFrame
from av.frame import Frame
from av.video.frame import PictureType

from artico_sync._bridge.streams import FrameReader, ReadingInterrupted
from artico_sync._bridge.threads import Worker
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._webrtc.media.timeline import (
    AUDIO_RATE,
    AUDIO_TIME_BASE,
    VIDEO_TIME_BASE,
    bare_copy,
    silence,
)
from artico_sync.errors import MediaError
from artico_sync.media.picture_fitting import PictureFitter
from artico_sync.media.recording_target import check_target

logger = logging.getLogger("artico_sync.media")

# Frames a lane may be behind; older ones are left out.
VIDEO_BACKLOG = 60
AUDIO_BACKLOG = 500
# Samples sound may be off its place before it is moved there.
TOLERANCE = AUDIO_RATE // 25
# Seconds of a gap in sound that are filled with silence at once.
LONGEST_GAP = 3600.0
# Seconds over which the shortest delay is looked for.
WINDOW = 10.0
# Seconds by which a delay must differ to be a new stream rather than a late frame.
JUMP = 2.0
# What the encoders are told.
_H264 = {"preset": "veryfast", "crf": "23", "bf": "0", "g": "60"}
_VP8 = {"deadline": "realtime", "cpu-used": "4", "lag-in-frames": "0", "g": "60"}


class Timeline:
    """The moment at which a recording begins: that of its first frame."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zero: float | None = None

    def seconds(self, moment: float) -> float:
        """How far into the recording a moment is."""
        with self._lock:
            if self._zero is None:
                self._zero = moment
            return max(0.0, moment - self._zero)


class CaptureClock:
    """When frames were captured, from their timestamps and arrivals."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._shortest = 0.0
        self._since = 0.0

    def moment(self, time: float, arrival: float) -> float:
        delay = arrival - time
        if self._offset is None or delay < self._offset or delay - self._offset > JUMP:
            self._offset = delay
            self._shortest, self._since = delay, arrival
        elif arrival - self._since > WINDOW:
            # The two clocks drift apart slowly.
            self._offset = self._shortest
            self._shortest, self._since = delay, arrival
        else:
            self._shortest = min(self._shortest, delay)
        return time + self._offset


class TrackWriter:
    """The encoded frames of one lane, in a file of its own until the end."""

    def __init__(self, path: str, kind: str, codec: str) -> None:
        self.path = path
        self._kind = kind
        self._codec = codec
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._fitter: PictureFitter | None = None
        self._last_pts = -1
        self._last_picture: VideoFrame | None = None
        self._written: int | None = None
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE)

    def _open(self, frame: Frame) -> None:
        self._container = av.open(self.path, "w", format="nut")
        if isinstance(frame, VideoFrame):
            options = _H264 if self._codec == "libx264" else _VP8
            self._stream = self._container.add_stream(self._codec, rate=30, options=options)
            self._stream.width = max(2, frame.width & ~1)
            self._stream.height = max(2, frame.height & ~1)
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = VIDEO_TIME_BASE
            if self._codec == "libvpx":
                pixels = frame.width * frame.height
                self._stream.bit_rate = max(300_000, min(6_000_000, pixels * 4))
            self._fitter = PictureFitter(self._stream.width, self._stream.height)
        else:
            self._stream = self._container.add_stream(self._codec, rate=AUDIO_RATE, layout="stereo")
            self._stream.codec_context.time_base = AUDIO_TIME_BASE

    def write(self, frame: Frame, seconds: float) -> None:
        """Put a frame where it belongs."""
        if self._stream is None:
            self._open(frame)
        if isinstance(frame, VideoFrame):
            self._write_picture(frame, seconds)
        elif isinstance(frame, AudioFrame):
            for piece in self._resampler.resample(bare_copy(frame)):
                self._write_sound(piece, seconds)
                seconds += piece.samples / AUDIO_RATE

    def hold(self, seconds: float) -> None:
        """Show the last picture until then."""
        last = self._last_picture
        if last is not None and seconds * VIDEO_TIME_BASE.denominator - self._last_pts > 9000:
            self._write_picture(last, seconds)

    def _write_picture(self, frame: VideoFrame, seconds: float) -> None:
        assert self._fitter is not None
        picture = self._fitter.fit(frame)
        self._last_pts = max(self._last_pts + 1, round(seconds * VIDEO_TIME_BASE.denominator))
        picture.pts = self._last_pts
        picture.time_base = VIDEO_TIME_BASE
        # The marks of the encoder it came from would make every frame of its kind again.
        picture.pict_type = PictureType.NONE
        self._last_picture = picture
        self._encode(picture)

    def _write_sound(self, piece: AudioFrame, seconds: float) -> None:
        place = round(seconds * AUDIO_RATE)
        if self._written is None:
            self._written = place
        missing = place - self._written
        if missing > TOLERANCE:
            for _ in range(min(missing, round(LONGEST_GAP * AUDIO_RATE)) // 960):
                self._append(silence())
        elif missing < -TOLERANCE:
            return
        self._append(piece)

    def _append(self, piece: AudioFrame) -> None:
        assert self._written is not None
        piece.pts = self._written
        piece.time_base = AUDIO_TIME_BASE
        self._written += piece.samples
        self._encode(piece)

    def _encode(self, frame: Frame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> bool:
        """End the file; returns whether there is anything in it."""
        if self._container is None:
            return False
        self._encode(None)
        self._container.close()
        self._container = self._last_picture = None
        return True


class Lane:
    """One lane of a recording, filled from one track after the other by a worker while there is
    one."""

    def __init__(self, file: TrackWriter, timeline: Timeline) -> None:
        self._file = file
        self._timeline = timeline
        self._lock = threading.Lock()
        self._readers: deque[FrameReader] = deque()
        self._reader: FrameReader | None = None
        self._worker: Worker | None = None
        self.error: Exception | None = None

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def free(self) -> bool:
        """Whether no track feeds the lane."""
        with self._lock:
            return self._worker is None and self.error is None

    def feed(self, reader: FrameReader) -> None:
        """Record a track once the one before has ended."""
        with self._lock:
            self._readers.append(reader)
            if self._worker is None:
                self._worker = Worker("record", self._run, self.stop, self._has_work)

    def stop(self) -> None:
        """Record no more of the tracks there are; any thread, does not wait."""
        with self._lock:
            self._readers.clear()
            reader = self._reader
        if reader is not None:
            reader.interrupt()

    def join(self, deadline: Deadline) -> bool:
        with self._lock:
            worker = self._worker
        return worker is None or worker.join(deadline)

    def close(self) -> bool:
        """End the file, after the worker has; returns whether there is anything in it."""
        return self._file.close()

    def _has_work(self) -> bool:
        with self._lock:
            return bool(self._readers) or (self._reader is not None and not self._reader.over)

    def _next_reader(self) -> FrameReader | None:
        with self._lock:
            self._reader = self._readers.popleft() if self._readers else None
            if self._reader is None:
                self._worker = None
            return self._reader

    def _run(self) -> None:
        while (reader := self._next_reader()) is not None:
            try:
                self._record(reader)
            except Exception as error:
                # A full disk, an encoder that gives up: told by `Recorder.stop`.
                logger.error("a recording failed", exc_info=error)
                reader.close()
                with self._lock:
                    self.error = error
                    self._readers.clear()

    def _record(self, reader: FrameReader) -> None:
        clock = CaptureClock()
        forever = Deadline(None)
        while True:
            try:
                frame, arrival = reader.get(forever)
            except ReadingInterrupted:
                self._file.hold(self._timeline.seconds(monotonic()))
                return
            except MediaError:
                return
            time = frame.pts * frame.time_base if frame.time_base and frame.pts is not None else 0
            moment = clock.moment(float(time), arrival)
            self._file.write(frame, self._timeline.seconds(moment))


class Recording:
    """A file being recorded.

    Args:
        path: The file wanted.

    Raises:
        ValueError: A suffix of no known format.
        MediaError: The file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._format = check_target(path)
        self.path = path
        parent = os.path.dirname(os.path.abspath(path))
        self._directory = tempfile.mkdtemp(prefix=".recording-", dir=parent)
        self._remove_directory = weakref.finalize(self, _remove, self._directory, os.getpid())
        self._timeline = Timeline()
        self._lock = threading.Lock()
        self._lanes: list[tuple[str, Lane]] = []

    def add(self, kind: str, reader: FrameReader) -> None:
        """Record one more track, in a lane that has come free where there is one."""
        codec = self._format.audio if kind == "audio" else self._format.video
        with self._lock:
            lane = next((lane for k, lane in self._lanes if k == kind and lane.free), None)
            if lane is None:
                if codec is None or (
                    self._format.video is None and any(k == kind for k, _ in self._lanes)
                ):
                    logger.warning("%s has no room for one more %s track", self.path, kind)
                    return
                file = os.path.join(self._directory, f"{len(self._lanes)}.nut")
                lane = Lane(TrackWriter(file, kind, codec), self._timeline)
                self._lanes.append((kind, lane))
            lane.feed(reader)

    def stop(self) -> None:
        """Record no more; does not wait."""
        with self._lock:
            lanes = list(self._lanes)
        for _, lane in lanes:
            lane.stop()

    def finish(self, deadline: Deadline) -> None:
        """Put the file together.

        Raises:
            ArticoTimeoutError: The deadline passed before everything was written.
            MediaError: Something could not be written.
        """
        self.stop()
        for _, lane in self._lanes:
            if not lane.join(deadline):
                raise deadline.error(f"the recording {self.path}")
        try:
            filled = [lane.path for _, lane in self._lanes if lane.close()]
            if filled:
                _combine(filled, self.path, self._format.container)
            else:
                logger.warning("nothing came to record in %s", self.path)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"Cannot write {self.path}: {error}") from error
        finally:
            self._remove_directory()
        for _, lane in self._lanes:
            if lane.error is not None:
                raise MediaError(f"A track could not be recorded: {lane.error}") from lane.error


def _remove(directory: str, process: int) -> None:
    # A child that ends must not take what its parent is recording with it.
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)


def _combine(files: list[str], path: str, container: str) -> None:
    """Put encoded lanes into one file, without encoding anything again."""
    sources = [av.open(file) for file in files]
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    try:
        with av.open(path, "w", format=container, options=options) as output:
            targets = [output.add_stream_from_template(s.streams[0]) for s in sources]
            for _, index, packet in heapq.merge(
                *(_packets(source, index) for index, source in enumerate(sources)),
                key=lambda item: item[0],
            ):
                packet.stream = targets[index]
                output.mux(packet)
    finally:
        for source in sources:
            source.close()


def _packets(source: Any, index: int) -> Iterator[tuple[Fraction, int, Any]]:
    for packet in source.demux():
        if packet.dts is not None and packet.size:
            yield packet.dts * packet.time_base, index, packet
