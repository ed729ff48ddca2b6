"""Associations against each other on a virtual clock, and against recorded packets."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artico_sync._webrtc.sctp.association import LATE_SECONDS
from artico_sync._webrtc.sctp.handshake import MAX_INIT_RETRANSMITS, State
from artico_sync._webrtc.sctp.packets import (
    ABORT,
    COOKIE_ACK,
    COOKIE_ECHO,
    DATA,
    INIT,
    INIT_ACK,
    RECONFIG,
    SACK,
    SHUTDOWN,
    build_packet,
    chunk,
    decode_data,
    split_chunks,
)
from artico_sync._webrtc.sctp.receive_queue import SACK_DELAY_SECONDS
from tests.unit._webrtc.sctp.recorded_exchange import (
    LOCAL_INITIAL_TSN,
    LOCAL_TAG,
    MESSAGES,
    PACKETS_OF_AIORTC,
)
from tests.unit._webrtc.sctp.simulated_link import (
    RecordingOwner,
    SimulatedLink,
    chunk_types,
    make_association,
)

#: Every sequence number of 32 bits is about to wrap.
WRAPPING = (2**32 - 3, 2**32 - 1)


def run_until(link: SimulatedLink, count: Callable[[], int], wanted: int) -> None:
    """Let time pass until a count has reached a number."""
    link.run(lambda: count() >= wanted)


def test_both_ends_are_established_though_their_inits_collide() -> None:
    link = SimulatedLink()
    link.connect()
    assert [owner.events for owner in link.owners] == [["established"], ["established"]]
    assert [end.state for end in link.ends] == [State.ESTABLISHED] * 2
    assert link.now == pytest.approx(1000.0 + 3 * link.delay)


@pytest.mark.parametrize("lost", [INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK])
def test_a_lost_chunk_of_the_handshake_is_retransmitted(lost: int) -> None:
    link = SimulatedLink()
    dropped: set[int] = set()

    def drop_first(packet: bytes, sender: int) -> bool:
        if lost in chunk_types(packet) and sender not in dropped:
            dropped.add(sender)
            return False
        return True

    link.filter = drop_first
    link.connect()
    link.send(0, b"there")
    link.send(1, b"back")
    link.run(lambda: link.received(0) == [b"back"] and link.received(1) == [b"there"])
    assert dropped == {0, 1}


def test_a_peer_that_never_answers_is_given_up() -> None:
    link = SimulatedLink()
    link.is_cut = True
    link.ends[0].connect(link.now)
    link.run(lambda: link.ends[0].is_closed())
    assert link.owners[0].events == ["closed"]
    assert len(link.sent[0]) == 1 + MAX_INIT_RETRANSMITS
    assert link.ends[0].next_timeout() == inf


@pytest.mark.parametrize("accelerate", [(True, True), (True, False), (False, False)])
def test_tsns_wrap_around(accelerate: tuple[bool, bool]) -> None:
    link = SimulatedLink(initial_tsns=WRAPPING, accelerate=accelerate, loss=0.1, seed=3)
    link.connect()
    messages = [bytes((number,)) * 4000 for number in range(20)]
    for message in messages:
        link.send(0, message)
        link.send(1, message)
    link.run(lambda: len(link.received(0)) == len(link.received(1)) == 20)
    assert link.received(0) == link.received(1) == messages
    assert [end.retransmission_queue.next_tsn < 1000 for end in link.ends] == [True, True]


def test_gap_blocks_span_the_wrap_around() -> None:
    link = SimulatedLink(initial_tsns=WRAPPING)
    link.connect()
    link.filter = lambda packet, sender: sender == 1 or DATA not in chunk_types(packet)
    link.send(0, b"lost")
    link.run(lambda: any(DATA in chunk_types(packet) for packet in link.sent[0]))
    link.filter = lambda packet, sender: True
    for number in range(8):
        link.send(0, bytes((number,)) * 1000)
    link.run(lambda: len(link.received(1)) == 9)
    assert link.received(1)[0] == b"lost"
    assert link.ends[0].retransmission_queue.counters.timeouts == 0


def test_stream_sequence_numbers_wrap_around() -> None:
    link = SimulatedLink()
    link.connect()
    link.ends[0].retransmission_queue.send_queue.next_ssn[5] = 0xFFFE
    for number in range(4):
        link.send(0, bytes((number,)), stream=5)
    link.run(lambda: len(link.received(1)) == 4)
    sent = [
        decode_data(packet, flags, start, end)
        for packet in link.sent[0]
        for kind, flags, start, end in split_chunks(packet)
        if kind == DATA
    ]
    assert [data.sequence for data in sent] == [0xFFFE, 0xFFFF, 0, 1]
    assert [data.payload for data in sent] == link.received(1)


@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_stream_resets_wrap_around(loss: float) -> None:
    """Request numbers begin at the initial TSN, so that the third request wraps."""
    link = SimulatedLink(initial_tsns=WRAPPING, loss=loss, seed=9)
    link.connect()
    one, other = (end.stream_resets for end in link.ends)
    for number, stream in enumerate(range(2, 12, 2), 1):
        link.send(0, b"last", stream=stream)
        one.reset_outbound(stream)
        run_until(link, lambda: len(link.owners[1].reset_streams), number)
        other.reset_outbound(stream)
        other.on_inbound_reset(stream)
        run_until(link, lambda: len(link.owners[0].reset_streams), number)
        one.on_inbound_reset(stream)
        run_until(link, lambda: len(link.owners[0].finished_streams), number)
    assert link.owners[0].finished_streams == [2, 4, 6, 8, 10]
    assert link.received(1) == [b"last"] * 5


def test_a_reset_stream_begins_again_with_its_first_sequence_number() -> None:
    link = SimulatedLink()
    link.connect()
    for _ in range(3):
        link.send(0, b"x", stream=4)
    link.ends[0].stream_resets.reset_outbound(4)
    link.run(lambda: 4 not in link.ends[0].retransmission_queue.send_queue.next_ssn)
    before = len(link.sent[0])
    link.send(0, b"again", stream=4)
    link.run(lambda: link.received(1)[-1] == b"again")
    packet = next(packet for packet in link.sent[0][before:] if DATA in chunk_types(packet))
    data = [
        decode_data(packet, flags, start, end)
        for kind, flags, start, end in split_chunks(packet)
        if kind == DATA
    ]
    assert data[0].sequence == 0


def test_a_single_packet_is_acknowledged_after_the_delay_unless_data_carries_the_sack() -> None:
    link = SimulatedLink()
    link.connect()
    link.run(lambda: link.ends[0].next_timeout() == link.ends[1].next_timeout() == inf)
    link.send(0, b"x")
    link.run(lambda: link.received(1) == [b"x"])
    receiver = link.ends[1]
    assert receiver.packets_to_send() == [] and not receiver.poll_soon
    assert receiver.next_timeout() == pytest.approx(link.now + SACK_DELAY_SECONDS)
    assert receiver.poll(link.now) == []
    packets = receiver.poll(receiver.next_timeout())
    assert [chunk_types(packet) for packet in packets] == [[SACK]]
    assert receiver.next_timeout() == inf


def test_a_waiting_sack_travels_with_data() -> None:
    link = SimulatedLink()
    link.connect()
    link.run(lambda: link.ends[0].next_timeout() == link.ends[1].next_timeout() == inf)
    link.send(0, b"x")
    link.run(lambda: link.received(1) == [b"x"])
    link.send(1, b"y")
    assert [chunk_types(packet) for packet in link.ends[1].poll(link.now)] == [[SACK, DATA]]


def test_an_asked_for_sack_is_not_delayed() -> None:
    link = SimulatedLink()
    link.connect()
    link.ends[0].sack_immediately = True
    link.send(0, b"x")
    link.run(lambda: link.received(1) == [b"x"])
    assert chunk_types(link.sent[1][-1]) == [SACK]
    assert link.ends[1].next_timeout() == inf


def test_a_late_timer_lets_the_socket_be_read_first() -> None:
    link = SimulatedLink()
    link.connect()
    link.send(0, b"x")
    sender = link.ends[0]
    sender.poll(link.now)
    late = sender.next_timeout() + 2 * LATE_SECONDS
    assert sender.poll(late) == []
    assert late < sender.next_timeout() <= late + LATE_SECONDS
    even_later = sender.next_timeout() + 2 * LATE_SECONDS
    assert [chunk_types(packet) for packet in sender.poll(even_later)] == [[DATA]]


def test_a_silent_peer_is_reported_before_the_end() -> None:
    link = SimulatedLink()
    link.connect()
    link.is_cut = True
    link.send(0, b"x")
    link.run(lambda: link.ends[0].is_closed())
    assert link.owners[0].events == ["established", "unresponsive", "closed"]
    assert ABORT in chunk_types(link.sent[0][-1])
    assert link.ends[0].next_timeout() == inf


def test_a_shutdown_is_answered_once_everything_is_acknowledged() -> None:
    link = SimulatedLink()
    link.connect()
    end = link.ends[0]
    link.send(0, b"x" * 5000)
    end.receive(build_packet(5000, 5000, 0x11111111, [chunk(SHUTDOWN, bytes(4))]), link.now)
    assert end.state is State.SHUTDOWN_RECEIVED and end.is_established
    link.run(lambda: link.ends[1].is_closed())
    assert link.received(1) == [b"x" * 5000]


def test_an_abort_carries_the_last_acknowledgement() -> None:
    link = SimulatedLink()
    link.connect()
    link.send(0, b"x")
    link.run(lambda: link.received(1) == [b"x"])
    link.ends[1].abort()
    link.run(lambda: link.ends[0].is_closed())
    assert link.ends[0].retransmission_queue.pending == 0


def test_after_a_path_change_everything_in_flight_is_sent_at_once() -> None:
    link = SimulatedLink()
    link.connect()
    link.is_cut = True
    link.send(0, b"x" * 3000)
    link.run(lambda: link.ends[0].retransmission_queue.counters.timeouts == 2)
    link.is_cut = False
    changed_at = link.now
    link.ends[0].on_path_change(link.now)
    link.run(lambda: link.received(1) == [b"x" * 3000])
    assert link.now - changed_at == pytest.approx(link.delay)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 50, 1160, 9000, 40_000]), min_size=1, max_size=12),
    seed=st.integers(0, 10_000),
    loss=st.sampled_from([0.0, 0.05, 0.2]),
    reorder=st.sampled_from([0.0, 0.3]),
    duplicate=st.sampled_from([0.0, 0.2]),
    accelerate=st.sampled_from([(True, True), (True, False), (False, True)]),
)
def test_everything_arrives_in_order_over_any_path(
    sizes: list[int],
    seed: int,
    loss: float,
    reorder: float,
    duplicate: float,
    accelerate: tuple[bool, bool],
) -> None:
    link = SimulatedLink(
        initial_tsns=WRAPPING,
        accelerate=accelerate,
        loss=loss,
        reorder=reorder,
        duplicate=duplicate,
        seed=seed,
    )
    link.connect()
    messages = [bytes((index & 0xFF,)) * size for index, size in enumerate(sizes)]
    for message in messages:
        link.send(0, message)
        link.send(1, message)
    queues = [end.retransmission_queue for end in link.ends]
    link.run(lambda: not any(queue.pending for queue in queues))
    assert link.received(0) == link.received(1) == messages
    assert [queue.flight_size for queue in queues] == [0, 0]
    assert all(owner.acknowledgements for owner in link.owners)


def test_a_recorded_exchange_with_aiortc_is_understood() -> None:
    """Packets as aiortc 1.16 sent them: handshake, a channel, messages both ways, its end."""
    owner = RecordingOwner()
    end = make_association(owner, LOCAL_TAG, LOCAL_INITIAL_TSN)
    now = 1.0
    end.connect(now)
    replies = end.packets_to_send()
    for packet in PACKETS_OF_AIORTC:
        now += 0.01
        end.receive(packet, now)
        replies += end.packets_to_send() + end.poll(now)
    assert owner.events == ["established", "closed"]
    assert [data for _, protocol, data in owner.messages if protocol != 50] == MESSAGES
    kinds = [chunk_types(packet)[0] for packet in replies]
    assert kinds[0] == INIT
    assert {INIT_ACK, COOKIE_ECHO, SACK} <= set(kinds)
    assert RECONFIG not in kinds
