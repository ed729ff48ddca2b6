"""Round trip of 64 B: user thread to user thread and back, against loop to loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

from tests.benchmarks.ends import BareCall, BareEnd, SyncEnd
from tests.benchmarks.processes import pairs
from tests.benchmarks.rows import Row, Scale, compare

if TYPE_CHECKING:
    from artico_sync import Call

PART = "Round trip of 64 B"
MESSAGE = "x" * 64
TRIPS = 400
WARM_UP = 20


def measure(scale: Scale) -> list[Row]:
    middle, late = [], []
    with pairs() as (bare, ours):
        bare.callee.run(bare_echo)
        ours.callee.run(sync_echo)
        bare.caller.run(bare_open)
        ours.caller.run(sync_open)
        for _ in range(4 * scale.rounds):
            reference = bare.caller.run(bare_trips, TRIPS)
            measured = ours.caller.run(sync_trips, TRIPS)
            middle.append((reference[0], measured[0]))
            late.append((reference[1], measured[1]))
    return [
        compare(PART, "p50", "ms", middle, 0.9),
        compare(PART, "p99", "ms", late, 1.0),
    ]


def percentiles(samples: list[float]) -> tuple[float, float]:
    """Median and p99, in milliseconds."""
    ordered = sorted(samples[WARM_UP:])
    return 1000 * ordered[len(ordered) // 2], 1000 * ordered[int(len(ordered) * 0.99)]


def sync_echo(end: SyncEnd) -> None:
    def echo(call: Call) -> None:
        for message in call:
            call.send(message)

    end.answer(lambda call: end.spawn(echo, call))


def sync_open(end: SyncEnd) -> None:
    end.kept["call"] = end.call()


def sync_trips(end: SyncEnd, count: int) -> tuple[float, float]:
    call: Call = end.kept["call"]
    samples = []
    for _ in range(count + WARM_UP):
        begun = perf_counter()
        call.send(MESSAGE)
        call.recv(timeout=20)
        samples.append(perf_counter() - begun)
    return percentiles(samples)


async def bare_echo(end: BareEnd) -> None:
    def on_call(call: BareCall) -> None:
        @call.connection.on("datachannel")
        def on_channel(channel: object) -> None:
            channel.on("message", channel.send)  # type: ignore[attr-defined]

    end.on_call = on_call


async def bare_open(end: BareEnd) -> None:
    end.kept["call"] = await end.call()


async def bare_trips(end: BareEnd, count: int) -> tuple[float, float]:
    channel = end.kept["call"].channel
    back = asyncio.Event()
    listener = channel.on("message", lambda answer: back.set())
    samples = []
    for _ in range(count + WARM_UP):
        begun = perf_counter()
        channel.send(MESSAGE)
        await back.wait()
        back.clear()
        samples.append(perf_counter() - begun)
    channel.remove_listener("message", listener)
    return percentiles(samples)
