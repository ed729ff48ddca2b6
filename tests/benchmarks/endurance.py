"""Calls without end: what 2 000 in sequence and 100 at once leave behind.

Run it by hand::

    python -m tests.benchmarks.endurance
    python -m tests.benchmarks.endurance --calls 200 --at-once 20

It prints threads, descriptors, tasks and memory, and exits with 1 where anything is left or a
call leaves more than 50 KiB.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
from dataclasses import dataclass

from artico_sync import Artico, Call, MemoryHub
from artico_sync.testing.leaks import pending_tasks

LIMIT = 60.0
KIB = 1024
#: What a call may leave behind, in bytes, over the second half.
GROWTH = 50 * KIB
RTC_CONFIG: dict[str, object] = {"iceServers": []}


@dataclass(frozen=True)
class Holdings:
    """The resources of the process."""

    threads: int
    descriptors: int
    tasks: int
    objects: int
    memory: int

    @classmethod
    def now(cls) -> Holdings:
        gc.collect()
        return cls(
            threading.active_count(),
            len(os.listdir("/proc/self/fd")),
            len(pending_tasks(())),
            len(gc.get_objects()),
            _resident(),
        )

    def __str__(self) -> str:
        return (
            f"{self.threads} threads, {self.descriptors} descriptors, {self.tasks} tasks,"
            f" {self.objects} objects, {self.memory / 1024 / KIB:.1f} MiB"
        )


def _resident() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * KIB
    raise OSError("/proc/self/status has no VmRSS")


def begin(alice: Artico, bob: Artico) -> tuple[Call, Call]:
    call = alice.call(bob.id, "endurance")
    incoming = bob.wait_for("call", LIMIT).answer()
    return call.wait_open(LIMIT), incoming.wait_open(LIMIT)


def use(call: Call, incoming: Call) -> None:
    call.send("x" * 10_000)
    assert incoming.recv(LIMIT) == "x" * 10_000
    incoming.send(b"y" * 10_000)
    assert call.recv(LIMIT) == b"y" * 10_000


def finish(call: Call, incoming: Call) -> None:
    call.hangup()
    incoming.wait_closed(LIMIT)


def settled(at_rest: Holdings) -> Holdings:
    """Return the resources held after the last call has released its own."""
    end = time.monotonic() + 5
    while True:
        held = Holdings.now()
        rested = (held.threads, held.descriptors, held.tasks)
        if rested <= (at_rest.threads, at_rest.descriptors, at_rest.tasks):
            return held
        if time.monotonic() > end:
            return held
        time.sleep(0.05)


def measure(calls: int, at_once: int) -> list[str]:
    """Place the calls and print the resources held; return the faults found."""
    wrong: list[str] = []
    before = Holdings.now()
    print(f"before:            {before}")
    hub = MemoryHub()
    with (
        Artico(signaling=hub.signaling("alice"), rtc_config=RTC_CONFIG) as alice,
        Artico(signaling=hub.signaling("bob"), rtc_config=RTC_CONFIG) as bob,
    ):
        for _ in range(5):
            ends = begin(alice, bob)
            use(*ends)
            finish(*ends)
        del ends
        at_rest = Holdings.now()
        print(f"warmed up:         {at_rest}")
        half = at_rest
        begun = time.monotonic()
        for number in range(calls):
            if number == calls // 2:
                half = settled(at_rest)
                print(f"after {number:5} calls: {half}")
            ends = begin(alice, bob)
            use(*ends)
            finish(*ends)
        del ends
        duration = time.monotonic() - begun
        after = settled(at_rest)
        print(f"after {calls:5} calls: {after}; {duration / calls * 1000:.1f} ms a call")
        second = calls - calls // 2
        growth = (after.memory - half.memory) / second
        objects = (after.objects - half.objects) / second
        print(f"each call of the second half left {growth / KIB:.2f} KiB, {objects:.2f} objects")
        if growth > GROWTH:
            wrong.append(f"a call leaves {growth / KIB:.1f} KiB")
        wrong += left(at_rest, after, "the calls one after another")

        ends_at_once = [begin(alice, bob) for _ in range(at_once)]
        for pair in ends_at_once:
            use(*pair)
        held = Holdings.now()
        print(f"{at_once:5} at once:     {held}")
        per_call = (held.memory - after.memory) / at_once / KIB
        print(f"each of them takes {per_call:.0f} KiB, both ends")
        for pair in ends_at_once:
            finish(*pair)
        ends_at_once.clear()
        del pair
        at_end = settled(at_rest)
        print(f"after them:        {at_end}")
        wrong += left(at_rest, at_end, "the calls at once")
    del alice, bob
    closed = settled(before)
    print(f"after close():     {closed}")
    # The first import of something may keep a descriptor; the calls do not.
    wrong += left(before, closed, "the clients")
    return wrong


def left(before: Holdings, after: Holdings, whose: str) -> list[str]:
    return [
        f"{whose} left {getattr(after, name) - getattr(before, name)} {name}"
        for name in ("threads", "descriptors", "tasks")
        if getattr(after, name) > getattr(before, name)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=2000, help="calls one after another")
    parser.add_argument("--at-once", type=int, default=100, help="calls at once")
    options = parser.parse_args()
    wrong = measure(options.calls, options.at_once)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
