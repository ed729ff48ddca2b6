"""Jitter buffer: packets in any order and with any loss give whole frames in order."""

from __future__ import annotations

import pytest
from aiortc.codecs import CODECS
from hypothesis import given
from hypothesis import strategies as st

from artico_sync._webrtc.media.depacketizer import Payload
from artico_sync._webrtc.rtp.jitter_buffer import (
    AUDIO_MAX_WAIT_SECONDS,
    CAPACITY_PACKETS,
    NACK_INTERVALS_SECONDS,
    VIDEO_MAX_WAIT_SECONDS,
    EncodedFrame,
    JitterBuffer,
    Packet,
    TimestampUnwrapper,
)

VP8 = next(codec for codec in CODECS["video"] if codec.name == "VP8")
H264 = next(codec for codec in CODECS["video"] if codec.name == "H264")
OPUS = CODECS["audio"][0]

# Sequence number, frame number, "last packet of the frame", "begins a keyframe".
Sent = tuple[int, int, bool, bool]


def packets(frames: int, size: int, start: int = 65530, keys: tuple[int, ...] = (0,)) -> list[Sent]:
    """Return the packets of `frames` frames of `size` packets each."""
    sent: list[Sent] = []
    for frame in range(frames):
        for part in range(size):
            number = (start + frame * size + part) & 0xFFFF
            sent.append((number, frame, part == size - 1, part == 0 and frame in keys))
    return sent


def add_sent(buffer: JitterBuffer, sent: Sent, now: float = 0.0) -> list[EncodedFrame]:
    number, frame, last, key = sent
    payload = Payload(bytes([frame & 0xFF, number & 0xFF, number >> 8]), key)
    return buffer.add_packet(number, Packet(frame * 3000 & 0xFFFFFFFF, last, payload, VP8, now))


def timestamps(frames: list[EncodedFrame]) -> list[int]:
    return [frame.timestamp // 3000 for frame in frames]


def test_a_frame_is_returned_with_its_last_packet() -> None:
    buffer = JitterBuffer(video=True)
    sent = packets(2, 3)
    assert add_sent(buffer, sent[0]) == [] and add_sent(buffer, sent[1]) == []
    (frame,) = add_sent(buffer, sent[2])
    assert frame.timestamp == 0 and len(frame.data) == 9
    assert not buffer.has_missing


def test_without_marker_bits_a_frame_is_returned_with_the_next_one() -> None:
    buffer = JitterBuffer(video=True)
    got = []
    for number, frame, _, key in packets(3, 2):
        got += add_sent(buffer, (number, frame, False, key))
    assert timestamps(got) == [0, 1]


def test_frames_before_the_first_keyframe_are_skipped() -> None:
    buffer = JitterBuffer(video=True)
    got = [f for sent in packets(6, 2, keys=(3,)) for f in add_sent(buffer, sent)]
    assert len(got) == 3 and not buffer.waiting_for_keyframe
    assert {frame.data[0] for frame in got} == {3, 4, 5}


def test_reordered_packets_give_the_same_frames() -> None:
    buffer = JitterBuffer(video=True)
    sent = packets(4, 3)
    sent[1], sent[2] = sent[2], sent[1]
    sent[5], sent[8] = sent[8], sent[5]
    got = [frame for one in sent for frame in add_sent(buffer, one)]
    assert timestamps(got) == [0, 1, 2, 3]
    assert all(len(frame.data) == 9 for frame in got)


def test_a_lost_packet_is_requested_repeatedly_and_completes_the_frame() -> None:
    buffer = JitterBuffer(video=True)
    sent = packets(4, 3)
    got = [f for index, one in enumerate(sent) if index != 4 for f in add_sent(buffer, one)]
    assert timestamps(got) == [0]
    assert buffer.has_missing
    assert buffer.sequences_to_nack(0.0) == [sent[4][0]]
    assert buffer.sequences_to_nack(NACK_INTERVALS_SECONDS[0] / 2) == []
    assert buffer.sequences_to_nack(NACK_INTERVALS_SECONDS[0]) == [sent[4][0]]
    assert buffer.sequences_to_nack(NACK_INTERVALS_SECONDS[0] + NACK_INTERVALS_SECONDS[1] / 2) == []
    assert buffer.sequences_to_nack(1.0) == [sent[4][0]]
    assert timestamps(add_sent(buffer, sent[4])) == [1, 2, 3]
    assert not buffer.has_missing


def test_after_the_maximum_wait_video_resumes_with_the_next_keyframe() -> None:
    buffer = JitterBuffer(video=True)
    sent = packets(6, 2, keys=(0, 4))
    for index, one in enumerate(sent[:6]):
        if index != 2:
            add_sent(buffer, one)
    assert buffer.skip_overdue(VIDEO_MAX_WAIT_SECONDS / 2) == []
    assert buffer.skip_overdue(VIDEO_MAX_WAIT_SECONDS) == []
    assert buffer.waiting_for_keyframe and not buffer.has_missing
    got = [frame for one in sent[6:] for frame in add_sent(buffer, one)]
    assert [frame.data[0] for frame in got] == [4, 5]


def test_after_the_maximum_wait_video_resumes_with_a_keyframe_received_already() -> None:
    buffer = JitterBuffer(video=True)
    sent = packets(6, 2, keys=(0, 4))
    for index, one in enumerate(sent):
        if index != 2:
            add_sent(buffer, one)
    got = buffer.skip_overdue(VIDEO_MAX_WAIT_SECONDS)
    assert [frame.data[0] for frame in got] == [4, 5]
    assert not buffer.waiting_for_keyframe


def test_lost_audio_is_skipped_after_the_maximum_wait() -> None:
    buffer = JitterBuffer(video=False)
    sent = packets(5, 1)
    got = [f for index, one in enumerate(sent) if index != 2 for f in add_sent(buffer, one)]
    assert timestamps(got) == [0, 1]
    assert timestamps(buffer.skip_overdue(AUDIO_MAX_WAIT_SECONDS)) == [3, 4]
    assert add_sent(buffer, sent[2]) == []


def test_padding_gives_no_frame() -> None:
    buffer = JitterBuffer(video=True)
    first, second = packets(2, 1)
    add_sent(buffer, first)
    padding = Packet(0, False, Payload(b"", False), VP8, 0.0)
    assert buffer.add_packet((first[0] + 1) & 0xFFFF, padding) == []
    moved = ((second[0] + 1) & 0xFFFF, *second[1:])
    assert timestamps(add_sent(buffer, moved)) == [1]


def test_a_jump_in_the_sequence_numbers_resets_the_buffer() -> None:
    buffer = JitterBuffer(video=True)
    for one in packets(2, 2, start=100):
        add_sent(buffer, one)
    assert add_sent(buffer, packets(1, 2, start=30000, keys=())[0]) == []
    assert buffer.waiting_for_keyframe
    got = [f for one in packets(2, 2, start=30002) for f in add_sent(buffer, one)]
    assert len(got) == 2


@pytest.mark.slow
def test_the_capacity_is_never_exceeded() -> None:
    buffer = JitterBuffer(video=True)
    for number in range(CAPACITY_PACKETS * 3):
        add_sent(buffer, (number & 0xFFFF, number, False, False))
    assert len(buffer._packets) <= CAPACITY_PACKETS + 1
    for number in range(0, CAPACITY_PACKETS * 9, 3):
        add_sent(buffer, (number & 0xFFFF, number, False, number == 0))
        assert len(buffer._packets) <= CAPACITY_PACKETS + 1
        assert len(buffer._missing) <= CAPACITY_PACKETS * 4
        buffer.skip_overdue(number / 1000)


@given(
    order=st.permutations(range(24)),
    lost=st.sets(st.integers(min_value=1, max_value=23), max_size=4),
)
def test_any_order_gives_whole_frames_in_order(order: list[int], lost: set[int]) -> None:
    buffer = JitterBuffer(video=True)
    sent = packets(8, 3)
    got = add_sent(buffer, sent[0])
    for index in order:
        if index not in lost:
            got += add_sent(buffer, sent[index])
    assert all(len(frame.data) == 9 for frame in got)
    numbers = [frame.data[0] for frame in got]
    assert numbers == list(range(len(numbers)))
    if not lost:
        assert len(numbers) == 8


@given(
    st.lists(
        st.tuples(
            st.integers(0, 65535), st.integers(0, 2**32 - 1), st.booleans(), st.binary(max_size=4),
            st.booleans(), st.floats(0, 2),
        ),
        max_size=60,
    ),
    st.booleans(),
)  # fmt: skip
def test_nothing_a_peer_sends_raises(
    items: list[tuple[int, int, bool, bytes, bool, float]], video: bool
) -> None:
    buffer = JitterBuffer(video=video)
    now = 0.0
    for number, timestamp, marker, data, key, pause in items:
        now += pause
        buffer.add_packet(number, Packet(timestamp, marker, Payload(data, key), VP8, now))
        buffer.sequences_to_nack(now)
        buffer.skip_overdue(now)


def test_timestamps_continue_across_the_wrap() -> None:
    unwrapper = TimestampUnwrapper()
    assert [unwrapper.unwrap(t) for t in (0xFFFFFF00, 0x100, 0x50)] == [0, 0x200, 0x150]
    unwrapper.rebase(1000)
    assert unwrapper.unwrap(5) == 0x150 + 1000
