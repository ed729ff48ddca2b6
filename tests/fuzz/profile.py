"""The number of examples: seconds of fuzzing in CI, any duration by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

#: By hand: ARTICO_SYNC_FUZZ_EXAMPLES=20000 python -m pytest tests/fuzz --timeout 0
EXAMPLES = os.environ.get("ARTICO_SYNC_FUZZ_EXAMPLES")


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """Return settings with this number of examples, unless the environment sets another."""
    return settings(
        max_examples=int(EXAMPLES) if EXAMPLES else examples,
        deadline=None,
        derandomize=EXAMPLES is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
