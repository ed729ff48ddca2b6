"""The least timer slack for the loop thread.

Linux wakes a thread up to 50 microseconds after its timeout, the wait for the interpreter's lock
included: as long as the switch interval for which the loop thread waits beside a computing thread.
"""

from __future__ import annotations

import logging
import sys

logger = logging.getLogger(__name__)

#: See prctl(2); a slack of 0 would mean the default.
PR_SET_TIMERSLACK = 29
LEAST_NANOSECONDS = 1


def minimise_timer_slack() -> None:
    """Set the timer slack of the calling thread to the least the system allows, if it has one."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        result = ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, LEAST_NANOSECONDS, 0, 0, 0)
    except (ImportError, OSError, AttributeError) as error:
        logger.debug("the timer slack stays as it is: %s", error)
    else:
        if result:
            logger.debug("the timer slack stays as it is: refused")
