"""How often the browser suite repeats what shows only in many rounds."""

from __future__ import annotations

import os

#: Set where the suite is run once more, in another way: half as often then.
BRIEF_VARIABLE = "ARTICO_SYNC_TEST_BRIEF"


def rounds(number: int) -> int:
    """So many rounds, or half of them."""
    return number // 2 if BRIEF_VARIABLE in os.environ else number
