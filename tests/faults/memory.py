"""How much memory a process takes; any thread."""

from __future__ import annotations

import gc

import pytest

MIB = 1024 * 1024


def resident_memory(process: int | str = "self") -> int:
    """Bytes of a process that are in memory; skips the test where the system does not tell."""
    if process == "self":
        gc.collect()
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pytest.skip("this system does not tell how much memory a process takes")
    raise AssertionError("no VmRSS")
