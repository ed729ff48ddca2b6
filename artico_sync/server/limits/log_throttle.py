"""Lines in the log about what strangers do; the loop that serves."""

from __future__ import annotations

import logging

from artico_sync._protocol.token_bucket import TokenBucket

logger = logging.getLogger("artico_sync.server")

PER_SECOND = 1 / 60
BURST = 3


class LogThrottle:
    """Warns now and then, and says the rest at debug level: anybody could fill the disk with it."""

    __slots__ = ("_rate",)

    def __init__(self) -> None:
        self._rate = TokenBucket(PER_SECOND, BURST)

    def say(self, message: str, *arguments: object) -> None:
        """Log it, with the arguments filled in."""
        level = logging.WARNING if self._rate.try_take() else logging.DEBUG
        logger.log(level, message, *arguments)
