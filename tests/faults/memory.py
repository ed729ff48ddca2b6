"""The resident memory of a process."""

from __future__ import annotations

import gc

import pytest

MIB = 1024 * 1024


def resident_memory(process: int | str = "self") -> int:
    """Return the resident bytes of a process; skip the test if the system does not report them."""
    if process == "self":
        gc.collect()
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pytest.skip("this system does not report the memory of a process")
    raise AssertionError("no VmRSS")
