"""Throughput on bad networks, played by the relay of the tests: delay, loss, and a bottleneck."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from tests.benchmarks.processes import BARE, OURS, Pair, pair
from tests.benchmarks.rows import Row, Scale, compare
from tests.benchmarks.throughput import bare_open, bare_sink, flow, sync_open, sync_sink
from tests.datagram_relay import Relay

PART = "Bad networks"
SIZE = 16384
#: Bytes that wait in bare aiortc: more than its window, and soon gone at the end.
AHEAD = 128 * 1024
DELAYS = (0.01, 0.05)
LOSSES = (0.0, 0.01, 0.03)
#: The bottleneck, in bits a second and seconds one way; its queue holds one round trip.
RATE = 20e6
BOTTLENECK = {"rate": RATE, "delay": 0.02}


def measure(scale: Scale) -> list[Row]:
    rows = []
    for delay in DELAYS:
        for loss in LOSSES:
            found = [
                tuple(
                    alone(kind, {"delay": delay, "loss": loss, "seed": number}, 2 * scale.seconds)
                    for kind in (BARE, OURS)
                )
                for number in range(1, rounds(scale) + 1)
            ]
            name = f"{2000 * delay:.0f} ms round trip, {100 * loss:.0f} % loss"
            speeds = [(reference, measured) for reference, measured in found]
            rows.append(compare(PART, name, "MB/s", speeds, 1.0, more=True))
    return rows + bottleneck(scale)


def rounds(scale: Scale) -> int:
    return (scale.rounds + 1) // 2


def bottleneck(scale: Scale) -> list[Row]:
    link = RATE / 8e6
    seconds = 4 * scale.seconds
    used, bare_used, shares = [], [], []
    for _ in range(rounds(scale)):
        bare_used.append((link, alone(BARE, BOTTLENECK, seconds)))
        used.append((link, alone(OURS, BOTTLENECK, seconds)))
        shares.append((1.0, smaller_share(seconds)))
    name = "20 Mbit/s, 40 ms"
    return [
        compare(PART, name, "MB/s", used, 0.8, more=True, against="link"),
        compare(PART, f"{name}, bare", "MB/s", bare_used, more=True, against="link"),
        compare(PART, f"{name}, smaller of two", "share", shares, 0.35, more=True, against="both"),
    ]


def open_call(ends: Pair) -> None:
    ends.callee.run(bare_sink if ends.kind == BARE else sync_sink)
    ends.caller.run(bare_open if ends.kind == BARE else sync_open)


def alone(kind: str, network: dict[str, float], seconds: float) -> float:
    """Megabytes a second of one call."""
    with pair(kind, network) as ends:
        open_call(ends)
        return flow(ends, SIZE, seconds, AHEAD)[0]


def smaller_share(seconds: float) -> float:
    """Return the share of the smaller of two calls on the bottleneck."""
    speeds: list[float] = []
    with ExitStack() as closing:
        relay = closing.enter_context(Relay(**BOTTLENECK))  # type: ignore[arg-type]
        calls = []
        for _ in range(2):
            ends = Pair(OURS, relay)
            closing.callback(ends.close)
            open_call(ends)
            calls.append(ends)

        def run(ends: Pair) -> None:
            speeds.append(flow(ends, SIZE, seconds)[0])

        threads = [threading.Thread(target=run, args=(ends,)) for ends in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return min(speeds) / sum(speeds) if len(speeds) == 2 else 0.0
