"""The cost of importing: in addition to aiortc if that is imported, and without it."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.rows import Row, Scale, compare

PART = "Import"
#: Seconds beyond aiortc's own import.
LIMIT = 0.15

_TIMED = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"
_AFTER = "import aiortc; " + _TIMED
_LOADED = "import sys, artico_sync; print(int('aiortc' in sys.modules))"


def measure(scale: Scale) -> list[Row]:
    beyond, alone = [], []
    for _ in range(2 * scale.rounds):
        aiortc = run(_TIMED.format("aiortc"))
        beyond.append((LIMIT, run(_AFTER.format("artico_sync"))))
        alone.append((aiortc, run(_TIMED.format("artico_sync"))))
    loads = run(_LOADED)
    return [
        compare(PART, "artico_sync after aiortc", "s", beyond, 1.0, against="limit"),
        compare(PART, "artico_sync alone", "s", alone, against="aiortc"),
        Row(PART, "aiortc loaded by it", "", 1.0, loads, loads, "yes", 0.0),
    ]


def run(program: str) -> float:
    """Return the output of a program in a new interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )
    return float(done.stdout)
