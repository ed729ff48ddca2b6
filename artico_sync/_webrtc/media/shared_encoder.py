"""Encodes one local track once for all senders that use the same codec; loop thread.

The encoder runs in the loop's executor, one frame at a time. A video frame that comes while the
encoder is busy replaces the one waiting, so a slow encoder lowers the frame rate and never adds
delay.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import AudioFrame, Packet, VideoFrame
from av.frame import Frame

from artico_sync._webrtc.media.encoders import AudioEncoder, Encoded, VideoEncoder
from artico_sync._webrtc.media.fanout import TrackFanout
from artico_sync._webrtc.media.timeline import VIDEO_RATE, copy_audio, copy_video
from artico_sync.errors import MediaError

logger = logging.getLogger("artico_sync._webrtc.media")

# Frames that may wait for the encoder.
VIDEO_WAITING = 1
AUDIO_WAITING = 10
# Seconds between two key frames made on request; one more may follow at once where there was none
# for a while: whoever begins to read a track has just missed the one it began with.
KEY_FRAME_INTERVAL = 0.25
KEY_FRAME_PAUSE = 1.0
# Seconds without a frame after which a picture is sent again: at once for a receiver that
# asked for a key frame, now and then for one that lost the last packets of a still picture.
REPEAT_FOR_KEY = 0.05
REPEAT_STILL = 1.0
# Seconds audio may deviate from its due time before its timestamps jump.
AUDIO_DEVIATION = 0.03


@dataclass(slots=True)
class EncodedMedia:
    """Packets of one frame, the same for all senders.

    `timestamp` counts the codec's clock on the timeline of this process and never wraps.
    """

    payload: list[bytes]
    timestamp: int
    due: float
    key: bool
    audio_level: int | None


class EncodedConsumer(Protocol):
    """A sender of encoded media; called on the loop thread."""

    def on_encoded(self, media: EncodedMedia) -> None: ...

    def on_end(self, error: MediaError | None) -> None: ...


def _key_of(codec: RTCRtpCodecParameters) -> object:
    parameters = tuple(sorted((str(k), str(v)) for k, v in codec.parameters.items()))
    return codec.mimeType.lower(), codec.clockRate, codec.channels, parameters


def encoding_for(hub: TrackFanout, codec: RTCRtpCodecParameters) -> SharedEncoder:
    """The encoding of a track with a codec; shared by all that ask with the same codec."""
    key = _key_of(codec)
    encoding = hub.encodings.get(key)
    if not isinstance(encoding, SharedEncoder):
        encoding = hub.encodings[key] = SharedEncoder(hub, codec, key)
    return encoding


class SharedEncoder:
    """One encoder and the senders it works for."""

    def __init__(self, hub: TrackFanout, codec: RTCRtpCodecParameters, key: object) -> None:
        self._hub = hub
        self._codec = codec
        self._key = key
        self._loop = asyncio.get_running_loop()
        self._consumers: dict[EncodedConsumer, int | None] = {}
        self._video = hub.kind == "video"
        self._waiting: deque[tuple[Frame | Packet[Any], float]] = deque(
            maxlen=VIDEO_WAITING if self._video else AUDIO_WAITING
        )
        self._busy = False
        self._encoder: VideoEncoder | AudioEncoder | None = None
        self._key_wanted = False
        # When the last key frame was made, and the one before.
        self._last_key = self._earlier_key = 0.0
        self._last: tuple[Frame | Packet[Any], float] | None = None
        self._repeat: asyncio.TimerHandle | None = None
        self._next_timestamp: int | None = None
        self._epoch = monotonic()
        self._last_pts = -1
        self._faulty = False
        #: Frames encoded so far, for the statistics.
        self.frames_encoded = 0

    # senders

    def add(self, consumer: EncodedConsumer) -> None:
        """Work for one more sender, which gets a key frame first."""
        first = not self._consumers
        self._consumers[consumer] = None
        self.request_key_frame()
        if first:
            self._hub.add(self)

    def discard(self, consumer: EncodedConsumer) -> None:
        """Work no more for a sender; the encoder goes with the last one."""
        if consumer not in self._consumers:
            return
        del self._consumers[consumer]
        if not self._consumers:
            self._hub.discard(self)
            self._close()

    def _close(self) -> None:
        if self._hub.encodings.get(self._key) is self:
            del self._hub.encodings[self._key]
        if self._repeat is not None:
            self._repeat.cancel()
            self._repeat = None
        self._waiting.clear()
        self._last = None
        if not self._busy:
            self._encoder = None

    def set_limit(self, consumer: EncodedConsumer, bitrate: int) -> None:
        """What the receiver behind a sender can take, in bits a second; the lowest of all
        counts."""
        if consumer in self._consumers:
            self._consumers[consumer] = bitrate

    def request_key_frame(self) -> None:
        """Have a key frame made soon."""
        if self._video and not self._key_wanted:
            self._key_wanted = True
            if self._last is not None:
                self._repeat_in(REPEAT_FOR_KEY)

    # frames

    def on_frame(self, frame: Frame | Packet[Any], due: float) -> None:
        if self._video:
            self._last = (frame, due)
        self._waiting.append((frame, due))
        self._encode_next()

    def on_end(self, error: MediaError | None) -> None:
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
        if not self._busy and not self._waiting:
            self._waiting.append((self._last[0], monotonic()))
            self._encode_next()

    def _encode_next(self) -> None:
        if self._busy or not self._waiting or not self._consumers:
            return
        frame, due = self._waiting.popleft()
        now = monotonic()
        force_key = self._key_wanted and (
            now - self._last_key >= KEY_FRAME_INTERVAL or now - self._earlier_key >= KEY_FRAME_PAUSE
        )
        if force_key:
            self._key_wanted = False
        limits = [limit for limit in self._consumers.values() if limit is not None]
        allowed = min(limits, default=None)
        copy = len(self._hub.encodings) > 1 or not self._hub.owns_frames
        try:
            future = self._loop.run_in_executor(
                None, self._encode, frame, due, force_key, self._hub.bitrate, allowed, copy
            )
        except RuntimeError:
            # The interpreter or the loop is going down.
            return
        self._busy = True
        future.add_done_callback(lambda done: self._encoded(done, due))

    def _encode(
        self,
        frame: Frame | Packet[Any],
        due: float,
        force_key: bool,
        bitrate: int | None,
        allowed: int | None,
        copy: bool,
    ) -> Encoded:
        """Executor thread; one at a time."""
        if self._encoder is None:
            self._encoder = (VideoEncoder if self._video else AudioEncoder)(self._codec)
        encoder = self._encoder
        if isinstance(frame, Packet):
            return encoder.pack(frame)
        if isinstance(encoder, VideoEncoder):
            assert isinstance(frame, VideoFrame)
            encoder.set_bitrate(bitrate, allowed)
            self._last_pts = max(self._last_pts + 1, round((due - self._epoch) * VIDEO_RATE))
            # Encoders leave marks on a frame, and somebody else may have it too.
            picture = copy_video(frame) if copy else frame
            return encoder.encode(picture, self._last_pts, force_key)
        assert isinstance(frame, AudioFrame)
        return encoder.encode(copy_audio(frame) if copy else frame)

    def _encoded(self, future: asyncio.Future[Encoded], due: float) -> None:
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
            self._hand_out(future.result(), due)
        if self._video and self._last is not None:
            self._repeat_in(REPEAT_FOR_KEY if self._key_wanted else REPEAT_STILL)
        self._encode_next()

    def _encoder_failed(self, error: BaseException) -> None:
        # A frame the encoder cannot take must not end the track; said once until it works again.
        if not self._faulty:
            logger.error("cannot encode a %s frame", self._hub.kind, exc_info=error)
        self._faulty = True
        self._encoder = None
        self._last = None

    def _hand_out(self, encoded: Encoded, due: float) -> None:
        if not encoded.payloads:
            return
        self.frames_encoded += 1
        if self._video:
            if encoded.key:
                self._earlier_key, self._last_key = self._last_key, monotonic()
            timestamp = round(due * self._codec.clockRate)
            if self._next_timestamp is not None:
                timestamp = max(timestamp, self._next_timestamp)
            self._next_timestamp = timestamp + 1
            self._give(EncodedMedia(encoded.payloads, timestamp, due, encoded.key, None))
            return
        for payload in encoded.payloads:
            timestamp = self._audio_timestamp(due, encoded.ticks)
            self._give(EncodedMedia([payload], timestamp, due, True, encoded.audio_level))

    def _audio_timestamp(self, due: float, ticks: int) -> int:
        """Even steps while the frames are on time, a jump where they are not."""
        rate = self._codec.clockRate
        timestamp = self._next_timestamp
        if timestamp is None or abs(timestamp / rate - due) > AUDIO_DEVIATION:
            timestamp = max(round(due * rate), timestamp or 0)
        self._next_timestamp = timestamp + ticks
        return timestamp

    def _give(self, media: EncodedMedia) -> None:
        for consumer in tuple(self._consumers):
            consumer.on_encoded(media)
