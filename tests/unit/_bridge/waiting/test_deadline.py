"""Timeouts as users give them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest

from artico_sync._bridge.waiting.deadline import Deadline, check_timeout


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, None), (0, 0.0), (1.5, 1.5), (Fraction(1, 2), 0.5), (math.inf, None), (10**400, None)],
)
def test_accepted(given: Any, seconds: float | None) -> None:
    assert check_timeout(given) == seconds


def test_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    assert check_timeout(numpy.float32(0.5)) == 0.5
    assert check_timeout(numpy.int64(3)) == 3.0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("1", TypeError),
        (True, TypeError),
        (1j, TypeError),
        (-1, ValueError),
        (math.nan, ValueError),
        (-(10**400), ValueError),
    ],
)
def test_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeout"):
        check_timeout(given)


def test_minus_nothing_polls() -> None:
    assert "0 s" in str(Deadline(-0.0).error("anything")) and "-0" not in str(
        Deadline(-0.0).error("anything")
    )
