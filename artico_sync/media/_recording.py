"""Recordings of remote tracks: an encoded file for each output track, combined at the end.

Each output track (picture or sound) is encoded while it arrives, by a worker of its own, into a
file beside the wanted one; `Recording.finish` combines them. So an output track may begin late, end
early and be fed by one remote track after another, and still has its place in time.

All output tracks share one clock. A frame's place is its time of capture, estimated as its
timestamp plus the shortest delay observed lately.

Lock order: a recording's lock, then a track recorder's, then a reader's; the clock's alone.
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

from artico_sync._bridge.media import (
    AUDIO_RATE,
    AUDIO_SAMPLES,
    AUDIO_TIME_BASE,
    VIDEO_TIME_BASE,
    bare_copy,
    silence,
)
from artico_sync._bridge.streams import FrameReader, ReadingInterrupted
from artico_sync._bridge.threads import Worker
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.errors import MediaError
from artico_sync.media._frames import PictureFitter

logger = logging.getLogger(__name__)

# How far sound may be from its place before it is moved there, in samples.
AUDIO_TOLERANCE_SAMPLES = AUDIO_RATE // 25
# Longest gap in sound that is filled with silence.
MAX_GAP_SECONDS = 3600.0
# Time over which the shortest delay is observed.
DELAY_WINDOW_SECONDS = 10.0
# A delay that differs by more belongs to a new stream, not to a late frame.
DELAY_JUMP_SECONDS = 2.0
# A picture is held, by repeating it, if it stands for longer than this.
HOLD_SECONDS = 0.1
# Options of the encoders.
_H264_OPTIONS = {"preset": "veryfast", "crf": "23", "bf": "0", "g": "60"}
_VP8_OPTIONS = {"deadline": "realtime", "cpu-used": "4", "lag-in-frames": "0", "g": "60"}


class RecordingClock:
    """The time of a recording, which begins with its first frame."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start: float | None = None

    def seconds_at(self, moment: float) -> float:
        """Return how far into the recording a moment is."""
        with self._lock:
            if self._start is None:
                self._start = moment
            return max(0.0, moment - self._start)


class CaptureClock:
    """Estimates when frames of one track were captured, from their timestamps and arrivals."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._shortest = 0.0
        self._since = 0.0

    def captured_at(self, timestamp: float, arrival: float) -> float:
        """Return the moment a frame was captured, all in seconds."""
        delay = arrival - timestamp
        if (
            self._offset is None
            or delay < self._offset
            or delay - self._offset > DELAY_JUMP_SECONDS
        ):
            self._offset = delay
            self._shortest, self._since = delay, arrival
        elif arrival - self._since > DELAY_WINDOW_SECONDS:
            # The two clocks drift apart slowly.
            self._offset = self._shortest
            self._shortest, self._since = delay, arrival
        else:
            self._shortest = min(self._shortest, delay)
        return timestamp + self._offset


class TrackWriter:
    """Encodes one output track into a file of its own.

    Args:
        path: The file.
        codec: FFmpeg's name of the encoder.
    """

    def __init__(self, path: str, codec: str) -> None:
        self.path = path
        self._codec = codec
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._fitter: PictureFitter | None = None
        self._last_pts = -1
        self._last_picture: VideoFrame | None = None
        # Sample at which the next sound belongs.
        self._next_sample: int | None = None
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE)

    def _open(self, frame: Frame) -> None:
        self._container = av.open(self.path, "w", format="nut")
        if isinstance(frame, VideoFrame):
            options = _H264_OPTIONS if self._codec == "libx264" else _VP8_OPTIONS
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
        """Encode a frame at its place in the recording."""
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
        rate = VIDEO_TIME_BASE.denominator
        if last is not None and seconds * rate - self._last_pts > HOLD_SECONDS * rate:
            self._write_picture(last, seconds)

    def _write_picture(self, frame: VideoFrame, seconds: float) -> None:
        assert self._fitter is not None
        picture = self._fitter.fit(frame)
        self._last_pts = max(self._last_pts + 1, round(seconds * VIDEO_TIME_BASE.denominator))
        picture.pts = self._last_pts
        picture.time_base = VIDEO_TIME_BASE
        # The picture type set by the decoder would force this encoder to the same one.
        picture.pict_type = PictureType.NONE
        self._last_picture = picture
        self._encode(picture)

    def _write_sound(self, piece: AudioFrame, seconds: float) -> None:
        place = round(seconds * AUDIO_RATE)
        if self._next_sample is None:
            self._next_sample = place
        missing = place - self._next_sample
        if missing > AUDIO_TOLERANCE_SAMPLES:
            for _ in range(min(missing, round(MAX_GAP_SECONDS * AUDIO_RATE)) // AUDIO_SAMPLES):
                self._append_sound(silence())
        elif missing < -AUDIO_TOLERANCE_SAMPLES:
            return
        self._append_sound(piece)

    def _append_sound(self, piece: AudioFrame) -> None:
        assert self._next_sample is not None
        piece.pts = self._next_sample
        piece.time_base = AUDIO_TIME_BASE
        self._next_sample += piece.samples
        self._encode(piece)

    def _encode(self, frame: Frame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> bool:
        """Complete the file; return True if it has any content."""
        if self._container is None:
            return False
        self._encode(None)
        self._container.close()
        self._container = self._last_picture = None
        return True


class TrackRecorder:
    """Records remote tracks, one after another, into one output track.

    Its worker runs while there are tracks to record.

    Args:
        writer: Encodes the output track.
        clock: The time of the recording.
    """

    def __init__(self, writer: TrackWriter, clock: RecordingClock) -> None:
        self._writer = writer
        self._clock = clock
        self._lock = threading.Lock()
        self._readers: deque[FrameReader] = deque()
        self._reader: FrameReader | None = None
        self._worker: Worker | None = None
        self.error: Exception | None = None

    @property
    def path(self) -> str:
        """The file of the output track."""
        return self._writer.path

    @property
    def idle(self) -> bool:
        """True while no remote track is being recorded and none has failed."""
        with self._lock:
            return self._worker is None and self.error is None

    def enqueue_reader(self, reader: FrameReader) -> None:
        """Record a remote track once the ones before it have ended."""
        with self._lock:
            self._readers.append(reader)
            if self._worker is None:
                self._worker = Worker("record", self._run, self.stop, self._has_work)

    def stop(self) -> None:
        """Stop recording the current tracks; any thread, does not wait."""
        with self._lock:
            self._readers.clear()
            reader = self._reader
        if reader is not None:
            reader.interrupt()

    def join(self, deadline: Deadline) -> bool:
        """Wait for the worker's end; return False if the deadline passed first."""
        with self._lock:
            worker = self._worker
        return worker is None or worker.join(deadline)

    def close(self) -> bool:
        """Complete the file after the worker's end; return True if it has any content."""
        return self._writer.close()

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
                # For example a full disk; `Recording.finish` raises it.
                logger.error("a recording failed", exc_info=error)
                reader.close()
                with self._lock:
                    self.error = error
                    self._readers.clear()

    def _record(self, reader: FrameReader) -> None:
        capture_clock = CaptureClock()
        no_deadline = Deadline(None)
        while True:
            try:
                frame, arrival = reader.get(no_deadline)
            except ReadingInterrupted:
                self._writer.hold(self._clock.seconds_at(monotonic()))
                return
            except MediaError:
                return
            time = frame.pts * frame.time_base if frame.time_base and frame.pts is not None else 0
            moment = capture_clock.captured_at(float(time), arrival)
            self._writer.write(frame, self._clock.seconds_at(moment))


class Recording:
    """A file being recorded.

    Args:
        path: The file.
        container: FFmpeg's name of the file format.
        audio_codec: FFmpeg's name of the encoder for sound.
        video_codec: FFmpeg's name of the encoder for pictures; None for a file with sound only.

    Raises:
        OSError: No folder can be made beside the file.
    """

    def __init__(
        self, path: str, container: str, audio_codec: str, video_codec: str | None
    ) -> None:
        self.path = path
        self._container = container
        self._audio_codec = audio_codec
        self._video_codec = video_codec
        parent = os.path.dirname(os.path.abspath(path))
        self._directory = tempfile.mkdtemp(prefix=".recording-", dir=parent)
        self._remove_directory = weakref.finalize(
            self, _remove_directory, self._directory, os.getpid()
        )
        self._clock = RecordingClock()
        self._lock = threading.Lock()
        self._tracks: list[tuple[str, TrackRecorder]] = []

    def add(self, kind: str, reader: FrameReader) -> None:
        """Record one more remote track, into an idle output track of its kind if there is one."""
        codec = self._audio_codec if kind == "audio" else self._video_codec
        with self._lock:
            same_kind = [track for other, track in self._tracks if other == kind]
            recorder = next((track for track in same_kind if track.idle), None)
            if recorder is None:
                # A format without video holds a single audio track.
                if codec is None or (self._video_codec is None and same_kind):
                    logger.warning("%s cannot hold one more %s track", self.path, kind)
                    return
                file = os.path.join(self._directory, f"{len(self._tracks)}.nut")
                recorder = TrackRecorder(TrackWriter(file, codec), self._clock)
                self._tracks.append((kind, recorder))
            recorder.enqueue_reader(reader)

    def stop(self) -> None:
        """Stop recording; does not wait."""
        with self._lock:
            tracks = list(self._tracks)
        for _, recorder in tracks:
            recorder.stop()

    def finish(self, deadline: Deadline) -> None:
        """Stop recording and write the file.

        Raises:
            ArticoTimeoutError: The deadline passed before everything was encoded.
            MediaError: The file cannot be written, or a track could not be recorded.
        """
        self.stop()
        for _, recorder in self._tracks:
            if not recorder.join(deadline):
                raise deadline.error(f"the recording {self.path}")
        try:
            files = [recorder.path for _, recorder in self._tracks if recorder.close()]
            if files:
                _combine(files, self.path, self._container)
            else:
                logger.warning("no frame arrived to be recorded in %s", self.path)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"Cannot write {self.path}: {error}") from error
        finally:
            self._remove_directory()
        for _, recorder in self._tracks:
            if recorder.error is not None:
                raise MediaError(
                    f"A track could not be recorded: {recorder.error}"
                ) from recorder.error


def _remove_directory(directory: str, process: int) -> None:
    # A forked child that exits must not delete the files of its parent's recording.
    if os.getpid() == process:
        shutil.rmtree(directory, ignore_errors=True)


def _combine(files: list[str], path: str, container: str) -> None:
    """Put encoded tracks into one file, without encoding them again."""
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
