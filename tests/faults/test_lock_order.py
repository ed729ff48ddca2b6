"""The documented lock order is complete, and a violation of it is found."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

import artico_sync
from tests.faults.lock_order import (
    EVENTS,
    LockOrder,
    Watched,
    documented_levels,
    watch_locks,
)

ROOT = Path(artico_sync.__file__).parent
LIMIT = 10.0
KINDS = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}


def makes_locks(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr) in {("threading", kind) for kind in KINDS}
        for node in ast.walk(tree)
    )


def test_every_module_with_a_lock_is_in_the_documented_order() -> None:
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in ROOT.rglob("*.py")
        if makes_locks(path)
    }
    found -= {name.removeprefix("artico_sync.").rstrip(":") for name in EVENTS}
    assert found | {"janus"} == set(documented_levels())


def test_no_lock_is_made_where_it_would_not_be_seen() -> None:
    """`from threading import Lock` would be such a place."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "threading":
                assert not KINDS & {alias.name for alias in node.names}, path


def make(order: LockOrder, *modules: str) -> list[Watched]:
    return [Watched(order, f"artico_sync.{name}:1", threading.Lock()) for name in modules]


def test_a_circle_is_found_without_a_deadlock() -> None:
    order = LockOrder()
    one, two, three = make(order, "signaling", "_bridge.call", "_bridge.events.mailbox")
    for outer, inner in ((one, two), (two, three)):
        with outer, inner:
            assert outer.locked() and inner.locked()
    order.check()
    with three, one:
        assert order.circle() is not None
    with pytest.raises(AssertionError, match=r"circle: .*signaling.*\n"):
        order.check()


def test_two_locks_of_one_kind_are_a_circle() -> None:
    order = LockOrder()
    one, other = make(order, "_bridge.events.mailbox", "_bridge.events.mailbox")
    with one, other, pytest.raises(AssertionError, match="circle"):
        order.check()


def test_another_order_than_the_documented_one_is_found() -> None:
    order = LockOrder()
    inner, outer = make(order, "_bridge.events.mailbox", "_bridge.call")
    with inner, outer:
        assert order.circle() is None
    with pytest.raises(AssertionError, match="mailbox:1 then .*_bridge.call:1"):
        order.check()


def test_a_wait_under_a_lock_is_found() -> None:
    order = LockOrder()
    outer, inner = make(order, "_bridge.call", "_bridge.events.mailbox")
    condition = threading.Condition(inner)  # type: ignore[arg-type]
    with condition:
        condition.wait(0.001)
    order.check()
    with outer, condition:
        condition.wait(0.001)
    with pytest.raises(AssertionError, match="while holding .*_bridge.call:1"):
        order.check()


def test_a_lock_held_while_waiting_may_not_be_taken_on_the_loop() -> None:
    order = LockOrder()
    (lock,) = make(order, "server.server")
    thread = threading.Thread(target=lambda: lock.acquire(), name="artico_sync-loop")
    thread.start()
    thread.join(LIMIT)
    with pytest.raises(AssertionError, match="on the loop thread"):
        order.check()


def test_locks_of_the_library_are_watched_and_others_are_not() -> None:
    before = threading.Lock, threading.RLock, threading.Condition
    source = """
import threading
lock, again, condition = threading.Lock(), threading.RLock(), threading.Condition()
with lock, again, again, condition:
    condition.notify_all()
"""
    names: dict[str, object] = {"__name__": "artico_sync.signaling"}
    with watch_locks() as order:
        exec(source, names)
        assert isinstance(names["lock"], Watched)
        assert not isinstance(threading.Lock(), Watched)
    assert (threading.Lock, threading.RLock, threading.Condition) == before
    assert order.circle() is not None  # all are made on one line
