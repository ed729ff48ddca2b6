"""The number of rounds in tests of faults that show only in many."""

from __future__ import annotations

import os

#: Set if the suite runs again in another configuration, with half the rounds.
BRIEF_VARIABLE = "ARTICO_SYNC_TEST_BRIEF"


def rounds(number: int) -> int:
    """Return the number of rounds, or half of it."""
    return number // 2 if BRIEF_VARIABLE in os.environ else number
