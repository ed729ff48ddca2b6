"""Bounds on the bytes queued for peers that do not read: for each peer, and for all."""

from __future__ import annotations

from collections.abc import Callable

# Bytes of the objects around a queued packet; most packets are short acknowledgements.
PACKET_OVERHEAD = 256


class TotalSendBudget:
    """The bytes queued for all peers of a server together.

    Args:
        limit: Bytes; beyond them the peer with most queued is given up, until there are fewer.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._size = 0
        self._budgets: set[SendBudget] = set()

    def allot(self, limit: float, on_overflow: Callable[[], None]) -> SendBudget:
        """Return the budget of one more peer; see `SendBudget`."""
        budget = SendBudget(self, limit, on_overflow)
        self._budgets.add(budget)
        return budget

    def on_change(self, difference: int) -> None:
        """Count a change of the size of one budget, in bytes."""
        self._size += difference
        while self._size > self._limit:
            max(self._budgets, key=lambda budget: budget.size).overflow()

    def on_end(self, budget: SendBudget) -> None:
        """Stop counting a budget."""
        self._budgets.discard(budget)
        self._size -= budget.size


class SendBudget:
    """The bytes queued for one peer.

    Args:
        total: The budget of all peers.
        limit: Bytes that may be queued.
        on_overflow: Called once when this limit or the total is exceeded; counting ends then.
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
        """Count a queued packet of `length` bytes."""
        self._change(length + PACKET_OVERHEAD)
        if self.size > self._limit:
            self.overflow()

    def remove(self, length: int) -> None:
        """Count a sent packet of `length` bytes."""
        self._change(-(length + PACKET_OVERHEAD))

    def _change(self, difference: int) -> None:
        if not self._ended:
            self.size += difference
            self._total.on_change(difference)

    def overflow(self) -> None:
        """Give this peer up; has no effect after the end."""
        if not self._ended:
            self.end()
            self._on_overflow()

    def end(self) -> None:
        """Stop counting, because the peer's connection ends and discards what is queued."""
        if not self._ended:
            self._ended = True
            self._total.on_end(self)
