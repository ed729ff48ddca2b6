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
#: Calls that are set up at the same time; a client limits how many calls of one peer ring at once.
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
        found = [costs_of(count) for _ in range((scale.rounds + 1) // 2)]
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


def costs_of(count: int) -> tuple[Costs, Costs]:
    """Bare aiortc and artico_sync in a process each, which set up their waves alternately.

    The speed of a machine changes within the seconds that many calls take.
    """
    ends = Caller("bare", bare), Caller("ours", ours)
    try:
        processor, wall = [0.0, 0.0], [0.0, 0.0]
        for number, size in enumerate(waves(count)):
            for which in (0, 1) if number % 2 else (1, 0):
                used = ends[which].run(size)
                processor[which] += used[0]
                wall[which] += used[1]
        memory = [end.run("memory") for end in ends]
        sleep(1.0)
        for end in ends:
            end.begin("idle")
        idle = [end.result() for end in ends]
    finally:
        for end in ends:
            end.close()
    one, other = (
        Costs(
            1000 * processor[which] / count,
            1000 * wall[which] / count,
            memory[which] / 1024 / count,
            100 * idle[which] / IDLE_SECONDS,
        )
        for which in (0, 1)
    )
    return one, other


class Caller:
    """A process that sets up calls and keeps them; parent process."""

    def __init__(self, name: str, function: Callable[[Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._name = name
        self._orders, child_end = context.Pipe()
        self._process = context.Process(target=function, args=(child_end,), daemon=True)
        self._process.start()
        child_end.close()
        self.result()

    def begin(self, order: int | str) -> None:
        """The size of a wave to set up, "memory" or "idle"; `result` waits for its end."""
        self._orders.send(order)

    def result(self) -> Any:
        if not self._orders.poll(PATIENCE):
            raise RuntimeError(f"{self._name}: nothing within {PATIENCE:g} s")
        try:
            return self._orders.recv()
        except EOFError:
            raise RuntimeError(f"{self._name}: the process has ended") from None

    def run(self, order: int | str) -> Any:
        self.begin(order)
        return self.result()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._orders.close()


class Meter:
    """The processor time and memory of the process."""

    def __init__(self) -> None:
        gc.collect()
        self._memory = resident()
        self.begin()

    def begin(self) -> None:
        self._processor, self._wall = process_time(), perf_counter()

    def used(self) -> tuple[float, float]:
        """Seconds of the processor and of the clock since `begin`."""
        return process_time() - self._processor, perf_counter() - self._wall

    def memory(self) -> int:
        """Bytes more than when it was made."""
        gc.collect()
        return resident() - self._memory


def resident() -> int:
    """Return the bytes of memory in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def waves(count: int) -> list[int]:
    """Return the number of calls to set up in each wave."""
    return [min(WAVE, count - begun) for begun in range(0, count, WAVE)]


def ours(orders: Connection) -> None:
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
    orders.send(None)
    while True:
        order = orders.recv()
        meter.begin()
        if order == "memory":
            orders.send(meter.memory())
        elif order == "idle":
            sleep(IDLE_SECONDS)
            orders.send(meter.used()[0])
        else:
            for call in [alice.call("bob") for _ in range(order)]:
                call.wait_open(PATIENCE)
                all_answered.acquire()
            orders.send(meter.used())


def bare(orders: Connection) -> None:
    asyncio.run(bare_calls(orders))


async def bare_calls(orders: Connection) -> None:
    loop = asyncio.get_running_loop()
    kept: list[Any] = [await bare_call()]
    meter = Meter()
    orders.send(None)
    while True:
        # The calls stay open while the other process is measured.
        order = await loop.run_in_executor(None, orders.recv)
        meter.begin()
        if order == "memory":
            orders.send(meter.memory())
        elif order == "idle":
            await asyncio.sleep(IDLE_SECONDS)
            orders.send(meter.used()[0])
        else:
            kept += await asyncio.gather(*(bare_call() for _ in range(order)))
            orders.send(meter.used())


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
