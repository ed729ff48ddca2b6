"""How fast somebody may go; the loop that serves."""

from __future__ import annotations

import time
from collections import OrderedDict


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


class TokenBuckets:
    """Token buckets by name, of a limited number of names.

    Args:
        rate: Tokens added per second.
        burst: Capacity of a bucket.
        maximum: Number of names remembered; the least recently used is forgotten first.
    """

    def __init__(self, rate: float, burst: float, maximum: int) -> None:
        self._rate = rate
        self._burst = burst
        self._maximum = maximum
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, name: str) -> bool:
        """Take a token from a bucket; return False if it is empty."""
        bucket = self._buckets.pop(name, None) or TokenBucket(self._rate, self._burst)
        self._buckets[name] = bucket
        if len(self._buckets) > self._maximum:
            self._buckets.popitem(last=False)
        return bucket.try_take()
