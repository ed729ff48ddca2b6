"""Data: round trip and throughput of artico_sync against bare aiortc, on loopback and bad networks.

Run as `python -m tests.benchmarks.data [--quick] [--json FILE]`. Both are measured in turns in the
same run, each end in a process of its own: artico_sync from user thread to user thread, aiortc
from loop to loop. Every number is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.benchmarks.data_peers import run_end
from tests.datagram_relay import Relay

KINDS = ("bare", "artico_sync")
SIZES = (65536, 16384, 1024, 64)
CANDIDATE = re.compile(r"(candidate:\S+ \d+ udp \d+ )(\S+) (\d+)( typ)", re.IGNORECASE)
#: Seconds one measurement may take beyond its own length; bare aiortc stalls.
PATIENCE = 150.0


class Ends:
    """A call between two processes; the parent carries its signals and gives the orders."""

    def __init__(self, kind: str, relay: Relay | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._relay = relay
        self._pipes: dict[str, Connection] = {}
        self._processes = []
        self._results: dict[str, Any] = {}
        self._arrived = threading.Condition()
        for role in ("callee", "caller"):
            ours, theirs = context.Pipe()
            process = context.Process(target=run_end, args=(kind, role, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes[role] = ours
            self._processes.append(process)
        for role, other, side in (("caller", "callee", "a"), ("callee", "caller", "b")):
            threading.Thread(target=self._carry, args=(role, other, side), daemon=True).start()
        self._wait("open")

    def measure(self, what: str, *arguments: float) -> Any:
        self._pipes["caller"].send((what, arguments))
        return self._wait("result")

    def close(self) -> None:
        for role in ("caller", "callee"):
            self._pipes[role].send(("end", None))
            self._processes[0 if role == "callee" else 1].join(10)
        for process in self._processes:
            process.kill()

    def _wait(self, kind: str) -> Any:
        with self._arrived:
            if not self._arrived.wait_for(lambda: kind in self._results, PATIENCE):
                raise TimeoutError(f"no {kind}")
            return self._results.pop(kind)

    def _carry(self, role: str, other: str, side: str) -> None:
        """Pass on what one end says."""
        while True:
            try:
                kind, body = self._pipes[role].recv()
            except (EOFError, OSError):
                return
            if kind == "signal":
                self._pipes[other].send(("signal", self._rewritten(body, side)))
                continue
            with self._arrived:
                self._results[kind] = body
                self._arrived.notify_all()

    def _rewritten(self, message: dict[str, Any], side: str) -> dict[str, Any]:
        """With the relay's ports in place of the peer's own."""
        relay = self._relay
        if relay is None:
            return message

        def replace(found: re.Match[str]) -> str:
            head, host, port, tail = found.groups()
            return f"{head}{host} {relay.forward_to((host, int(port)), side)}{tail}"

        data = message["signal"].get("data") or {}
        changed = {
            key: CANDIDATE.sub(replace, value)
            for key, value in data.items()
            if key in ("sdp", "candidate") and isinstance(value, str)
        }
        return {**message, "signal": {**message["signal"], "data": {**data, **changed}}}


@contextmanager
def connected(kind: str, network: dict[str, float] | None) -> Iterator[Ends]:
    relayed = Relay(**network) if network is not None else nullcontext()  # type: ignore[arg-type]
    with relayed as relay:
        ends = Ends(kind, relay)
        try:
            yield ends
        finally:
            ends.close()


@dataclass
class Row:
    """One line of the table. `better` says which way is up."""

    name: str
    unit: str
    bare: float
    artico_sync: float
    target: float
    better: str

    @property
    def ratio(self) -> float:
        return self.artico_sync / self.bare

    @property
    def met(self) -> bool:
        return self.ratio >= self.target if self.better == "more" else self.ratio <= self.target


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(item[key] for item in rounds) for key in rounds[0]}


def loopback(rounds: int, seconds: float, trips: int) -> list[Row]:
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for kind in KINDS:
            with connected(kind, None) as ends:
                found.setdefault((kind, "trip"), []).append(ends.measure("round trips", 64, trips))
            for size in SIZES:
                with connected(kind, None) as ends:
                    result = ends.measure("throughput", size, seconds)
                found.setdefault((kind, str(size)), []).append(result)
    bare, ours = (
        {what: medians(found[kind, what]) for k, what in found if k == kind} for kind in KINDS
    )
    rows = [
        Row(
            f"round trip of 64 B, {p}",
            "ms",
            bare["trip"][p] * 1e3,
            ours["trip"][p] * 1e3,
            t,
            "less",
        )
        for p, t in (("p50", 0.9), ("p99", 1.0))
    ]
    for size, target in zip(SIZES, (3.0, 3.0, 5.0, 10.0), strict=True):
        a, b = bare[str(size)], ours[str(size)]
        rows.append(
            Row(f"{size} B messages", "MB/s", a["megabytes"], b["megabytes"], target, "more")
        )
        rows.append(
            Row(f"{size} B, processor", "s/MB", a["processor"], b["processor"], 0.5, "less")
        )
    return rows


def networks(rounds: int, seconds: float) -> list[Row]:
    rows = []
    for delay in (0.01, 0.05):
        for loss in (0.0, 0.01, 0.03):
            found: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for number in range(rounds):
                network = {"delay": delay, "loss": loss, "seed": number + 1}
                for kind in KINDS:
                    with connected(kind, network) as ends:
                        result = ends.measure("throughput", 16384, seconds)
                    found[kind].append(result["megabytes"])
            bare, ours = (statistics.median(found[kind]) for kind in KINDS)
            name = f"{2000 * delay:.0f} ms round trip, {100 * loss:.0f} % loss"
            rows.append(Row(name, "MB/s", bare, ours, 1.0, "more"))
    return rows


def bottleneck(rounds: int, seconds: float) -> list[Row]:
    """A 20 Mbit/s link of 40 ms with a queue of one round trip: its use, and two calls on it.

    These are held against the link itself, not against aiortc, which is shown for comparison.
    """
    rate = 20e6
    network = {"delay": 0.02, "rate": rate}
    shares: dict[str, list[float]] = {kind: [] for kind in KINDS}
    smaller = []
    for _ in range(rounds):
        for kind in KINDS:
            with connected(kind, network) as ends:
                result = ends.measure("throughput", 16384, seconds)
            shares[kind].append(result["megabytes"] * 8e6 / rate)
        smaller.append(shared_bottleneck(network, 2 * seconds))
    bare, ours = (statistics.median(shares[kind]) for kind in KINDS)
    return [
        Row("20 Mbit/s, 40 ms: of the link", "of 1", 1.0, ours, 0.8, "more"),
        Row("the same, against aiortc", "of 1", bare, ours, 1.0, "more"),
        Row("smaller of two calls, of both", "of 1", 1.0, statistics.median(smaller), 0.35, "more"),
    ]


def shared_bottleneck(network: dict[str, float], seconds: float) -> float:
    """The share of the smaller one of two calls on one link."""
    with Relay(**network) as relay:  # type: ignore[arg-type]
        calls = [Ends("artico_sync", relay) for _ in range(2)]
        rates: list[float] = []

        def measure(ends: Ends) -> None:
            rates.append(ends.measure("throughput", 16384, seconds)["megabytes"])

        threads = [threading.Thread(target=measure, args=(ends,)) for ends in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for ends in calls:
            ends.close()
    return min(rates) / sum(rates)


def table(rows: list[Row]) -> str:
    lines = [f"{'':34}{'bare':>10}{'ours':>10}  {'':6}{'ratio':>8}{'target':>9}"]
    for row in rows:
        sign = ">=" if row.better == "more" else "<="
        mark = "" if row.met else "  MISSED"
        lines.append(
            f"{row.name:34}{row.bare:10.4g}{row.artico_sync:10.4g}  {row.unit:6}"
            f"{row.ratio:8.2f}{sign:>5}{row.target:4.3g}{mark}"
        )
    return "\n".join(lines)


def measure(quick: bool = False, only: str | None = None) -> list[Row]:
    """All rows, or those of "loopback", "networks" or "bottleneck"."""
    rounds, seconds, trips = (1, 1.5, 500) if quick else (3, 4.0, 3000)
    rows: list[Row] = []
    if only in (None, "loopback"):
        rows += loopback(rounds, seconds, trips)
    if only in (None, "networks"):
        rows += networks(rounds, 2 * seconds)
    if only in (None, "bottleneck"):
        rows += bottleneck(rounds, 3 * seconds)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--only", choices=("loopback", "networks", "bottleneck"))
    parser.add_argument("--json", type=Path, help="write the numbers there as well")
    options = parser.parse_args()
    rows = measure(options.quick, options.only)
    report = [{**vars(row), "ratio": row.ratio, "met": row.met} for row in rows]
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    parser.exit(message=table(rows) + "\n")


if __name__ == "__main__":
    main()
