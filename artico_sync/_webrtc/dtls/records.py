"""Batches of DTLS records that one system call can send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from artico_sync._speedups.gil_held_dtls import RECORD_OVERHEAD_BYTES
from artico_sync._speedups.gso import RUN_LENGTH_MAXIMUM, RUN_MAXIMUM

#: Bytes of the header of a record (RFC 6347 4.1).
HEADER_BYTES = 13


def gso_batches(packets: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the packets in batches for UDP_SEGMENT: of equal size, the last may be smaller."""
    begin = size = 0
    for index, packet in enumerate(packets):
        needed = len(packet) + RECORD_OVERHEAD_BYTES
        if index > begin and (
            index - begin == RUN_LENGTH_MAXIMUM
            or size + needed > RUN_MAXIMUM
            or not len(packets[index - 1]) == len(packets[begin]) >= len(packet)
        ):
            yield packets[begin:index]
            begin, size = index, 0
        size += needed
    yield packets[begin:]
