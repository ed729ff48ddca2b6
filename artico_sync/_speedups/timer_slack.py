"""How late the system may wake a thread that waits for a time; the thread itself.

Linux rounds every wait up by 50 microseconds, the wait for the interpreter's lock as well, where
that is as long as the turn of a computing thread that the loop thread waits for.
"""

from __future__ import annotations

import logging
import sys

logger = logging.getLogger("artico_sync._speedups.timer_slack")

#: prctl(2); in nanoseconds, of which 0 means the default.
PR_SET_TIMERSLACK = 29
LEAST = 1


def minimise_timer_slack() -> None:
    """Have the calling thread woken as exactly as the system can, where that can be asked for."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        result = ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, LEAST, 0, 0, 0)
    except (ImportError, OSError, AttributeError) as error:
        logger.debug("the timer slack stays as it is: %s", error)
    else:
        if result:
            logger.debug("the timer slack stays as it is: refused")
