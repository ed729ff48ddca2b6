"""Reorders received RTP packets and returns each frame as soon as it is complete.

A frame is complete with its last packet (for video the one with the marker bit), not with the first
packet of the next frame. Packets missing for too long are skipped: audio continues after the gap,
video with the next keyframe. No input and output: the caller passes the time in and sends the
requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from artico_sync._webrtc.media.depacketizer import Payload

#: Packets of one stream that wait for missing ones.
CAPACITY_PACKETS = 2048
#: A larger jump in sequence numbers is a new stream.
SEQUENCE_JUMP_MAX = 1000
#: Seconds between the requests for a missing packet; the last interval repeats. Short at first: on
#: a short path the packet has arrived by then, on a long one it arrives twice at worst.
NACK_INTERVALS_SECONDS = (0.03, 0.06, 0.12)
#: Sequence numbers in one request.
NACK_MAX = 200
#: Longest wait for a missing packet.
VIDEO_MAX_WAIT_SECONDS = 0.5
AUDIO_MAX_WAIT_SECONDS = 0.06


@dataclass(slots=True)
class Packet:
    """The parts of a received packet that matter for reassembly."""

    timestamp: int
    marker: bool
    payload: Payload
    codec: RTCRtpCodecParameters
    arrival: float


@dataclass(slots=True)
class EncodedFrame:
    """A complete encoded frame; `timestamp` counts the codec's clock from the first packet."""

    codec: RTCRtpCodecParameters
    data: bytes
    timestamp: int
    arrival: float


@dataclass(slots=True)
class _Missing:
    noticed_at: float
    request_at: float = 0.0
    requests: int = 0


class TimestampUnwrapper:
    """Converts RTP timestamps to a number that starts at 0 and never wraps."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._value = 0

    def unwrap(self, timestamp: int) -> int:
        """Return the number for the next timestamp."""
        if self._last is not None:
            self._value += ((timestamp - self._last + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        self._last = timestamp
        return self._value

    def rebase(self, elapsed: int) -> None:
        """Continue with another clock, `elapsed` ticks after the last timestamp."""
        self._last = None
        self._value += elapsed


class JitterBuffer:
    """Returns the frames of one RTP stream in order.

    `waiting_for_keyframe` is True while a video stream waits for a keyframe to start with.
    """

    def __init__(self, *, video: bool) -> None:
        self._video = video
        self._max_wait = VIDEO_MAX_WAIT_SECONDS if video else AUDIO_MAX_WAIT_SECONDS
        self._timestamps = TimestampUnwrapper()
        self._clock_rate = 90000
        self.restart()

    def restart(self) -> None:
        """Drop everything but the clock, and start with the next keyframe."""
        self.waiting_for_keyframe = self._video
        self._packets: dict[int, Packet] = {}
        self._missing: dict[int, _Missing] = {}
        self._highest: int | None = None
        self._next: int | None = None
        self._parts: list[Packet] = []

    def add_packet(self, sequence: int, packet: Packet) -> list[EncodedFrame]:
        """Add a packet; return the frames it completes."""
        number = self._unwrap(sequence)
        if number is None:
            self.restart()
            number = sequence + 0x10000
        if number in self._packets or (self._next is not None and number < self._next):
            return []
        if self._highest is None:
            self._highest = number
        elif number > self._highest:
            for lost in range(self._highest + 1, number):
                self._missing[lost] = _Missing(packet.arrival)
            self._highest = number
        else:
            self._missing.pop(number, None)
        self._packets[number] = packet
        if self.waiting_for_keyframe:
            if packet.payload.begins_keyframe:
                self._start_at(number)
        elif self._next is None:
            self._next = number
        if len(self._packets) > CAPACITY_PACKETS:
            if self.waiting_for_keyframe:
                del self._packets[min(self._packets)]
            else:
                self._skip_gap()
        return self._complete()

    def begin_stream(self, elapsed: float) -> None:
        """Continue with another source, `elapsed` seconds after the last packet."""
        self.restart()
        self._timestamps.rebase(round(elapsed * self._clock_rate))

    def _unwrap(self, sequence: int) -> int | None:
        if self._highest is None:
            return sequence + 0x10000
        delta = ((sequence - self._highest + 0x8000) & 0xFFFF) - 0x8000
        return None if abs(delta) > SEQUENCE_JUMP_MAX else self._highest + delta

    def _start_at(self, number: int) -> None:
        self.waiting_for_keyframe = False
        self._next = number
        self._parts = []
        self._packets = {n: p for n, p in self._packets.items() if n >= number}
        self._missing = {n: m for n, m in self._missing.items() if n >= number}

    def _complete(self) -> list[EncodedFrame]:
        frames: list[EncodedFrame] = []
        while self._next is not None:
            packet = self._packets.pop(self._next, None)
            if packet is None:
                break
            self._next += 1
            if self._parts and packet.timestamp != self._parts[0].timestamp:
                # The sender does not set marker bits.
                frames.append(self._join())
            if packet.payload.data:
                self._parts.append(packet)
            if self._parts and (packet.marker or not self._video):
                frames.append(self._join())
        return frames

    def _join(self) -> EncodedFrame:
        parts, self._parts = self._parts, []
        self._clock_rate = parts[0].codec.clockRate
        return EncodedFrame(
            codec=parts[0].codec,
            data=b"".join(part.payload.data for part in parts),
            timestamp=self._timestamps.unwrap(parts[0].timestamp),
            arrival=parts[-1].arrival,
        )

    # Missing packets

    @property
    def has_missing(self) -> bool:
        """True if packets are missing."""
        return bool(self._missing)

    def sequences_to_nack(self, now: float) -> list[int]:
        """Return the sequence numbers to request now, sorted."""
        wanted = []
        for number, missing in self._missing.items():
            if now >= missing.request_at:
                interval = NACK_INTERVALS_SECONDS[
                    min(missing.requests, len(NACK_INTERVALS_SECONDS) - 1)
                ]
                missing.request_at = now + interval
                missing.requests += 1
                wanted.append(number & 0xFFFF)
                if len(wanted) == NACK_MAX:
                    break
        return sorted(wanted)

    def skip_overdue(self, now: float) -> list[EncodedFrame]:
        """Skip packets missing for too long; return the frames that can continue without them."""
        oldest = next(iter(self._missing.values()), None)
        if oldest is None or now - oldest.noticed_at < self._max_wait:
            return []
        if self.waiting_for_keyframe:
            self._missing = {
                n: m for n, m in self._missing.items() if now - m.noticed_at < self._max_wait
            }
            return []
        self._skip_gap()
        return self._complete()

    def _skip_gap(self) -> None:
        if not self._video:
            if self._packets:
                self._next = min(self._packets)
                self._missing = {n: m for n, m in self._missing.items() if n > self._next}
            return
        keys = [
            number for number, packet in self._packets.items() if packet.payload.begins_keyframe
        ]
        if keys:
            self._start_at(min(keys))
        else:
            self.request_keyframe()

    def request_keyframe(self) -> None:
        """Start again with the next keyframe, because the decoder cannot continue."""
        self.waiting_for_keyframe = True
        self._next = None
        self._parts = []
        self._packets.clear()
        self._missing.clear()
