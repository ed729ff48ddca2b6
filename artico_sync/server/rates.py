"""Token buckets: how fast somebody may go; the loop that serves."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import dataclass, field

from artico_sync.server.limits import ServerLimits

# Addresses remembered after their last peer has left, until the oldest are forgotten.
REMEMBERED_ADDRESSES = 4096


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


@dataclass
class Address:
    """What one address does at the moment."""

    connecting: TokenBucket
    signals: TokenBucket
    connections: int = field(default=0)


class AddressBook:
    """The addresses seen lately, with their rates."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._addresses: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def __getitem__(self, address: str) -> Address:
        key = network_of(address)
        entry = self._addresses.pop(key, None)
        if entry is None:
            limits = self._limits
            entry = Address(
                TokenBucket(limits.connections_per_second, limits.connections_burst),
                TokenBucket(limits.address_signals_per_second, limits.address_signals_burst),
            )
        # Put back at the end, so that the order is that of the last use.
        self._addresses[key] = entry
        if len(self._addresses) > REMEMBERED_ADDRESSES:
            self._forget_oldest()
        return entry

    def _forget_oldest(self) -> None:
        for key, entry in self._addresses.items():
            if entry.connections == 0:
                del self._addresses[key]
                return


def network_of(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 an IPv6 user is given."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
