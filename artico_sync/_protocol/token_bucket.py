"""Token buckets: average rates with bursts."""

from __future__ import annotations

import time

from artico_sync._protocol.bounds import LruDict


class TokenBucket:
    """A token bucket: `rate` tokens per second on average, and `burst` at once.

    Args:
        rate: Tokens added per second.
        burst: Capacity of the bucket.
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

    def charge(self, tokens: float = 1.0) -> float:
        """Take tokens, into debt if necessary, and return the seconds until the debt is paid."""
        self._refill()
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def try_acquire(self) -> bool:
        """Take one token if there is one, and return whether there was."""
        self._refill()
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class TokenBuckets:
    """One token bucket per name, for a bounded number of names.

    Args:
        rate: Tokens added to each bucket per second.
        burst: Capacity of each bucket.
        maximum: Maximum number of buckets; the one used least recently is dropped, so that its
            name starts with a full bucket again.
    """

    def __init__(self, rate: float, burst: float, maximum: int) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: LruDict[str, TokenBucket] = LruDict(maximum)

    def try_acquire(self, name: str) -> bool:
        """Take one token of a name if there is one, and return whether there was."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst)
        self._buckets[name] = bucket
        return bucket.try_acquire()
