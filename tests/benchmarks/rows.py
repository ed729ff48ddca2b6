"""The lines of the benchmarks' table; parent process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Scale:
    """The durations of measurements."""

    rounds: int
    seconds: float
    full: bool = False


QUICK = Scale(rounds=2, seconds=1.0)
NORMAL = Scale(rounds=3, seconds=2.0)
FULL = Scale(rounds=5, seconds=3.0, full=True)


@dataclass(frozen=True)
class Row:
    """One line. The ratio is the median of the rounds' ratios, not the ratio of the medians."""

    part: str
    name: str
    unit: str
    reference: float
    ours: float
    ratio: float
    #: What the reference is: bare aiortc, or artico_sync without the difficulty of this line.
    against: str = "bare"
    #: The required ratio; None if the line is for information only.
    target: float | None = None
    #: True if a larger value is better.
    more: bool = False
    rounds: int = 1

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.ratio >= self.target if self.more else self.ratio <= self.target

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def compare(
    part: str,
    name: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    target: float | None = None,
    *,
    more: bool = False,
    against: str = "bare",
) -> Row:
    """Return a row of alternate measurements, each (reference, artico_sync)."""
    return Row(
        part,
        name,
        unit,
        median(reference for reference, _ in pairs),
        median(ours for _, ours in pairs),
        median(ours / reference if reference else float("inf") for reference, ours in pairs),
        against,
        target,
        more,
        len(pairs),
    )


def table(rows: Sequence[Row]) -> str:
    """All rows, each part under its name."""
    lines = [f"{'':46}{'reference':>10} {'':9}{'ours':>10} {'':6}{'ratio':>7} {'target':>8}"]
    part = ""
    for row in rows:
        if row.part != part:
            part = row.part
            lines.append(part)
        wanted = ""
        if row.target is not None:
            wanted = f"{'>=' if row.more else '<='} {row.target:.3g}"
        lines.append(
            f"  {row.name:44}{row.reference:10.4g} {row.against:9.9}{row.ours:10.4g} "
            f"{row.unit:6}{row.ratio:7.3g} {wanted:>8}{'  MISSED' if row.met is False else ''}"
        )
    return "\n".join(lines)
