"""A mapping of bounded size."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruDict(OrderedDict[K, V]):
    """A mapping that drops the entry set least recently when it exceeds its capacity.

    Setting an entry makes it the most recent one; `move_to_end()` does so for one that is only
    read. Looking an entry up does not change the order.

    Args:
        capacity: Maximum number of entries.
        on_evict: Called with the key and the value of each entry that is dropped.
    """

    def __init__(self, capacity: int, on_evict: Callable[[K, V], object] | None = None) -> None:
        super().__init__()
        self._capacity = capacity
        self._on_evict = on_evict

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._capacity:
            evicted = self.popitem(last=False)
            if self._on_evict is not None:
                self._on_evict(*evicted)
