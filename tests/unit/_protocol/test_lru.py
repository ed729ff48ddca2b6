"""Mappings of bounded size."""

from __future__ import annotations

from artico_sync._protocol.lru import LruDict


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
