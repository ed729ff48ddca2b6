"""Many calls at once, both ends of each in one process: processor time, memory, idle costs."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

from tests.benchmarks.rows import Row, Scale, compare

PART = "Many calls in one process"
COUNTS = (10, 50, 200)
MANY = 500
#: The number that has to keep to the limits.
JUDGED = 200
#: Calls that are set up at the same time; a client lets only so many of one peer ring at once.
WAVE = 25
PATIENCE = 300.0
IDLE_SECONDS = 4.0


@dataclass(frozen=True)
class Costs:
    """Of one call, both ends: milliseconds and kilobytes; idle for all: share of a core."""

    processor: float
    wall: float
    memory: float
    idle: float


def measure(scale: Scale) -> list[Row]:
    rows = []
    for count in (*COUNTS, MANY) if scale.full else COUNTS:
        rounds = (scale.rounds + 1) // 2
        found = [(costs_of(bare, count), costs_of(ours, count)) for _ in range(rounds)]
        judged = count == JUDGED
        for name, unit, field, target in (
            ("processor to set up", "ms", "processor", 1.1),
            ("memory", "KiB", "memory", 1.3),
            ("idle, all calls", "% core", "idle", 1.0),
        ):
            pairs = [(getattr(a, field), getattr(b, field)) for a, b in found]
            title = f"{count} calls, {name}"
            rows.append(compare(PART, title, unit, pairs, target if judged else None))
    return rows


def costs_of(function: Callable[[Connection, int], None], count: int) -> Costs:
    """Run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=function, args=(there, count), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(PATIENCE):
            raise RuntimeError(f"{count} calls took more than {PATIENCE:g} s")
        try:
            found = here.recv()
        except EOFError:
            raise RuntimeError(f"the process with {count} calls ended early") from None
        assert isinstance(found, Costs)
        return found
    finally:
        process.kill()
        process.join()


class Meter:
    """What the process has used since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self._memory = resident()
        self._processor, self._wall = process_time(), perf_counter()

    def used(self) -> tuple[float, float, float]:
        """Seconds of the processor and of the clock, and bytes."""
        processor, wall = process_time() - self._processor, perf_counter() - self._wall
        gc.collect()
        return processor, wall, resident() - self._memory


def resident() -> int:
    """Bytes of memory in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def waves(count: int) -> list[int]:
    """How many calls to set up at a time."""
    return [min(WAVE, count - begun) for begun in range(0, count, WAVE)]


def costs(used: tuple[float, float, float], idle: float, count: int) -> Costs:
    processor, wall, memory = used
    return Costs(
        1000 * processor / count,
        1000 * wall / count,
        memory / 1024 / count,
        100 * idle / IDLE_SECONDS,
    )


def ours(pipe: Connection, count: int) -> None:
    from artico_sync import Artico, MemoryHub

    hub = MemoryHub()
    alice, bob = (
        Artico(signaling=hub.signaling(name), rtc_config={"iceServers": []}).connect()
        for name in ("alice", "bob")
    )
    answered: list[Any] = []
    all_answered = threading.Semaphore(0)

    def incoming(call: Any) -> None:
        answered.append(call)
        call.on("open", all_answered.release)
        call.answer()

    bob.on("call", incoming)
    alice.call("bob").wait_open(PATIENCE)
    all_answered.acquire()
    meter = Meter()
    for size in waves(count):
        for call in [alice.call("bob") for _ in range(size)]:
            call.wait_open(PATIENCE)
            all_answered.acquire()
    used = meter.used()
    sleep(1.0)
    before = process_time()
    sleep(IDLE_SECONDS)
    pipe.send(costs(used, process_time() - before, count))


def bare(pipe: Connection, count: int) -> None:
    asyncio.run(bare_calls(pipe, count))


async def bare_calls(pipe: Connection, count: int) -> None:
    kept: list[Any] = [await bare_call()]
    meter = Meter()
    for size in waves(count):
        kept += await asyncio.gather(*(bare_call() for _ in range(size)))
    used = meter.used()
    await asyncio.sleep(1.0)
    before = process_time()
    await asyncio.sleep(IDLE_SECONDS)
    pipe.send(costs(used, process_time() - before, count))


async def bare_call() -> Any:
    """Two connections with an open channel between them."""
    from aiortc import RTCConfiguration, RTCPeerConnection

    caller, callee = (RTCPeerConnection(RTCConfiguration([])) for _ in range(2))
    opened = asyncio.Event()
    channel = caller.createDataChannel("data")
    channel.on("open", opened.set)
    await caller.setLocalDescription(await caller.createOffer())
    await callee.setRemoteDescription(caller.localDescription)
    await callee.setLocalDescription(await callee.createAnswer())
    await caller.setRemoteDescription(callee.localDescription)
    await opened.wait()
    return caller, callee, channel
