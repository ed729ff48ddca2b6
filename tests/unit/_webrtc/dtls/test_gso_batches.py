"""Batches of DTLS records that one system call can send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from artico_sync._speedups.gil_held_dtls import RECORD_OVERHEAD_BYTES
from artico_sync._speedups.gso import BATCH_MAX_BYTES, BATCH_MAX_DATAGRAMS
from artico_sync._webrtc.dtls.transport import gso_batches


@given(st.lists(st.sampled_from([1, 60, 1200, 16384]).map(bytes), min_size=1, max_size=200))
def test_batches_are_what_the_system_can_cut(packets: list[bytes]) -> None:
    found = list(gso_batches(packets))
    assert [packet for batch in found for packet in batch] == packets
    for batch in found:
        assert 0 < len(batch) <= BATCH_MAX_DATAGRAMS
        assert sum(len(packet) + RECORD_OVERHEAD_BYTES for packet in batch) <= BATCH_MAX_BYTES
        assert {len(packet) for packet in batch[:-1]} <= {len(batch[0])}
        assert len(batch[-1]) <= len(batch[0])


def test_equal_packets_share_a_batch() -> None:
    packets = [bytes(1200)] * 40 + [bytes(100)] + [bytes(1200)]
    assert [len(batch) for batch in gso_batches(packets)] == [41, 1]
