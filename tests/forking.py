"""Code that runs in a forked child."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest


def forks(test: Any) -> Any:
    """Mark a test that forks."""
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")(
        pytest.mark.filterwarnings(
            "ignore:This process .* is multi-threaded:DeprecationWarning",
        )(test)
    )


def in_child(function: Callable[[], bool]) -> bool:
    """Return True if `function` returns a true value in a forked child."""
    child = os.fork()
    if child == 0:
        # Objects left by other tests are not collected: a decoder among them would wait for threads
        # that the child does not have.
        gc.freeze()
        try:
            os._exit(0 if function() else 1)
        except BaseException:
            os._exit(2)
    try:
        status = os.waitpid(child, 0)[1]
    except BaseException:
        # The test's time is up; the child holds the pipes of processes the session has started.
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status) == 0
