"""How fast somebody may go; the loop that serves."""

from __future__ import annotations

import time


class TokenBucket:
    """`rate` a second on average, and `burst` at once.

    Args:
        rate: Tokens that come in a second.
        burst: Tokens that are kept at most.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._updated = time.monotonic()

    def _refill(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now

    def take(self, tokens: float = 1.0) -> float:
        """Take tokens, on credit if need be; the seconds to wait until they are paid for."""
        self._refill()
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def try_take(self) -> bool:
        """Take a token if there is one."""
        self._refill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
