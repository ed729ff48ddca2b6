"""Waits for conditions that have no event to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL = 0.005


def wait_until(condition: Callable[[], bool], what: str, limit: float = 15.0) -> None:
    """Block until `condition` holds; AssertionError after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited {limit:g} s for {what}"
        time.sleep(INTERVAL)
