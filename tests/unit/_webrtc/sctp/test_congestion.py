"""Congestion window, time-out and pacing against synthetic patterns of acknowledgements."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artico_sync._webrtc.sctp.congestion import (
    BURST_PACKETS,
    CWND_CAP_BYTES,
    CWND_CAP_MAX_BYTES,
    INITIAL_WINDOW_PACKETS,
    MINIMUM_WINDOW_PACKETS,
    RTO_INITIAL_SECONDS,
    RTO_MAX_SECONDS,
    RTO_MIN_SECONDS,
    CongestionWindow,
    Pacer,
    RetransmissionTimeout,
    cwnd_cap,
)

MTU = 1000


def test_slow_start_doubles_each_round_trip() -> None:
    window = CongestionWindow(MTU)
    assert window.cwnd == INITIAL_WINDOW_PACKETS * MTU
    for doubling in range(1, 6):
        for _ in range(window.cwnd // MTU):
            window.on_acknowledged(MTU)
        assert window.cwnd == INITIAL_WINDOW_PACKETS * MTU * 2**doubling


@pytest.mark.parametrize("coalesced", [1, 2, 5, 50])
def test_avoidance_adds_a_packet_each_round_trip_however_acknowledgements_are_coalesced(
    coalesced: int,
) -> None:
    window = CongestionWindow(MTU)
    window.cwnd = 100 * MTU
    window.on_loss()
    assert window.cwnd == 50 * MTU
    assert not window.in_slow_start
    for trip in range(1, 20):
        left = window.cwnd
        while left > 0:
            size = min(coalesced * MTU, left)
            window.on_acknowledged(size)
            left -= size
        assert abs(window.cwnd - (50 + trip) * MTU) <= MTU


def test_slow_start_ends_exactly_at_the_threshold() -> None:
    window = CongestionWindow(MTU)
    window.on_t3_expired()
    assert window.cwnd == MTU
    assert window.ssthresh == 5 * MTU
    for _ in range(2):
        window.on_acknowledged(MTU * 3)
    assert window.cwnd == 5 * MTU
    assert not window.in_slow_start


def test_losses_halve_down_to_a_floor() -> None:
    window = CongestionWindow(MTU)
    sizes = []
    for _ in range(6):
        window.on_loss()
        sizes.append(window.cwnd)
    assert sizes[0] == INITIAL_WINDOW_PACKETS * MTU // 2
    assert sizes[-1] == MINIMUM_WINDOW_PACKETS * MTU


def test_idleness_takes_the_window_back_to_the_initial_one() -> None:
    window = CongestionWindow(MTU)
    window.cwnd = 160 * MTU
    window.on_idle(1)
    assert window.cwnd == 80 * MTU
    window.on_idle(50)
    assert window.cwnd == INITIAL_WINDOW_PACKETS * MTU
    window.cwnd = MTU
    window.on_idle(3)
    assert window.cwnd == MTU


def test_a_path_without_delay_needs_no_large_window() -> None:
    window = CongestionWindow(MTU)
    window.cwnd = 10_000 * MTU
    assert window.limit(0.0) == CWND_CAP_BYTES
    assert window.limit(0.1) > 5_000_000
    assert window.limit(None) == window.cwnd


def test_the_window_between_processes_of_a_host_fits_into_their_buffers() -> None:
    assert cwnd_cap(0) == CWND_CAP_BYTES
    # The default buffer of Linux and the requested one; Linux reports both doubled.
    assert CWND_CAP_BYTES < cwnd_cap(2 * 212_992) <= 212_992 // 2
    assert cwnd_cap(2 * 1024 * 1024) == CWND_CAP_MAX_BYTES < 1024 * 1024 // 2


def test_the_time_out_follows_rfc_6298() -> None:
    timeout = RetransmissionTimeout()
    assert timeout.rto == RTO_INITIAL_SECONDS
    timeout.add_sample(0.4)
    assert timeout.srtt == pytest.approx(0.4)
    assert timeout.rto == pytest.approx(0.4 + 4 * 0.2)
    timeout.add_sample(0.4)
    assert timeout.rto == pytest.approx(0.4 + 4 * 0.15)
    for _ in range(100):
        timeout.add_sample(0.001)
    assert timeout.rto == RTO_MIN_SECONDS
    assert timeout.min_rtt == pytest.approx(0.001)


def test_backing_off_doubles_up_to_the_maximum_and_a_sample_ends_it() -> None:
    timeout = RetransmissionTimeout()
    timeout.add_sample(0.01)
    values = []
    for _ in range(10):
        timeout.back_off()
        values.append(timeout.rto)
    assert values[:3] == pytest.approx([0.4, 0.8, 1.6])
    assert values[-1] == RTO_MAX_SECONDS
    timeout.add_sample(0.01)
    assert timeout.rto == RTO_MIN_SECONDS


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_the_time_out_stays_within_its_bounds(samples: list[float]) -> None:
    timeout = RetransmissionTimeout()
    for sample in samples:
        timeout.add_sample(sample)
        assert RTO_MIN_SECONDS <= timeout.rto <= RTO_MAX_SECONDS
        assert timeout.srtt is not None
        assert math.isfinite(timeout.srtt)


def test_pacing_spreads_a_window_over_the_round_trip() -> None:
    window = CongestionWindow(MTU)
    window.cwnd = 200 * MTU
    window.on_loss()  # congestion avoidance with 100 packets
    pacer = Pacer()
    now, sent = 0.0, 0
    while now < 1.0:
        while pacer.allowance(now, window, 0.1) > 0:
            pacer.spend(MTU)
            sent += 1
        now += pacer.delay(window, 0.1)
    # 100 packets per 0.1 s, and a quarter more so as not to hold the window back.
    assert 1200 <= sent <= 1290


def test_the_first_burst_is_bounded_and_short_paths_are_not_paced() -> None:
    window = CongestionWindow(MTU)
    window.cwnd = 500 * MTU
    pacer = Pacer()
    sent = 0
    while pacer.allowance(5.0, window, 1.0) > 0:
        pacer.spend(MTU)
        sent += 1
    assert sent == BURST_PACKETS
    assert pacer.allowance(5.0, window, 0.0005) == math.inf
    assert pacer.allowance(5.0, window, None) == math.inf
