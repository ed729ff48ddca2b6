"""Mappings of bounded size, and the sizes of messages."""

from __future__ import annotations

import pytest

from artico_sync._protocol.bounds import OVERHEAD, LruDict, footprint, message_size


def test_the_entry_set_least_recently_is_dropped() -> None:
    evicted: list[tuple[str, int]] = []
    lru: LruDict[str, int] = LruDict(2, lambda key, value: evicted.append((key, value)))
    lru["a"], lru["b"] = 1, 2
    lru["a"] = 3
    lru["c"] = 4
    assert (dict(lru), evicted) == ({"a": 3, "c": 4}, [("b", 2)])


def test_reading_does_not_change_the_order_and_moving_does() -> None:
    lru: LruDict[str, int] = LruDict(2)
    lru["a"], lru["b"] = 1, 2
    assert lru["a"] == lru.get("a") == 1
    lru["c"] = 3
    lru.move_to_end("b")
    lru["d"] = 4
    assert list(lru) == ["b", "d"]


def test_removed_entries_leave_space() -> None:
    lru: LruDict[str, int] = LruDict(2)
    lru["a"], lru["b"] = 1, 2
    del lru["a"]
    lru["c"] = 3
    assert lru.pop("b") == 2
    lru["d"] = 4
    assert list(lru) == ["c", "d"]


def test_a_capacity_of_zero_holds_nothing() -> None:
    lru: LruDict[str, int] = LruDict(0)
    lru["a"] = 1
    assert not lru


@pytest.mark.parametrize(
    ("data", "size"), [("", 0), (b"", 0), ("abc", 3), (b"abc", 3), ("\xfc\U0001f600", 6)]
)
def test_sizes_are_those_on_the_wire(data: str | bytes, size: int) -> None:
    assert message_size(data) == size
    assert footprint(data) == size + OVERHEAD


def test_unpaired_surrogates_have_no_size() -> None:
    with pytest.raises(UnicodeEncodeError):
        message_size("\ud800")
    with pytest.raises(UnicodeEncodeError):
        footprint("\ud800")
