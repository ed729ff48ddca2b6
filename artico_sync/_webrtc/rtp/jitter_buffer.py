"""Puts received RTP packets in order and hands on each frame as soon as it is complete; loop
thread.

A frame goes on at the packet that completes it (for video the one with the marker bit), not at the
first packet of the next one. Packets missing for too long are given up: audio goes on behind the
gap, video at the next key frame. Pure logic: the caller passes the time and sends what is asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from artico_sync._webrtc.media.depacketizer import Payload

# Packets held for one stream, waiting for missing ones.
CAPACITY = 2048
# A jump in sequence numbers larger than this is a new stream.
MAXIMUM_JUMP = 1000
# Seconds after a request for a missing packet until the next one; the last is for all that follow.
# Short at first: on a near path the packet is back by then, on a far one it comes twice at worst.
NACK_INTERVALS = (0.03, 0.06, 0.12)
# Sequence numbers asked for in one request.
NACK_LIMIT = 200
# Seconds a missing packet is waited for.
VIDEO_PATIENCE = 0.5
AUDIO_PATIENCE = 0.06


@dataclass(slots=True)
class Packet:
    """A received packet as far as frames are concerned."""

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
    noticed: float
    ask_at: float = 0.0
    asked: int = 0


class TimestampUnwrapper:
    """RTP timestamps as a number that starts at 0 and never wraps."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._value = 0

    def unwrap(self, timestamp: int) -> int:
        if self._last is not None:
            self._value += ((timestamp - self._last + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        self._last = timestamp
        return self._value

    def rebase(self, elapsed: int) -> None:
        """Another clock follows, `elapsed` ticks after the last timestamp."""
        self._last = None
        self._value += elapsed


class JitterBuffer:
    """Frames of one RTP stream, in order.

    `hunting` is True while a video stream waits for a key frame to start with.
    """

    def __init__(self, *, video: bool) -> None:
        self._video = video
        self._patience = VIDEO_PATIENCE if video else AUDIO_PATIENCE
        self._timestamps = TimestampUnwrapper()
        self._clock_rate = 90000
        self.restart()

    def restart(self) -> None:
        """Forget everything but the clock, and start with the next key frame."""
        self.hunting = self._video
        self._packets: dict[int, Packet] = {}
        self._missing: dict[int, _Missing] = {}
        self._highest: int | None = None
        self._next: int | None = None
        self._parts: list[Packet] = []

    def add(self, sequence: int, packet: Packet) -> list[EncodedFrame]:
        """Take a packet; returns the frames that are complete now."""
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
        if self.hunting:
            if packet.payload.begins_key:
                self._start_at(number)
        elif self._next is None:
            self._next = number
        if len(self._packets) > CAPACITY:
            if self.hunting:
                del self._packets[min(self._packets)]
            else:
                self._skip_gap()
        return self._complete()

    def begin_stream(self, elapsed: float) -> None:
        """Another source follows, `elapsed` seconds after the last packet."""
        self.restart()
        self._timestamps.rebase(round(elapsed * self._clock_rate))

    def _unwrap(self, sequence: int) -> int | None:
        if self._highest is None:
            return sequence + 0x10000
        delta = ((sequence - self._highest + 0x8000) & 0xFFFF) - 0x8000
        return None if abs(delta) > MAXIMUM_JUMP else self._highest + delta

    def _start_at(self, number: int) -> None:
        self.hunting = False
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
                # The sender sets no marker bits.
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

    # missing packets

    @property
    def waiting(self) -> bool:
        """Whether packets are missing, so that `expire` and `nacks` have something to do later."""
        return bool(self._missing)

    def nacks(self, now: float) -> list[int]:
        """The sequence numbers to ask for now, sorted."""
        wanted = []
        for number, missing in self._missing.items():
            if now >= missing.ask_at:
                interval = NACK_INTERVALS[min(missing.asked, len(NACK_INTERVALS) - 1)]
                missing.ask_at = now + interval
                missing.asked += 1
                wanted.append(number & 0xFFFF)
                if len(wanted) == NACK_LIMIT:
                    break
        return sorted(wanted)

    def expire(self, now: float) -> list[EncodedFrame]:
        """Give up what has been missing for too long; returns the frames complete because of
        that."""
        oldest = next(iter(self._missing.values()), None)
        if oldest is None or now - oldest.noticed < self._patience:
            return []
        if self.hunting:
            self._missing = {
                n: m for n, m in self._missing.items() if now - m.noticed < self._patience
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
        keys = [number for number, packet in self._packets.items() if packet.payload.begins_key]
        if keys:
            self._start_at(min(keys))
        else:
            self.hunt()

    def hunt(self) -> None:
        """The decoder cannot go on: start again with the next key frame."""
        self.hunting = True
        self._next = None
        self._parts = []
        self._packets.clear()
        self._missing.clear()
