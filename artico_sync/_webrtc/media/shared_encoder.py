"""Encoding of local tracks: one encoder per track and codec, shared by all senders that use it.

The encoder runs in the loop's executor, one frame at a time. A video frame that arrives while the
encoder is busy replaces the queued one, so a slow encoder lowers the frame rate but adds no delay.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from aiortc.codecs import get_encoder
from aiortc.codecs.base import Encoder
from aiortc.codecs.opus import OpusEncoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import AudioFrame, Packet, VideoFrame
from av.frame import Frame
from av.video.frame import PictureType

from artico_sync._webrtc._aiortc.encoders import (
    UnclampedH264Encoder,
    UnclampedVp8Encoder,
)
from artico_sync._webrtc.media.depacketizer import is_keyframe
from artico_sync._webrtc.media.fanout import TrackFanout
from artico_sync._webrtc.media.raw_frames import (
    AUDIO_TIME_BASE,
    VIDEO_RATE,
    VIDEO_TIME_BASE,
    converted,
    copy_audio,
    copy_video,
)
from artico_sync.errors import MediaError

logger = logging.getLogger(__name__)

#: Lowest video bitrate, in bits per second; below it pictures are useless.
BITRATE_MINIMUM = 30_000
#: Maximum number of frames queued for the encoder.
VIDEO_QUEUE_FRAMES = 1
AUDIO_QUEUE_FRAMES = 10
#: Minimum time between two requested keyframes.
KEYFRAME_INTERVAL_SECONDS = 0.25
#: A second one may follow at once if the keyframe before the last is at least this old: a receiver
#: that has just begun to read a track has missed the track's first keyframe.
KEYFRAME_BURST_SECONDS = 1.0
#: The last picture is encoded again after this time without a frame if a keyframe was requested.
REPEAT_FOR_KEYFRAME_SECONDS = 0.05
#: The same without a request, for receivers that lost the last packets of a still picture.
REPEAT_STILL_SECONDS = 1.0
#: Maximum distance of an audio timestamp from its frame's due time before timestamps jump.
AUDIO_DEVIATION_SECONDS = 0.03


@dataclass(slots=True)
class Encoded:
    """The RTP payloads of one frame that an encoder was given.

    For video, `payloads` together are one encoded frame. For audio, each payload is one encoded
    frame that lasts `ticks` of the RTP clock.
    """

    payloads: list[bytes]
    is_keyframe: bool = True
    ticks: int = 0
    audio_level: int | None = None


class VideoEncoder:
    """An encoder for one video codec.

    Args:
        codec: The codec negotiated.
    """

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._codec = codec
        self._even = codec.name.upper() == "H264"
        self._encoder: UnclampedH264Encoder | UnclampedVp8Encoder = (
            UnclampedH264Encoder() if self._even else UnclampedVp8Encoder()
        )

    def set_bitrate(self, wanted: int | None, allowed: int | None) -> None:
        """Set the bitrate to the one wanted, limited to what the receivers allow.

        Without a wanted bitrate aiortc's limits apply as well.
        """
        if wanted is not None:
            bitrate = wanted if allowed is None else min(wanted, allowed)
            self._encoder.set_bitrate(max(bitrate, BITRATE_MINIMUM))
        elif allowed is not None:
            self._encoder.target_bitrate = allowed

    def encode(self, frame: VideoFrame, pts: int, force_keyframe: bool) -> Encoded:
        """Encode a picture; `pts` counts 1/90000 s and must increase."""
        width, height = frame.width, frame.height
        if self._even:
            width, height = max(2, width & ~1), max(2, height & ~1)
        if (frame.format.name, frame.width, frame.height) != ("yuv420p", width, height):
            frame = converted(frame, "yuv420p", width, height)
        frame.pts = pts
        frame.time_base = VIDEO_TIME_BASE
        # An earlier encoding of the same picture may have set its type.
        frame.pict_type = PictureType.NONE
        payloads, _ = self._encoder.encode(frame, force_keyframe)
        return Encoded(payloads, bool(payloads) and is_keyframe(self._codec, payloads))

    def pack(self, packet: Packet[Any]) -> Encoded:
        """Split a picture that is already encoded into payloads."""
        payloads, _ = self._encoder.pack(packet)
        return Encoded(payloads, bool(payloads) and is_keyframe(self._codec, payloads))


class AudioEncoder:
    """An encoder for one audio codec.

    Args:
        codec: The codec negotiated.
    """

    def __init__(self, codec: RTCRtpCodecParameters) -> None:
        self._encoder: Encoder = get_encoder(codec)
        self._samples = 0
        # RTP clock ticks of one payload: all supported codecs use 20 ms.
        self._ticks = codec.clockRate // 50

    def encode(self, frame: AudioFrame) -> Encoded:
        """Encode 20 ms of 48 kHz stereo."""
        frame.pts = self._samples
        frame.time_base = AUDIO_TIME_BASE
        self._samples += frame.samples
        if isinstance(self._encoder, OpusEncoder):
            # Skip aiortc's resampler: the frames already have the format and size of the codec.
            codec: Any = self._encoder.codec
            payloads = [bytes(packet) for packet in codec.encode(frame)]
        else:
            payloads, _ = self._encoder.encode(frame)
        return Encoded(payloads, ticks=self._ticks, audio_level=audio_level(frame))

    def pack(self, packet: Packet[Any]) -> Encoded:
        """Return audio that is already encoded as payloads."""
        payloads, _ = self._encoder.pack(packet)
        seconds = 0.02
        if packet.duration and packet.time_base is not None:
            seconds = float(packet.duration * packet.time_base)
        return Encoded(payloads, ticks=round(seconds * 50 * self._ticks))


def audio_level(frame: AudioFrame) -> int:
    """Return the level of a frame in dBov (RFC 6464): 0 is the loudest, -127 silence."""
    samples = memoryview(frame.planes[0]).cast("B").cast("h")[: frame.samples * 2 : 4]
    energy = sum(sample * sample for sample in samples)
    if not energy or not len(samples):
        return -127
    mean = energy / len(samples) / (32767.0 * 32767.0)
    return round(max(-127.0, min(0.0, 10 * math.log10(mean))))


@dataclass(slots=True)
class EncodedMedia:
    """The RTP payloads of one encoded frame, the same for all senders.

    `timestamp` counts the codec's clock since the start of `time.monotonic` and never wraps.
    """

    payloads: list[bytes]
    timestamp: int
    due: float
    is_keyframe: bool
    audio_level: int | None


class EncodedConsumer(Protocol):
    """A sender of encoded media."""

    def on_encoded(self, media: EncodedMedia) -> None: ...

    def on_end(self, error: MediaError | None) -> None: ...


def _codec_key(codec: RTCRtpCodecParameters) -> object:
    parameters = tuple(sorted((str(k), str(v)) for k, v in codec.parameters.items()))
    return codec.mimeType.lower(), codec.clockRate, codec.channels, parameters


def shared_encoder_for(fanout: TrackFanout, codec: RTCRtpCodecParameters) -> SharedEncoder:
    """Return the encoder of a track for a codec; create it if there is none yet."""
    key = _codec_key(codec)
    encoder = fanout.encoders.get(key)
    if not isinstance(encoder, SharedEncoder):
        encoder = fanout.encoders[key] = SharedEncoder(fanout, codec, key)
    return encoder


class SharedEncoder:
    """The encoder of one track for one codec, and the senders that use it."""

    def __init__(self, fanout: TrackFanout, codec: RTCRtpCodecParameters, key: object) -> None:
        self._fanout = fanout
        self._codec = codec
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._consumers: dict[EncodedConsumer, int | None] = {}
        self._video = fanout.kind == "video"
        self._queue: deque[tuple[Frame | Packet[Any], float]] = deque(
            maxlen=VIDEO_QUEUE_FRAMES if self._video else AUDIO_QUEUE_FRAMES
        )
        self._busy = False
        self._encoder: VideoEncoder | AudioEncoder | None = None
        self._keyframe_requested = False
        # Times of the last keyframe, and of the one before it.
        self._last_keyframe_at = self._previous_keyframe_at = 0.0
        self._last: tuple[Frame | Packet[Any], float] | None = None
        self._repeat: asyncio.TimerHandle | None = None
        self._next_timestamp: int | None = None
        self._epoch = monotonic()
        self._last_pts = -1
        self._faulty = False
        #: Number of frames encoded so far, for the statistics.
        self.frames_encoded = 0

    # Senders

    def add_sender(self, consumer: EncodedConsumer) -> None:
        """Encode for one more sender, and request a keyframe for it."""
        first = not self._consumers
        self._consumers[consumer] = None
        self.request_keyframe()
        if first:
            self._fanout.add_consumer(self)

    def remove_sender(self, consumer: EncodedConsumer) -> None:
        """Stop encoding for a sender; the last one to go closes the encoder."""
        if consumer not in self._consumers:
            return
        del self._consumers[consumer]
        if not self._consumers:
            self._fanout.remove_consumer(self)
            self._close()

    def _close(self) -> None:
        if self._fanout.encoders.get(self._key) is self:
            del self._fanout.encoders[self._key]
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None
        self._queue.clear()
        self._last = None
        if not self._busy:
            self._encoder = None

    def set_limit(self, consumer: EncodedConsumer, bitrate: int) -> None:
        """Set the bits per second that a sender's receiver can handle; the lowest limit applies."""
        if consumer in self._consumers:
            self._consumers[consumer] = bitrate

    def request_keyframe(self) -> None:
        """Schedule a keyframe, also if the track gives no new frame."""
        if self._video and not self._keyframe_requested:
            self._keyframe_requested = True
            if self._last is not None:
                self._repeat_in(REPEAT_FOR_KEYFRAME_SECONDS)

    # Frames

    def on_frame(self, frame: Frame | Packet[Any], due: float) -> None:
        """Queue a frame of the track."""
        if self._video:
            self._last = (frame, due)
        self._queue.append((frame, due))
        self._encode_next()

    def on_end(self, error: MediaError | None) -> None:
        """Close the encoder because the track has ended, and notify the senders."""
        consumers = tuple(self._consumers)
        self._consumers.clear()
        self._close()
        for consumer in consumers:
            consumer.on_end(error)

    def _repeat_in(self, seconds: float) -> None:
        if self._repeat is not None:
            self._repeat.cancel()
        self._repeat = self._loop.call_later(seconds, self._repeat_last)

    def _repeat_last(self) -> None:
        self._repeat = None
        if self._last is None or not self._consumers or isinstance(self._last[0], Packet):
            return
        if not self._busy and not self._queue:
            self._queue.append((self._last[0], monotonic()))
            self._encode_next()

    def _encode_next(self) -> None:
        if self._busy or not self._queue or not self._consumers:
            return
        frame, due = self._queue.popleft()
        now = monotonic()
        force_keyframe = self._keyframe_requested and (
            now - self._last_keyframe_at >= KEYFRAME_INTERVAL_SECONDS
            or now - self._previous_keyframe_at >= KEYFRAME_BURST_SECONDS
        )
        if force_keyframe:
            self._keyframe_requested = False
        limits = [limit for limit in self._consumers.values() if limit is not None]
        allowed = min(limits, default=None)
        copy = len(self._fanout.encoders) > 1 or not self._fanout.owns_frames
        try:
            future = self._loop.run_in_executor(
                None, self._encode, frame, due, force_keyframe, self._fanout.bitrate, allowed, copy
            )
        except RuntimeError:
            # The interpreter or the loop is shutting down.
            return
        self._busy = True
        future.add_done_callback(lambda done: self._on_encoded(done, due))

    def _encode(
        self,
        frame: Frame | Packet[Any],
        due: float,
        force_keyframe: bool,
        bitrate: int | None,
        allowed: int | None,
        copy: bool,
    ) -> Encoded:
        """Encode a frame; runs on an executor thread, one call at a time."""
        if self._encoder is None:
            self._encoder = (VideoEncoder if self._video else AudioEncoder)(self._codec)
        encoder = self._encoder
        if isinstance(frame, Packet):
            return encoder.pack(frame)
        if isinstance(encoder, VideoEncoder):
            assert isinstance(frame, VideoFrame)
            encoder.set_bitrate(bitrate, allowed)
            self._last_pts = max(self._last_pts + 1, round((due - self._epoch) * VIDEO_RATE))
            # Encoders modify the frame, and other encoders or the user may hold it too.
            picture = copy_video(frame) if copy else frame
            return encoder.encode(picture, self._last_pts, force_keyframe)
        assert isinstance(frame, AudioFrame)
        return encoder.encode(copy_audio(frame) if copy else frame)

    def _on_encoded(self, future: asyncio.Future[Encoded], due: float) -> None:
        self._busy = False
        if future.cancelled():
            return
        if not self._consumers:
            self._encoder = None
            return
        error = future.exception()
        if error is not None:
            self._encoder_failed(error)
        else:
            self._faulty = False
            self._deliver_payloads(future.result(), due)
        if self._video and self._last is not None:
            self._repeat_in(
                REPEAT_FOR_KEYFRAME_SECONDS if self._keyframe_requested else REPEAT_STILL_SECONDS
            )
        self._encode_next()

    def _encoder_failed(self, error: BaseException) -> None:
        # A frame that cannot be encoded must not end the track. Log the first failure in a row.
        if not self._faulty:
            logger.error("failed to encode a %s frame", self._fanout.kind, exc_info=error)
        self._faulty = True
        self._encoder = None
        self._last = None

    def _deliver_payloads(self, encoded: Encoded, due: float) -> None:
        if not encoded.payloads:
            return
        self.frames_encoded += 1
        if self._video:
            if encoded.is_keyframe:
                self._previous_keyframe_at, self._last_keyframe_at = (
                    self._last_keyframe_at,
                    monotonic(),
                )
            timestamp = round(due * self._codec.clockRate)
            if self._next_timestamp is not None:
                timestamp = max(timestamp, self._next_timestamp)
            self._next_timestamp = timestamp + 1
            self._deliver_media(
                EncodedMedia(encoded.payloads, timestamp, due, encoded.is_keyframe, None)
            )
            return
        for payload in encoded.payloads:
            timestamp = self._audio_timestamp(due, encoded.ticks)
            self._deliver_media(EncodedMedia([payload], timestamp, due, True, encoded.audio_level))

    def _audio_timestamp(self, due: float, ticks: int) -> int:
        """Return the next timestamp: in even steps while frames are on time, else after a jump."""
        rate = self._codec.clockRate
        timestamp = self._next_timestamp
        if timestamp is None or abs(timestamp / rate - due) > AUDIO_DEVIATION_SECONDS:
            timestamp = max(round(due * rate), timestamp or 0)
        self._next_timestamp = timestamp + ticks
        return timestamp

    def _deliver_media(self, media: EncodedMedia) -> None:
        for consumer in tuple(self._consumers):
            consumer.on_encoded(media)
