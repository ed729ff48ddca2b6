"""Deadlines in error messages."""

from __future__ import annotations

from artico_sync._bridge.waiting.deadline import Deadline


def test_minus_nothing_polls() -> None:
    assert "0 s" in str(Deadline(-0.0).error("anything")) and "-0" not in str(
        Deadline(-0.0).error("anything")
    )
