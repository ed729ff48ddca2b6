"""A check of the order in which threads acquire the locks of the library, like Linux' lockdep.

Locks are identified by the line that makes them. Acquiring B while A is held is an edge from A to
B; if the edges form a circle, two threads can wait for each other without end, even if they did not
this time. No thread may hold a lock while waiting on the condition of another.
"""

from __future__ import annotations

import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any
from unittest import mock

from artico_sync import _bridge as bridge

#: The modules whose locks are watched begin with one of these.
WATCHED = ("artico_sync.", "janus")
#: The modules whose locks are waited on and released by another thread, like an event.
EVENTS = ("artico_sync._bridge.waiting.deadline:",)

PlainCondition = threading.Condition
LOOP_THREAD = "artico_sync-loop"

Edge = tuple[str, str]


def documented_levels() -> dict[str, int]:
    """Return the level of each module in the documented order, 0 for the outermost."""
    assert bridge.__doc__ is not None
    _, *levels = bridge.__doc__.split("\n- ")
    return {
        name: level for level, text in enumerate(levels) for name in re.findall(r"`([\w.]+)`", text)
    }


def module_of(name: str) -> str:
    return name.partition(":")[0].removeprefix("artico_sync.")


class LockOrder:
    """The edges and waits seen so far."""

    def __init__(self) -> None:
        #: Each edge with the stack at which it was first seen.
        self.edges: dict[Edge, str] = {}
        #: Locks acquired on the loop thread, with the first stack.
        self.on_loop: dict[str, str] = {}
        #: Waits under a lock, with the first stack.
        self.waits: dict[Edge, str] = {}
        self._held = threading.local()

    def held(self) -> list[Watched]:
        """Return the locks the current thread holds, the latest last."""
        found: list[Watched] | None = getattr(self._held, "locks", None)
        if found is None:
            found = self._held.locks = []
        return found

    def taking(self, lock: Watched) -> None:
        if threading.current_thread().name == LOOP_THREAD and lock.name not in self.on_loop:
            self.on_loop[lock.name] = _stack()
        for other in self.held():
            if other is not lock and (other.name, lock.name) not in self.edges:
                self.edges[other.name, lock.name] = _stack()

    def waiting(self, lock: Watched) -> None:
        for other in self.held():
            if other is not lock and (other.name, lock.name) not in self.waits:
                self.waits[other.name, lock.name] = _stack()

    def circle(self) -> list[str] | None:
        """Return the names of locks that can be waited for in a circle, if there are such."""
        after: dict[str, set[str]] = {}
        for outer, inner in self.edges:
            after.setdefault(outer, set()).add(inner)
        done: set[str] = set()

        def search(name: str, path: list[str]) -> list[str] | None:
            if name in path:
                return [*path[path.index(name) :], name]
            if name in done:
                return None
            for inner in after.get(name, ()):
                found = search(inner, [*path, name])
                if found is not None:
                    return found
            done.add(name)
            return None

        for name in list(after):
            found = search(name, [])
            if found is not None:
                return found
        return None

    def check(self) -> None:
        """Raise AssertionError if a deadlock is possible, or the documented order is violated."""
        circle = self.circle()
        if circle is not None:
            seen = "\n".join(
                f"{edge[0]} then {edge[1]}:\n{self.edges[edge]}"
                for edge in zip(circle, circle[1:], strict=False)
            )
            raise AssertionError(f"locks are taken in a circle: {' -> '.join(circle)}\n{seen}")
        levels = documented_levels()
        for (outer, inner), stack in self.edges.items():
            one, other = module_of(outer), module_of(inner)
            assert one == other or levels[one] < levels[other], f"{outer} then {inner}:\n{stack}"
        for (outer, inner), stack in self.waits.items():
            allowed = levels[module_of(outer)] == 0
            assert allowed, f"waits for {inner} while holding {outer}:\n{stack}"
        for name, stack in self.on_loop.items():
            assert levels[module_of(name)] > 0, f"takes {name} on the loop thread:\n{stack}"


class Watched:
    """A lock that reports to a `LockOrder`, with the methods `threading.Condition` needs."""

    def __init__(self, order: LockOrder, name: str, lock: Any) -> None:
        self.name = name
        self._order = order
        self._lock = lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        # An attempt that cannot block cannot be part of a deadlock.
        if blocking:
            self._order.taking(self)
        taken: bool = self._lock.acquire(blocking, timeout)
        if taken:
            self._order.held().append(self)
        return taken

    def release(self) -> None:
        self._lock.release()
        held = self._order.held()
        if self in held:
            held.remove(self)

    def locked(self) -> bool:
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self in self._order.held()

    def _release_save(self) -> int:
        self._order.waiting(self)
        held = self._order.held()
        depth = held.count(self)
        for _ in range(depth):
            self.release()
        return depth

    def _acquire_restore(self, depth: int) -> None:
        for _ in range(depth):
            self.acquire()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()


class WatchedEvent(Watched):
    """A lock used like an event: acquiring it with a timeout is a wait."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if timeout >= 0:
            self._order.waiting(self)
        return bool(self._lock.acquire(blocking, timeout))


@contextmanager
def watch_locks() -> Iterator[LockOrder]:
    """Watch the locks made from now on, and those that modules made when imported."""
    order = LockOrder()
    plain, reentrant = threading.Lock, threading.RLock

    def name_of(frame: FrameType) -> str | None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(WATCHED):
            return None
        return f"{module}:{frame.f_lineno}"

    def make_lock() -> Any:
        name = name_of(sys._getframe(1))
        if name is None:
            return plain()
        kind = WatchedEvent if name.startswith(EVENTS) else Watched
        return kind(order, name, plain())

    def make_reentrant() -> Any:
        name = name_of(sys._getframe(1))
        return reentrant() if name is None else Watched(order, name, reentrant())

    class Condition(PlainCondition):
        def __init__(self, lock: Any = None) -> None:
            name = name_of(sys._getframe(1))
            if lock is None and name is not None:
                lock = Watched(order, name, reentrant())
            super().__init__(lock)

    with (
        mock.patch.object(threading, "Lock", make_lock),
        mock.patch.object(threading, "RLock", make_reentrant),
        mock.patch.object(threading, "Condition", Condition),
    ):
        with _global_locks(order, type(plain())):
            yield order


@contextmanager
def _global_locks(order: LockOrder, kind: type) -> Iterator[None]:
    """Watch the locks of objects that modules of the library made when they were imported."""
    replaced = []
    for name, module in list(sys.modules.items()):
        if not name.startswith(WATCHED[0]):
            continue
        for thing in list(vars(module).values()):
            if type(thing).__module__ != name:
                continue
            for attribute, lock in list(getattr(thing, "__dict__", {}).items()):
                if isinstance(lock, kind):
                    watched = Watched(order, f"{name}:{type(thing).__name__}.{attribute}", lock)
                    setattr(thing, attribute, watched)
                    replaced.append((thing, attribute, lock))
    try:
        yield
    finally:
        for thing, attribute, lock in replaced:
            setattr(thing, attribute, lock)


def _stack() -> str:
    return "".join(traceback.format_stack(sys._getframe(3), limit=8))
