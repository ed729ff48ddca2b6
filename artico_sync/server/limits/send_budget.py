"""How much waits to be sent, to one peer and to all of them; the loop that serves."""

from __future__ import annotations

from collections.abc import Callable

# What the objects around a waiting packet take, in bytes; most packets are acknowledgements.
PACKET_OVERHEAD = 256


class TotalSendBudget:
    """What waits for all peers of a server together.

    Args:
        limit: Bytes; beyond them whoever has most waiting is given up, until it is less.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._size = 0
        self._parts: set[SendBudget] = set()

    def part(self, limit: float, on_overflow: Callable[[], None]) -> SendBudget:
        """The backlog of one more peer; see `SendBudget`."""
        part = SendBudget(self, limit, on_overflow)
        self._parts.add(part)
        return part

    def changed(self, difference: int) -> None:
        """A part has changed by so many bytes."""
        self._size += difference
        while self._size > self._limit:
            max(self._parts, key=lambda part: part.size).overflow()

    def ended(self, part: SendBudget) -> None:
        """Nothing of a part waits any more."""
        self._parts.discard(part)
        self._size -= part.size


class SendBudget:
    """What waits for one peer.

    Args:
        total: Of which it is a part.
        limit: Bytes that may wait.
        on_overflow: Called once when too many do, here or in all; nothing is counted any more.
    """

    def __init__(
        self, total: TotalSendBudget, limit: float, on_overflow: Callable[[], None]
    ) -> None:
        self._total = total
        self._limit = limit
        self._on_overflow = on_overflow
        self._ended = False
        self.size = 0

    def add(self, length: int) -> None:
        """A packet of so many bytes waits."""
        self._change(length + PACKET_OVERHEAD)
        if self.size > self._limit:
            self.overflow()

    def remove(self, length: int) -> None:
        """A packet of so many bytes waits no more."""
        self._change(-(length + PACKET_OVERHEAD))

    def _change(self, difference: int) -> None:
        if not self._ended:
            self.size += difference
            self._total.changed(difference)

    def overflow(self) -> None:
        """Give this peer up; harmless when it has ended."""
        if not self._ended:
            self.end()
            self._on_overflow()

    def end(self) -> None:
        """Count nothing any more: the peer's connection ends, and what waits for it with that."""
        if not self._ended:
            self._ended = True
            self._total.ended(self)
