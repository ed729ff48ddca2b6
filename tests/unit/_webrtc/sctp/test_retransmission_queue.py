"""The sending half against hand-written acknowledgements and a simulated network."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artico_sync._protocol.bounds import OVERHEAD
from artico_sync._webrtc.sctp.congestion import RTO_INITIAL_SECONDS
from artico_sync._webrtc.sctp.packets import (
    COMMON_HEADER_LENGTH,
    DATA,
    FLAG_IMMEDIATE,
    TSN_MODULO,
    Data,
    Sack,
    build_packet,
    decode_data,
    split_chunks,
)
from artico_sync._webrtc.sctp.receive_queue import ReceiveQueue
from artico_sync._webrtc.sctp.retransmission_queue import (
    ASSOCIATION_MAX_RETRANS,
    RetransmissionQueue,
)
from artico_sync._webrtc.sctp.send_queue import OutboundMessage

MTU = 1176
TSN = 4_294_967_290  # the sequence wraps soon


class Sender:
    """A queue with a clock, whose packets are read back."""

    def __init__(self, window: int = 1 << 20) -> None:
        self.queue = RetransmissionQueue(TSN, MTU)
        self.queue.send_queue.sack_immediately = True
        self.queue.peer_rwnd = window
        self.now = 1.0

    def probe(self) -> bool:
        """Send a tail loss probe; return False if T3-rtx has expired instead."""
        return send_probe(self.queue)

    def put(self, size: int, count: int = 1, stream: int = 0) -> None:
        for _ in range(count):
            self.queue.enqueue_message(OutboundMessage(stream, 53, bytes(size), False))

    def packets(self, limit: int = 1000) -> list[list[Data]]:
        """Return the packets that may be sent now."""
        sent: list[list[Data]] = []
        while len(sent) < limit and self.queue.send_delay(self.now) == 0.0:
            sent.append(read(self.queue.fill_packet(MTU, self.now, single=False)))
        return sent

    def sack(self, cumulative: int, *gaps: tuple[int, int], window: int = 1 << 20) -> bool:
        """Acknowledge up to the n-th chunk ever sent, counted from 1."""
        tsn = (TSN + cumulative - 1) % TSN_MODULO
        return self.queue.on_sack(Sack(tsn, window, gaps), self.now)


def send_probe(queue: RetransmissionQueue) -> bool:
    if not queue.outstanding:
        queue.zero_window_probe()
        return True
    return queue.tail_loss_probe()


def read(parts: list[bytes | memoryview]) -> list[Data]:
    packet = build_packet(5000, 5000, 1, parts)
    assert len(packet) <= MTU + COMMON_HEADER_LENGTH
    chunks = []
    for kind, flags, start, end in split_chunks(packet):
        assert kind == DATA
        chunks.append(decode_data(packet, flags, start, end))
    return chunks


def resends(sender: Sender) -> bool:
    return bool(sender.queue.to_retransmit)


def number(chunk: Data) -> int:
    return (chunk.tsn - TSN) % TSN_MODULO + 1


def test_small_messages_share_a_packet_and_large_ones_fill_them() -> None:
    sender = Sender()
    sender.put(20, count=30)
    sender.put(5000)
    packets = sender.packets()
    assert [len(packet) for packet in packets][0] == 30 or len(packets[0]) > 25
    assert [number(chunk) for packet in packets for chunk in packet] == list(
        range(1, sum(map(len, packets)) + 1)
    )
    assert sum(len(chunk.payload) for packet in packets for chunk in packet) == 5600
    flags = [chunk.flags & FLAG_IMMEDIATE for packet in packets for chunk in packet]
    assert flags[-1]
    assert not any(flags[:-1])


def test_the_initial_window_is_ten_packets() -> None:
    sender = Sender()
    sender.put(1_000_000)
    assert len(sender.packets()) == 10


def test_the_peer_s_window_is_obeyed() -> None:
    sender = Sender(window=3000)
    sender.put(10_000)
    sent = sum(len(chunk.payload) for packet in sender.packets() for chunk in packet)
    assert sent <= 3000
    sender.now += 0.05
    sender.sack(2, window=0)
    assert sender.packets() == []
    assert sender.queue.waits_for_rwnd


def test_a_shut_window_is_probed_ever_more_seldom() -> None:
    sender = Sender(window=0)
    sender.put(10_000)
    delays = []
    for probe in range(6):
        assert sender.packets() == []
        delays.append(sender.queue.t3_timeout())
        sender.now += sender.queue.t3_timeout()
        assert sender.probe()
        assert len(sender.packets()) == 1
        sender.now += 0.01
        sender.sack(probe + 1, window=0)
    assert delays[1:] == sorted(delays[1:])  # the first is from before the round trip was known
    assert delays[-1] > 4 * delays[1]
    sender.sack(6, window=100_000)
    assert sender.packets()


def test_a_refused_probe_is_sent_again_when_the_window_opens() -> None:
    sender = Sender(window=0)
    sender.put(500)
    sender.probe()
    assert len(sender.packets()) == 1
    sender.sack(0, window=0)
    assert sender.packets() == []
    sender.sack(0, window=50_000)
    assert [number(chunk) for packet in sender.packets() for chunk in packet] == [1]


def test_what_a_full_receiver_refused_is_sent_again_when_it_reads_on() -> None:
    sender = Sender()
    sender.put(1000, count=6)
    sender.packets()
    sender.now += 0.05
    sender.sack(2, window=0)
    for _ in range(4):
        sender.now += sender.queue.t3_timeout()
        if not sender.probe():
            sender.queue.on_t3_expired()
        assert sender.packets()
        sender.now += 0.05
        assert not sender.sack(2, window=0)
    sender.now += 0.06
    sender.sack(2, window=50_000)
    assert number(sender.packets()[0][0]) == 3


def test_messages_are_charged_to_the_peer_s_window_as_it_counts_them() -> None:
    receiver = ReceiveQueue(1 << 18, 1 << 16)
    sender = Sender(window=receiver.a_rwnd)
    sender.queue.window.cwnd = 1 << 20
    sender.put(10, count=receiver.a_rwnd // 10)
    sent = sum(map(len, sender.packets()))
    assert receiver.a_rwnd - MTU <= sent * (10 + OVERHEAD) <= receiver.a_rwnd


def test_what_is_on_its_way_to_a_window_just_opened_is_not_sent_again() -> None:
    sender = Sender()
    sender.put(1000, count=2)
    sender.packets()
    sender.now += 0.05
    sender.sack(2)
    sender.put(1000, count=2)
    sender.packets()
    sender.now += 0.02
    sender.sack(2, window=0)
    sender.now += 0.02
    sender.sack(2, window=50_000)
    assert not resends(sender)


@pytest.mark.parametrize("coalesced", [False, True])
def test_three_packets_beyond_a_missing_one_send_it_again_at_once(coalesced: bool) -> None:
    sender = Sender()
    sender.put(1_000_000)
    sender.packets()
    before = sender.queue.window.cwnd
    sender.now += 0.05
    for end in (4,) if coalesced else (2, 3, 4):
        sender.sack(0, (2, end))
    assert sender.queue.counters.retransmissions == 0
    sent = sender.packets()
    assert number(sent[0][0]) == 1
    assert sender.queue.counters.retransmissions == 1
    assert sender.queue.window.cwnd == before // 2


def test_one_reduction_for_a_window_with_many_losses() -> None:
    sender = Sender()
    sender.put(1_000_000)
    sender.packets()
    before = sender.queue.window.cwnd
    sender.now += 0.05
    sender.sack(0, (2, 2), (4, 4), (6, 6), (8, 10))
    lost = [number(chunk) for packet in sender.packets(1) for chunk in packet]
    assert lost == [1]
    assert sender.queue.window.cwnd == before // 2
    sender.now += 0.05
    sender.sack(2, (2, 2), (4, 4), (6, 8))
    sender.packets()
    sender.now += 0.05
    sender.sack(10)
    assert sender.queue.window.cwnd <= before // 2 + 2 * MTU


def test_a_retransmission_that_gets_lost_is_noticed_without_a_time_out() -> None:
    sender = Sender()
    sender.put(1_000_000)
    sender.packets()
    sender.now += 0.05
    sender.sack(0, (2, 10))
    sent = sender.packets()
    assert number(sent[0][0]) == 1
    highest = number(sent[-1][-1])
    assert highest > 12
    sender.now += 0.05
    sender.sack(0, (2, highest))
    assert number(sender.packets()[0][0]) == 1
    assert sender.queue.counters.timeouts == 0


def test_reordering_is_learnt_from() -> None:
    sender = Sender()
    sender.put(1_000_000)
    sender.packets()
    sender.now += 0.05
    sender.sack(0, (2, 4))
    assert resends(sender)
    sender.sack(4)  # it was only late
    assert not resends(sender)
    sender.packets()
    sender.now += 0.05
    sender.sack(4, (2, 4))
    assert not resends(sender)


def test_the_last_packets_are_probed_before_the_time_out() -> None:
    sender = Sender()
    sender.put(1000)
    sender.packets()
    sender.now += 0.02
    sender.sack(1)
    sender.put(1000, count=2)
    sender.packets()
    silence = sender.queue.t3_timeout()
    assert silence < sender.queue.timeout.rto
    sender.now += silence
    assert sender.probe()
    assert [number(chunk) for packet in sender.packets() for chunk in packet] == [3]
    assert not sender.probe()  # next time it is a time-out
    sender.now += 0.02
    sender.sack(1, (2, 2))
    assert number(sender.packets()[0][0]) == 2


def test_a_time_out_sends_everything_again_one_packet_first() -> None:
    sender = Sender()
    sender.put(1_000_000)
    sender.packets()
    sender.probe()
    sender.packets()
    sender.sack(0, (5, 5))
    assert not sender.queue.on_t3_expired()
    assert sender.queue.window.cwnd == MTU
    assert [number(chunk) for packet in sender.packets() for chunk in packet] == [1]
    sender.now += 0.3
    sender.sack(1, (4, 4))
    assert [number(chunk) for packet in sender.packets() for chunk in packet] == [2, 3]


def test_another_path_is_learnt_from_the_beginning_and_gets_what_was_in_flight() -> None:
    sender = Sender()
    sender.put(1000)
    sender.packets()
    sender.now += 0.001
    sender.sack(1)
    sender.put(1_000_000)
    sender.packets()
    while sender.queue.timeout.rto < 5.0:
        sender.queue.on_t3_expired()
        sender.packets()
    assert sender.packets() == []
    sender.queue.on_path_change()
    packets = sender.packets()
    assert number(packets[0][0]) == 2
    assert len(packets) == 10
    assert sender.queue.timeout.min_rtt is None
    assert sender.queue.t3_timeout() == RTO_INITIAL_SECONDS
    assert sender.queue.window.in_slow_start


def test_the_peer_is_given_up_only_while_it_says_nothing() -> None:
    sender = Sender()
    sender.put(1000)
    sender.packets()
    for _ in range(ASSOCIATION_MAX_RETRANS):
        assert not sender.queue.on_t3_expired()
        sender.packets()
    sender.sack(0)
    for _ in range(ASSOCIATION_MAX_RETRANS):
        assert not sender.queue.on_t3_expired()
        sender.packets()
    assert sender.queue.on_t3_expired()


def test_false_acknowledgements_are_refused() -> None:
    sender = Sender()
    sender.put(1_000_000)
    sender.packets()
    with pytest.raises(ValueError, match="never sent"):
        sender.sack(11)
    assert not sender.sack(-5)
    for _ in range(1000):
        sender.sack(0, (1, 65535))
    assert not sender.queue.to_retransmit
    assert sender.queue.outstanding


def test_pending_counts_every_message_with_its_overhead() -> None:
    sender = Sender()
    sender.put(100, count=3)
    sender.put(3000)
    assert sender.queue.pending == 3300 + 4 * OVERHEAD
    chunks = sum(map(len, sender.packets()))
    sender.now += 0.01
    sender.sack(3)
    assert sender.queue.pending == 3000 + OVERHEAD
    sender.sack(chunks)
    assert sender.queue.pending == 0
    assert not sender.queue.outstanding
    assert sender.queue.flight_size == 0


class Simulation:
    """A sender, a receiver and a network between them, on a virtual clock."""

    def __init__(
        self, seed: int, loss: float, reorder: float, duplicate: float, per_sack: int
    ) -> None:
        self.chance = random.Random(seed)
        self.loss, self.reorder, self.duplicate = loss, reorder, duplicate
        self.per_sack = per_sack
        self.now = 0.0
        self.events: list[tuple[float, int, str, object]] = []
        self.numbers = itertools.count()
        self.sender = RetransmissionQueue(TSN, MTU)
        self.receiver = ReceiveQueue(1 << 18, 1 << 16)
        self.receiver.start(TSN)
        self.sender.peer_rwnd = self.receiver.a_rwnd
        self.delivered: list[bytes] = []
        self.unacknowledged = 0
        self.deadline = 0.0

    def carry(self, kind: str, item: object) -> None:
        copies = 2 if self.chance.random() < self.duplicate else 1
        for _ in range(copies):
            if self.chance.random() < self.loss:
                continue
            delay = 0.02 * (1.5 if self.chance.random() < self.reorder else 1.0)
            heapq.heappush(self.events, (self.now + delay, next(self.numbers), kind, item))

    def transmit(self) -> None:
        wait = self.sender.send_delay(self.now)
        while wait == 0.0:
            self.carry("data", read(self.sender.fill_packet(MTU, self.now, single=False)))
            wait = self.sender.send_delay(self.now)
        if wait is not None:
            heapq.heappush(self.events, (self.now + wait, next(self.numbers), "pace", None))
        self.deadline = self.now + self.sender.t3_timeout()

    def run(self, messages: list[bytes]) -> None:
        for message in messages:
            self.sender.enqueue_message(OutboundMessage(0, 53, message, False))
        self.transmit()
        for _ in range(200_000):
            if not self.sender.pending:
                return
            if not self.events or self.events[0][0] > self.deadline:
                self.now = self.deadline
                if not send_probe(self.sender):
                    assert not self.sender.on_t3_expired()
                self.transmit()
                continue
            self.now, _, kind, item = heapq.heappop(self.events)
            if kind == "data":
                assert isinstance(item, list)
                self.receive(item)
            elif kind == "sack":
                assert isinstance(item, Sack)
                if self.sender.on_sack(item, self.now):
                    self.deadline = self.now + self.sender.t3_timeout()
                self.check()
                self.transmit()
            else:
                self.transmit()
        raise AssertionError("it does not end")

    def receive(self, chunks: list[Data]) -> None:
        for chunk in chunks:
            self.delivered += [message[2] for message in self.receiver.receive_chunk(chunk) or []]
        self.unacknowledged += 1
        if self.unacknowledged >= self.per_sack or self.receiver.has_gaps or not self.events:
            self.unacknowledged = 0
            self.carry("sack", self.receiver.make_sack(MTU))

    def check(self) -> None:
        flying = self.sender.in_flight.values()
        assert self.sender.flight_size == sum(chunk.flight_size for chunk in flying)
        assert self.sender._outstanding_bytes == sum(chunk.buffered_bytes for chunk in flying)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(
        st.sampled_from([1, 50, 1000, 1160, 1161, 9000, 60_000]), min_size=1, max_size=30
    ),
    seed=st.integers(0, 10_000),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.3]),
    reorder=st.sampled_from([0.0, 0.1, 0.5]),
    duplicate=st.sampled_from([0.0, 0.2]),
    per_sack=st.sampled_from([1, 2, 5]),
)
def test_everything_arrives_whatever_the_network_does(
    sizes: list[int], seed: int, loss: float, reorder: float, duplicate: float, per_sack: int
) -> None:
    simulation = Simulation(seed, loss, reorder, duplicate, per_sack)
    messages = [bytes((index & 0xFF,)) * size for index, size in enumerate(sizes)]
    simulation.run(messages)
    assert simulation.delivered == messages
    assert simulation.sender.flight_size == 0


def test_a_lossy_long_path_is_used_as_congestion_control_allows() -> None:
    """The throughput is within a factor of two of the TCP equation (RFC 3448 3.1)."""
    simulation = Simulation(7, loss=0.01, reorder=0.0, duplicate=0.0, per_sack=2)
    simulation.loss = 0.01
    simulation.run([bytes(60_000)] * 60)
    rate = 3_600_000 / simulation.now
    expected = 1.22 * MTU / (0.04 * 0.01**0.5)
    assert 0.5 * expected < rate < 2.0 * expected
    assert simulation.sender.counters.timeouts <= 2
