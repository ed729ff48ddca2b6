"""Speed beside a thread that computes in pure Python all the time, in the caller's process.

artico_sync runs with the switch interval that it sets while calls are open (see
_speedups/thread_scheduling.py), whose cost for the computing thread is measured as well; bare
aiortc runs with the default of the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter
from typing import Any

from tests.benchmarks import round_trip, throughput
from tests.benchmarks.ends import BareEnd, SyncEnd
from tests.benchmarks.processes import BARE, OURS, Pair, pairs
from tests.benchmarks.rows import Row, Scale, compare

PART = "Beside a computing thread"
SIZE = 16384
TRIPS = {BARE: 200, OURS: 1000}


def measure(scale: Scale) -> list[Row]:
    trips: dict[str, list[tuple[float, float]]] = {BARE: [], OURS: []}
    flows: dict[str, list[tuple[float, float]]] = {BARE: [], OURS: []}
    costs = []
    with pairs() as (bare, ours):
        for ends in (bare, ours):
            open_calls(ends)
        for _ in range(scale.rounds):
            for ends in (bare, ours):
                idle = round_trips(ends), flow(ends, scale.seconds)
                ends.caller.run(start_computing if ends.kind != BARE else bare_start_computing)
                undisturbed = speed(ends, 1.0)
                trips[ends.kind].append((idle[0], round_trips(ends)))
                ends.caller.run(read_speed if ends.kind != BARE else bare_read_speed)
                flows[ends.kind].append((idle[1], flow(ends, scale.seconds)))
                if ends.kind != BARE:
                    during = ends.caller.run(read_speed)
                    costs.append((undisturbed, during))
                ends.caller.run(stop_computing if ends.kind != BARE else bare_stop_computing)
    mine, theirs = "idle", "bare idle"
    return [
        compare(PART, "round trip of 64 B, mean", "ms", trips[OURS], 5.0, against=mine),
        compare(PART, "the same, bare", "ms", trips[BARE], against=theirs),
        compare(PART, "throughput, 16 KiB", "MB/s", flows[OURS], 0.4, more=True, against=mine),
        compare(PART, "the same, bare", "MB/s", flows[BARE], more=True, against=theirs),
        compare(
            PART, "speed of the thread while data flows", "M/s", costs, more=True, against=mine
        ),
    ]


def open_calls(ends: Pair) -> None:
    if ends.kind == BARE:
        ends.callee.run(bare_serve)
        ends.caller.run(throughput.bare_open)
    else:
        ends.callee.run(sync_serve)
        ends.caller.run(throughput.sync_open)


def round_trips(ends: Pair) -> float:
    """Return the mean in milliseconds: few trips are delayed by a switch interval, but by much."""
    trips = round_trip.bare_trips if ends.kind == BARE else round_trip.sync_trips
    begun = perf_counter()
    ends.caller.run(trips, TRIPS[ends.kind])
    return 1000 * (perf_counter() - begun) / (TRIPS[ends.kind] + round_trip.WARM_UP)


def flow(ends: Pair, seconds: float) -> float:
    return throughput.flow(ends, SIZE, seconds)[0]


def speed(ends: Pair, seconds: float) -> float:
    """Return the rounds of the computing thread, in millions a second, while nothing is sent."""
    if ends.kind == BARE:
        return 0.0
    ends.caller.run(read_speed)
    threading.Event().wait(seconds)
    return float(ends.caller.run(read_speed))


class Computing:
    """Counts in a thread until it is stopped."""

    def __init__(self) -> None:
        self.count = 0
        self._read = (0, perf_counter())
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended:
            self.count += 1

    def speed(self) -> float:
        """Rounds since the last look, in millions a second."""
        count, begun = self._read
        self._read = self.count, perf_counter()
        return (self._read[0] - count) / (self._read[1] - begun) / 1e6

    def stop(self) -> None:
        self._ended = True
        self._thread.join()


def start_computing(end: SyncEnd) -> None:
    end.kept["computing"] = Computing()


def read_speed(end: SyncEnd) -> float:
    return float(end.kept["computing"].speed())


def stop_computing(end: SyncEnd) -> None:
    end.kept.pop("computing").stop()


async def bare_start_computing(end: BareEnd) -> None:
    end.kept["computing"] = Computing()


async def bare_read_speed(end: BareEnd) -> float:
    return float(end.kept["computing"].speed())


async def bare_stop_computing(end: BareEnd) -> None:
    await asyncio.to_thread(end.kept.pop("computing").stop)


def sync_serve(end: SyncEnd) -> None:
    """Count the bytes of binary messages, and send text messages back."""

    def serve(call: Any) -> None:
        counted = 0
        for message in call:
            if isinstance(message, str):
                call.send(message)
            elif message == throughput.FINISH:
                call.send(str(counted))
                counted = 0
            else:
                counted += 1

    end.answer(lambda call: end.spawn(serve, call))


async def bare_serve(end: BareEnd) -> None:
    def on_call(call: Any) -> None:
        def on_channel(channel: Any) -> None:
            counted = 0

            def serve(message: str | bytes) -> None:
                nonlocal counted
                if isinstance(message, str):
                    channel.send(message)
                elif message == throughput.FINISH:
                    channel.send(str(counted))
                    counted = 0
                else:
                    counted += 1

            channel.on("message", serve)

        call.connection.on("datachannel", on_channel)

    end.on_call = on_call
