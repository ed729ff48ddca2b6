"""Benchmarks of artico_sync against bare aiortc, measured alternately in the same run.

Every end has a process of its own. The ratio of a line is the median of the rounds' ratios.
Takes some ten minutes; one part, named, a minute or two.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.rows import FULL, NORMAL, QUICK, Row, table

PARTS = (
    "import_time",
    "setup",
    "round_trip",
    "throughput",
    "networks",
    "busy_thread",
    "video",
    "many_calls",
    "speedups",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="few short rounds")
    parser.add_argument(
        "--full", action="store_true", help="more and longer rounds, and 500 calls: half an hour"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    scale = QUICK if options.quick else FULL if options.full else NORMAL
    rows: list[Row] = []
    failed = False
    for name in options.parts or PARTS:
        sys.stderr.write(f"{name} ...\n")
        try:
            rows += importlib.import_module(f"tests.benchmarks.{name}").measure(scale)
        except RuntimeError as error:
            # The results of the other parts are useful nevertheless.
            sys.stderr.write(f"{name} failed: {error}\n")
            failed = True
        if options.json is not None:
            options.json.write_text(json.dumps(report(rows), indent=2) + "\n")
    parser.exit(int(failed), table(rows) + "\n")


def report(rows: list[Row]) -> dict[str, object]:
    """Return all results, as a value for JSON."""
    return {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "aiortc": version("aiortc"),
        "rows": [row.as_dict() for row in rows],
    }


if __name__ == "__main__":
    main()
