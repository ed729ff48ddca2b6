"""How many signals a peer may send: a token bucket a peer, of a bounded number of peers; loop
thread."""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic

# Peers remembered; the one heard least recently is forgotten first.
_PEERS = 4096


class RateLimits:
    """Token buckets by peer id.

    Args:
        rate: Signals a second that may go on for ever.
        burst: Signals that may come at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, peer: str) -> bool:
        """Whether one more signal of `peer` is within its share."""
        now = monotonic()
        tokens, since = self._buckets.pop(peer, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1.0
        self._buckets[peer] = (tokens - 1.0 if allowed else tokens, now)
        if len(self._buckets) > _PEERS:
            self._buckets.popitem(last=False)
        return allowed
