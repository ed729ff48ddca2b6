"""Packets in any order and with any loss become whole frames in order, or a wait for a key
frame."""

from __future__ import annotations

import pytest
from aiortc.codecs import CODECS
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from hypothesis import given
from hypothesis import strategies as st

from artico_sync._webrtc.media.depacketizer import Payload, is_keyframe, parse_payload
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

# Sequence number, frame, whether it is the last packet of the frame, whether a key frame begins.
Sent = tuple[int, int, bool, bool]


def packets(frames: int, size: int, start: int = 65530, keys: tuple[int, ...] = (0,)) -> list[Sent]:
    """Return the packets of `frames` frames of `size` packets each."""
    sent: list[Sent] = []
    for frame in range(frames):
        for part in range(size):
            number = (start + frame * size + part) & 0xFFFF
            sent.append((number, frame, part == size - 1, part == 0 and frame in keys))
    return sent


def give(assembler: JitterBuffer, sent: Sent, now: float = 0.0) -> list[EncodedFrame]:
    number, frame, last, key = sent
    payload = Payload(bytes([frame & 0xFF, number & 0xFF, number >> 8]), key)
    return assembler.add_packet(number, Packet(frame * 3000 & 0xFFFFFFFF, last, payload, VP8, now))


def timestamps(frames: list[EncodedFrame]) -> list[int]:
    return [frame.timestamp // 3000 for frame in frames]


def test_a_frame_goes_on_with_its_last_packet() -> None:
    assembler = JitterBuffer(video=True)
    sent = packets(2, 3)
    assert give(assembler, sent[0]) == [] and give(assembler, sent[1]) == []
    (frame,) = give(assembler, sent[2])
    assert frame.timestamp == 0 and len(frame.data) == 9
    assert not assembler.has_missing


def test_without_marker_bits_a_frame_goes_on_with_the_next_one() -> None:
    assembler = JitterBuffer(video=True)
    got = []
    for number, frame, _, key in packets(3, 2):
        got += give(assembler, (number, frame, False, key))
    assert timestamps(got) == [0, 1]


def test_what_comes_before_a_key_frame_is_left_out() -> None:
    assembler = JitterBuffer(video=True)
    got = [f for sent in packets(6, 2, keys=(3,)) for f in give(assembler, sent)]
    assert len(got) == 3 and not assembler.waiting_for_keyframe
    assert {frame.data[0] for frame in got} == {3, 4, 5}


def test_packets_that_overtake_each_other_make_the_same_frames() -> None:
    assembler = JitterBuffer(video=True)
    sent = packets(4, 3)
    sent[1], sent[2] = sent[2], sent[1]
    sent[5], sent[8] = sent[8], sent[5]
    got = [frame for one in sent for frame in give(assembler, one)]
    assert timestamps(got) == [0, 1, 2, 3]
    assert all(len(frame.data) == 9 for frame in got)


def test_a_lost_packet_is_asked_for_again_and_again_and_completes_what_waits() -> None:
    assembler = JitterBuffer(video=True)
    sent = packets(4, 3)
    got = [f for index, one in enumerate(sent) if index != 4 for f in give(assembler, one)]
    assert timestamps(got) == [0]
    assert assembler.has_missing
    assert assembler.sequences_to_nack(0.0) == [sent[4][0]]
    assert assembler.sequences_to_nack(NACK_INTERVALS_SECONDS[0] / 2) == []
    assert assembler.sequences_to_nack(NACK_INTERVALS_SECONDS[0]) == [sent[4][0]]
    assert (
        assembler.sequences_to_nack(NACK_INTERVALS_SECONDS[0] + NACK_INTERVALS_SECONDS[1] / 2) == []
    )
    assert assembler.sequences_to_nack(1.0) == [sent[4][0]]
    assert timestamps(give(assembler, sent[4])) == [1, 2, 3]
    assert not assembler.has_missing


def test_lost_video_is_given_up_for_the_next_key_frame() -> None:
    assembler = JitterBuffer(video=True)
    sent = packets(6, 2, keys=(0, 4))
    for index, one in enumerate(sent[:6]):
        if index != 2:
            give(assembler, one)
    assert assembler.skip_overdue(VIDEO_MAX_WAIT_SECONDS / 2) == []
    assert assembler.skip_overdue(VIDEO_MAX_WAIT_SECONDS) == []
    assert assembler.waiting_for_keyframe and not assembler.has_missing
    got = [frame for one in sent[6:] for frame in give(assembler, one)]
    assert [frame.data[0] for frame in got] == [4, 5]


def test_a_key_frame_already_here_ends_the_wait_for_what_was_lost() -> None:
    assembler = JitterBuffer(video=True)
    sent = packets(6, 2, keys=(0, 4))
    for index, one in enumerate(sent):
        if index != 2:
            give(assembler, one)
    got = assembler.skip_overdue(VIDEO_MAX_WAIT_SECONDS)
    assert [frame.data[0] for frame in got] == [4, 5]
    assert not assembler.waiting_for_keyframe


def test_lost_sound_is_left_out_after_a_moment() -> None:
    assembler = JitterBuffer(video=False)
    sent = packets(5, 1)
    got = [f for index, one in enumerate(sent) if index != 2 for f in give(assembler, one)]
    assert timestamps(got) == [0, 1]
    assert timestamps(assembler.skip_overdue(AUDIO_MAX_WAIT_SECONDS)) == [3, 4]
    assert give(assembler, sent[2]) == []


def test_padding_makes_no_frame() -> None:
    assembler = JitterBuffer(video=True)
    first, second = packets(2, 1)
    give(assembler, first)
    padding = Packet(0, False, Payload(b"", False), VP8, 0.0)
    assert assembler.add_packet((first[0] + 1) & 0xFFFF, padding) == []
    moved = ((second[0] + 1) & 0xFFFF, *second[1:])
    assert timestamps(give(assembler, moved)) == [1]


def test_a_jump_in_the_numbers_begins_anew() -> None:
    assembler = JitterBuffer(video=True)
    for one in packets(2, 2, start=100):
        give(assembler, one)
    assert give(assembler, packets(1, 2, start=30000, keys=())[0]) == []
    assert assembler.waiting_for_keyframe
    got = [f for one in packets(2, 2, start=30002) for f in give(assembler, one)]
    assert len(got) == 2


@pytest.mark.slow
def test_no_more_is_held_than_the_capacity() -> None:
    assembler = JitterBuffer(video=True)
    for number in range(CAPACITY_PACKETS * 3):
        give(assembler, (number & 0xFFFF, number, False, False))
    assert len(assembler._packets) <= CAPACITY_PACKETS + 1
    for number in range(0, CAPACITY_PACKETS * 9, 3):
        give(assembler, (number & 0xFFFF, number, False, number == 0))
        assert len(assembler._packets) <= CAPACITY_PACKETS + 1
        assert len(assembler._missing) <= CAPACITY_PACKETS * 4
        assembler.skip_overdue(number / 1000)


@given(
    order=st.permutations(range(24)),
    lost=st.sets(st.integers(min_value=1, max_value=23), max_size=4),
)
def test_any_order_gives_whole_frames_in_order(order: list[int], lost: set[int]) -> None:
    assembler = JitterBuffer(video=True)
    sent = packets(8, 3)
    got = give(assembler, sent[0])
    for index in order:
        if index not in lost:
            got += give(assembler, sent[index])
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
    assembler = JitterBuffer(video=video)
    now = 0.0
    for number, timestamp, marker, data, key, pause in items:
        now += pause
        assembler.add_packet(number, Packet(timestamp, marker, Payload(data, key), VP8, now))
        assembler.sequences_to_nack(now)
        assembler.skip_overdue(now)


@pytest.mark.parametrize("codec", [VP8, H264, OPUS])
@given(payload=st.binary(max_size=40))
def test_a_malformed_payload_is_a_value_error(codec: RTCRtpCodecParameters, payload: bytes) -> None:
    try:
        parse_payload(codec, payload)
    except ValueError:
        return


def test_key_frames_are_told_from_others() -> None:
    assert parse_payload(VP8, b"\x10\x00rest").begins_keyframe
    assert not parse_payload(VP8, b"\x10\x01rest").begins_keyframe
    assert not parse_payload(VP8, b"\x00\x00rest").begins_keyframe
    assert parse_payload(H264, b"\x67\x42\x00").begins_keyframe
    assert parse_payload(H264, b"\x78\x00\x02\x67\x42\x00\x02\x68\x01").begins_keyframe
    assert not parse_payload(H264, b"\x41\x9a\x00").begins_keyframe
    assert is_keyframe(H264, [b"\x78\x00\x02\x67\x42", b"\x65\x01"])
    assert not is_keyframe(VP8, [b"\x10\x01rest"])


def test_timestamps_go_on_across_the_wrap() -> None:
    unwrapper = TimestampUnwrapper()
    assert [unwrapper.unwrap(t) for t in (0xFFFFFF00, 0x100, 0x50)] == [0, 0x200, 0x150]
    unwrapper.rebase(1000)
    assert unwrapper.unwrap(5) == 0x150 + 1000
