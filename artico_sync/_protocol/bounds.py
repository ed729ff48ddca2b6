"""Bounds on memory: a mapping of bounded size, and the bytes a message counts for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: Bytes a message counts for in buffers beyond its content, so that a bound on bytes is a bound
#: on the number of empty messages too.
OVERHEAD = 128


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


def message_size(data: str | bytes) -> int:
    """Return the size of a message's content in bytes.

    Raises:
        UnicodeEncodeError: The text has unpaired surrogates.
    """
    if isinstance(data, str) and not data.isascii():
        return len(data.encode())
    return len(data)


def footprint(data: str | bytes) -> int:
    """Return the bytes a message counts for in buffers: its content and the overhead."""
    if isinstance(data, str) and not data.isascii():
        return len(data.encode()) + OVERHEAD
    return len(data) + OVERHEAD
