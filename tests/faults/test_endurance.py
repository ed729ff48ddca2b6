"""The benchmark of endurance in small: it runs, and calls leave nothing behind."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import TIME_UNIT


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.timeout(120 * TIME_UNIT)
def test_calls_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.benchmarks.endurance import measure

    # Too few calls to measure the memory that one of them leaves: it varies by pages.
    wrong = [line for line in measure(calls=40, at_once=10) if "KiB" not in line]
    assert wrong == []
    assert "objects" in capsys.readouterr().out
