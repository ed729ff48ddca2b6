"""Throughput on loopback, user thread to user thread, and its cost in processor time.

Against aiortc bare, loop to loop, and against two Chromium peers where Chromium and Playwright
are there.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from time import perf_counter, process_time
from typing import TYPE_CHECKING

from tests.benchmarks.chromium import chromium_pair
from tests.benchmarks.ends import BareCall, BareEnd, SyncEnd
from tests.benchmarks.processes import Pair, pairs
from tests.benchmarks.rows import Row, Scale, compare

if TYPE_CHECKING:
    from artico_sync import Call

PART = "Throughput on loopback"
#: Bytes of a message, and how many times bare it is to be.
TARGETS = {65536: 3.0, 16384: 3.0, 1024: 5.0, 64: 10.0}
#: Bytes, and messages, that bare aiortc is given ahead; artico_sync bounds itself.
AHEAD_BYTES = 1024 * 1024
AHEAD_MESSAGES = 2000
#: Asks for the count; every other message is counted.
FINISH = b"f"

#: Megabytes a second, and processor seconds a megabyte.
Flow = tuple[float, float]


def measure(scale: Scale) -> list[Row]:
    rows, browser_rows = [], []
    with pairs() as (bare, ours), ExitStack() as closing:
        browser = chromium_pair(closing)
        prepare(bare, ours)
        for size, target in TARGETS.items():
            found: list[tuple[Flow, Flow]] = []
            against: list[tuple[float, float]] = []
            for _ in range(scale.rounds):
                reference, measured = (flow(one, size, scale.seconds) for one in (bare, ours))
                found.append((reference, measured))
                if browser is not None:
                    against.append((browser.flow(size, scale.seconds), measured[0]))
            rows += rows_of(PART, f"{size} B messages", found, target)
            if browser is not None:
                name = f"{size} B messages, two Chromium peers"
                browser_rows.append(
                    compare(PART, name, "MB/s", against, 1.0, more=True, against="Chromium")
                )
    return rows + browser_rows


def rows_of(
    part: str, name: str, found: list[tuple[Flow, Flow]], target: float | None
) -> list[Row]:
    """The rows of one kind of message: speed and processor time."""
    return [
        compare(part, name, "MB/s", [(a[0], b[0]) for a, b in found], target, more=True),
        compare(part, f"{name}, processor", "s/MB", [(a[1], b[1]) for a, b in found], 0.5),
    ]


def prepare(bare: Pair, ours: Pair) -> None:
    """Open the calls, with callees that count."""
    bare.callee.run(bare_sink)
    ours.callee.run(sync_sink)
    bare.caller.run(bare_open)
    ours.caller.run(sync_open)


def flow(ends: Pair, size: int, seconds: float, ahead: int = AHEAD_BYTES) -> Flow:
    """Send for `seconds`; return what arrived, and the processor time of both ends.

    `ahead`: bytes that wait in bare aiortc; what waits at the end takes its time on a slow path.
    """
    begun = ends.callee.run(bare_processor if ends.kind == "bare" else sync_processor)
    if ends.kind == "bare":
        length, count, processor = ends.caller.run(bare_source, size, seconds, ahead)
    else:
        length, count, processor = ends.caller.run(sync_source, size, seconds)
    ended = ends.callee.run(bare_processor if ends.kind == "bare" else sync_processor)
    megabytes = count * size / 1e6
    return megabytes / length, (processor + ended - begun) / megabytes


def sync_sink(end: SyncEnd) -> None:
    def count(call: Call) -> None:
        messages = 0
        for message in call:
            if message == FINISH:
                call.send(str(messages))
                messages = 0
            else:
                messages += 1

    end.answer(lambda call: end.spawn(count, call))


def sync_open(end: SyncEnd) -> None:
    end.kept["call"] = end.call()


def sync_processor(end: SyncEnd) -> float:
    return process_time()


def sync_source(end: SyncEnd, size: int, seconds: float) -> tuple[float, int, float]:
    """Seconds until all had arrived, how many messages, processor seconds."""
    call: Call = end.kept["call"]
    message = bytes(size)
    processor, begun = process_time(), perf_counter()
    while perf_counter() - begun < seconds:
        for _ in range(8):
            call.send(message)
    call.send(FINISH)
    count = int(call.recv(timeout=100))
    return perf_counter() - begun, count, process_time() - processor


async def bare_sink(end: BareEnd) -> None:
    def on_call(call: BareCall) -> None:
        @call.connection.on("datachannel")
        def on_channel(channel: object) -> None:
            messages = 0

            def count(message: bytes) -> None:
                nonlocal messages
                if message == FINISH:
                    channel.send(str(messages))  # type: ignore[attr-defined]
                    messages = 0
                else:
                    messages += 1

            channel.on("message", count)  # type: ignore[attr-defined]

    end.on_call = on_call


async def bare_open(end: BareEnd) -> None:
    end.kept["call"] = await end.call()


async def bare_processor(end: BareEnd) -> float:
    return process_time()


async def bare_source(
    end: BareEnd, size: int, seconds: float, ahead: int
) -> tuple[float, int, float]:
    channel = end.kept["call"].channel
    message = bytes(size)
    room = asyncio.Event()
    ahead = min(ahead, AHEAD_MESSAGES * size)
    channel.bufferedAmountLowThreshold = ahead // 2
    listener = channel.on("bufferedamountlow", room.set)
    processor, begun = process_time(), perf_counter()
    while (left := begun + seconds - perf_counter()) > 0:
        while channel.bufferedAmount < ahead:
            channel.send(message)
        room.clear()
        try:
            await asyncio.wait_for(room.wait(), left)
        except TimeoutError:
            break
    channel.remove_listener("bufferedamountlow", listener)
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    channel.once("message", answer.set_result)
    channel.send(FINISH)
    count = int(await answer)
    return perf_counter() - begun, count, process_time() - processor
