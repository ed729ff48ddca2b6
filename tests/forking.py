"""What happens in a forked child."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest


def forks(test: Any) -> Any:
    """Marks a test that forks."""
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")(
        pytest.mark.filterwarnings(
            "ignore:This process .* is multi-threaded:DeprecationWarning",
        )(test)
    )


def in_child(function: Callable[[], bool]) -> bool:
    """Whether `function` returns true in a forked child."""
    child = os.fork()
    if child == 0:
        # What other tests left stays as it is: a decoder in it waits, when it is collected, for
        # threads that the child does not have.
        gc.freeze()
        try:
            os._exit(0 if function() else 1)
        except BaseException:
            os._exit(2)
    try:
        status = os.waitpid(child, 0)[1]
    except BaseException:
        # The time is up; the child holds the pipes of whatever the session has started.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status) == 0
