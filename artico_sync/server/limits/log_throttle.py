"""Rate-limited warnings about the faults of clients."""

from __future__ import annotations

import logging

from artico_sync._protocol.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

WARNINGS_PER_SECOND = 1 / 60
WARNINGS_BURST = 3


class LogThrottle:
    """Logs at a bounded rate as warnings, and the rest at debug level.

    Without it any client could fill the disk with log lines.
    """

    __slots__ = ("_bucket",)

    def __init__(self) -> None:
        self._bucket = TokenBucket(WARNINGS_PER_SECOND, WARNINGS_BURST)

    def warn(self, message: str, *arguments: object) -> None:
        """Log a message, with the arguments filled in."""
        level = logging.WARNING if self._bucket.try_acquire() else logging.DEBUG
        logger.log(level, message, *arguments)
