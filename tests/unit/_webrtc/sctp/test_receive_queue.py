"""Reassembly, TSN bookkeeping and the advertised window."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from artico_sync._protocol.bounds import OVERHEAD
from artico_sync._webrtc.sctp.packets import (
    COMMON_HEADER_LENGTH,
    DATA,
    DATA_CHUNK,
    DATA_HEADER_LENGTH,
    FLAG_BEGIN,
    FLAG_END,
    FLAG_UNORDERED,
    TSN_MODULO,
    Data,
)
from artico_sync._webrtc.sctp.receive_queue import (
    WINDOW_SLACK_BYTES,
    Message,
    ReceiveQueue,
)

CAPACITY = 1 << 20
MAXIMUM = 1 << 16


def make_queue(initial: int = 1, capacity: int = CAPACITY, maximum: int = MAXIMUM) -> ReceiveQueue:
    queue = ReceiveQueue(capacity, maximum)
    queue.start(initial)
    return queue


def fragments(messages: list[bytes], initial: int, size: int, stream: int = 0) -> list[Data]:
    """Return the chunks that a sender makes of messages."""
    chunks = []
    tsn = initial
    for sequence, message in enumerate(messages):
        pieces = [message[i : i + size] for i in range(0, len(message), size)]
        for index, piece in enumerate(pieces):
            flags = FLAG_BEGIN if index == 0 else 0
            flags |= FLAG_END if index == len(pieces) - 1 else 0
            chunks.append(Data(tsn % TSN_MODULO, flags, stream, sequence & 0xFFFF, 53, piece))
            tsn += 1
    return chunks


def model_gaps(received: set[int], cumulative: int) -> list[tuple[int, int]]:
    """Compute the gap ack blocks of RFC 9260 3.3.4 from the set of TSNs."""
    gaps: list[tuple[int, int]] = []
    for tsn in sorted(received):
        if tsn <= cumulative:
            continue
        if gaps and gaps[-1][1] == tsn - cumulative - 1:
            gaps[-1] = (gaps[-1][0], tsn - cumulative)
        else:
            gaps.append((tsn - cumulative, tsn - cumulative))
    return gaps


@given(
    messages=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20),
    size=st.integers(1, 20),
    initial=st.integers(0, TSN_MODULO - 1),
    seed=st.integers(),
    duplicates=st.integers(0, 20),
)
def test_any_order_gives_the_messages_in_order(
    messages: list[bytes], size: int, initial: int, seed: int, duplicates: int
) -> None:
    chunks = fragments(messages, initial, size)
    shuffled = list(enumerate(chunks))
    chance = random.Random(seed)
    shuffled += [chance.choice(shuffled) for _ in range(duplicates)]
    chance.shuffle(shuffled)
    queue = make_queue(initial)
    start = queue.cumulative_tsn
    delivered: list[Message] = []
    received: set[int] = set()
    for index, chunk in shuffled:
        known = start + 1 + index in received
        taken = queue.receive_chunk(chunk)
        assert (taken is None) == known
        received.add(start + 1 + index)
        delivered += taken or []
        gaps = model_gaps(received, queue.cumulative_tsn)
        assert list(queue.make_sack(1200).gaps) == gaps
        assert queue.has_gaps == bool(gaps)
    assert [message[2] for message in delivered] == messages
    assert queue.buffered == 0
    assert queue.cumulative_tsn == start + len(chunks)


@given(
    messages=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=12),
    lost=st.sets(st.integers(0, 60)),
    forward=st.integers(0, 60),
    size=st.integers(1, 12),
)
def test_forward_skips_what_is_missing(
    messages: list[bytes], lost: set[int], forward: int, size: int
) -> None:
    initial = TSN_MODULO - 5
    chunks = fragments(messages, initial, size)
    forward = min(forward, len(chunks) - 1)
    queue = make_queue(initial)
    start = queue.cumulative_tsn
    delivered: list[Message] = []
    for index, chunk in enumerate(chunks):
        if index not in lost:
            delivered += queue.receive_chunk(chunk) or []
    delivered += queue.skip_to(chunks[forward].tsn)
    assert queue.cumulative_tsn >= start + 1 + forward
    # Whole messages only, in order, and each that lost nothing up to there.
    position = 0
    expected = []
    for message in messages:
        count = -(-len(message) // size)
        if not lost & set(range(position, position + count)) and position + count - 1 <= forward:
            expected.append(message)
        position += count
    data = [message[2] for message in delivered]
    assert data[: len(expected)] == expected
    assert all(message in messages for message in data)
    for index, chunk in enumerate(chunks):
        queue.receive_chunk(chunk)
    assert queue.buffered == 0


@given(
    st.lists(
        st.builds(
            Data,
            st.integers(0, 40) | st.integers(0, TSN_MODULO - 1),
            st.integers(0, 15),
            st.integers(0, 2),
            st.integers(0, 3),
            st.just(53),
            st.binary(min_size=1, max_size=200),
        ),
        max_size=80,
    )
)
def test_nonsense_never_raises_nor_grows(chunks: list[Data]) -> None:
    queue = make_queue(1, capacity=2048, maximum=1024)
    for chunk in chunks:
        for message in queue.receive_chunk(chunk) or []:
            assert len(message[2]) <= 1024
        assert queue.buffered <= 2 * (2048 + WINDOW_SLACK_BYTES)
        queue.make_sack(1200).encode()


def test_the_window_follows_what_is_taken() -> None:
    queue = make_queue(1, capacity=100_000, maximum=1000)
    capacity = queue.a_rwnd
    queue.unread = capacity - 10_000
    assert queue.a_rwnd == 10_000
    queue.unread = capacity - 100
    assert queue.a_rwnd == 0  # too small to be worth a packet
    assert queue.make_sack(1200).a_rwnd == 0
    assert not queue.needs_window_update()
    queue.unread = 0
    assert queue.needs_window_update()
    assert queue.make_sack(1200).a_rwnd == capacity
    assert not queue.needs_window_update()


def test_a_sender_that_ignores_the_window_is_not_acknowledged() -> None:
    queue = make_queue(1, capacity=100_000, maximum=1000)
    queue.unread = queue.a_rwnd + WINDOW_SLACK_BYTES
    assert queue.receive_chunk(Data(1, FLAG_BEGIN | FLAG_END, 0, 0, 53, b"x" * 100)) is None
    assert queue.make_sack(1200).cumulative_tsn_ack == 0
    queue.unread = 0
    assert queue.receive_chunk(Data(1, FLAG_BEGIN | FLAG_END, 0, 0, 53, b"x" * 100))


def test_out_of_order_data_is_bounded_however_small() -> None:
    queue = make_queue(1, capacity=100_000, maximum=1000)
    for tsn in range(3, 60_000, 2):
        queue.receive_chunk(Data(tsn, FLAG_BEGIN | FLAG_END, 0, 0, 53, b"x"))
    assert queue.buffered <= 100_000 + 2 * WINDOW_SLACK_BYTES
    assert queue.buffered >= OVERHEAD
    # Missing chunks are still accepted, and release the buffered ones.
    assert queue.receive_chunk(Data(1, FLAG_BEGIN | FLAG_END, 0, 0, 53, b"x"))
    assert queue.receive_chunk(Data(2, FLAG_BEGIN | FLAG_END, 0, 0, 53, b"x"))


def test_a_message_above_the_maximum_is_dropped_and_the_next_one_arrives() -> None:
    queue = make_queue(1, maximum=1000)
    messages = [b"a" * 3000, b"b" * 900, b"c" * 1001, b"d"]
    delivered = []
    for chunk in fragments(messages, 1, 100):
        delivered += queue.receive_chunk(chunk) or []
        assert queue.buffered <= 1000
    assert [message[2] for message in delivered] == [b"b" * 900, b"d"]


def test_unordered_messages_arrive() -> None:
    queue = make_queue(1)
    chunk = Data(1, FLAG_BEGIN | FLAG_END | FLAG_UNORDERED, 7, 0, 51, b"text")
    assert queue.receive_chunk(chunk) == [(7, 51, b"text")]


def test_duplicates_are_reported_once_and_bounded() -> None:
    queue = make_queue(1)
    chunk = Data(1, FLAG_BEGIN | FLAG_END, 0, 0, 53, b"x")
    queue.receive_chunk(chunk)
    for _ in range(100):
        queue.receive_chunk(chunk)
    sack = queue.make_sack(1200)
    assert set(sack.duplicates) == {1}
    assert len(sack.duplicates) <= 16
    assert queue.make_sack(1200).duplicates == ()


def packet_of(chunks: list[Data]) -> bytes:
    """Return a packet with these chunks and an empty header."""
    packet = bytes(COMMON_HEADER_LENGTH)
    for item in chunks:
        header = DATA_CHUNK.pack(
            DATA,
            item.flags,
            DATA_HEADER_LENGTH + len(item.payload),
            item.tsn,
            item.stream,
            item.sequence,
            item.protocol,
        )
        packet += header + item.payload + bytes(-len(item.payload) % 4)
    return packet


@given(
    messages=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20),
    size=st.integers(1, 20),
    initial=st.integers(0, TSN_MODULO - 1),
    swapped=st.integers(0, 100),
)
def test_a_run_of_chunks_is_taken_as_they_are_one_by_one(
    messages: list[bytes], size: int, initial: int, swapped: int
) -> None:
    chunks = fragments(messages, initial, size)
    if swapped + 1 < len(chunks):
        chunks[swapped], chunks[swapped + 1] = chunks[swapped + 1], chunks[swapped]
    packet = packet_of(chunks)
    queue, model = make_queue(initial), make_queue(initial)
    taken: list[Message] = []
    end, flags = queue.receive_in_order(packet, COMMON_HEADER_LENGTH, taken)
    in_turn = chunks if swapped + 1 >= len(chunks) else chunks[:swapped]
    expected = [message for item in in_turn for message in model.receive_chunk(item) or ()]
    assert taken == expected
    assert queue.make_sack(1000) == model.make_sack(1000)
    assert end == len(packet_of(in_turn))
    assert not in_turn or flags & FLAG_END or not expected


def test_a_run_ends_before_what_is_malformed_or_no_data() -> None:
    whole = packet_of(fragments([b"good", b"bad"], 1, 100))
    first_end = len(packet_of(fragments([b"good"], 1, 100)))
    for bad in (
        whole[: first_end + 10],
        whole[: first_end + 2] + b"\x00\x10" + whole[first_end + 4 :],
        whole[: first_end + 2] + b"\x00\xff" + whole[first_end + 4 :],
        whole[:first_end] + b"\x03" + whole[first_end + 1 :],
    ):
        queue = make_queue(1)
        taken: list[Message] = []
        end, _ = queue.receive_in_order(bad, COMMON_HEADER_LENGTH, taken)
        assert taken == [(0, 53, b"good")]
        assert end == first_end


def test_a_run_keeps_to_the_window() -> None:
    queue = make_queue(1, capacity=1000, maximum=500)
    queue.unread = 1000 + 2 * WINDOW_SLACK_BYTES
    taken: list[Message] = []
    packet = packet_of(fragments([b"x" * 100], 1, 100))
    assert queue.receive_in_order(packet, COMMON_HEADER_LENGTH, taken) == (COMMON_HEADER_LENGTH, 0)
    assert not taken
