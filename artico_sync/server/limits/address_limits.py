"""What each address does, and how fast it may; the loop that serves."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from artico_sync._protocol.token_bucket import TokenBucket
from artico_sync.server.limits import ServerLimits
from artico_sync.server.limits.log_throttle import LogThrottle

# Addresses remembered without a connection, until the oldest are forgotten.
REMEMBERED_ADDRESSES = 4096


@dataclass
class Address:
    """What one address does at the moment."""

    connecting: TokenBucket
    signals: TokenBucket
    connections: int = 0
    complaints: LogThrottle = field(default_factory=LogThrottle)


class AddressLimits:
    """The addresses that are connected, and those seen lately, with their rates."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._connected: dict[str, Address] = {}
        # In the order of their last use.
        self._idle: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._connected) + len(self._idle)

    def __getitem__(self, address: str) -> Address:
        key = network_of(address)
        entry = self._connected.get(key)
        if entry is None:
            entry = self._idle.pop(key, None) or self._new()
            self._keep_idle(key, entry)
        return entry

    @contextmanager
    def connected(self, address: str) -> Iterator[Address]:
        """Count a connection of an address, which is not forgotten while there is one."""
        key = network_of(address)
        entry = self[address]
        self._idle.pop(key, None)
        self._connected[key] = entry
        entry.connections += 1
        try:
            yield entry
        finally:
            entry.connections -= 1
            if entry.connections == 0:
                del self._connected[key]
                self._keep_idle(key, entry)

    def _new(self) -> Address:
        limits = self._limits
        return Address(
            TokenBucket(limits.connections_per_second, limits.connections_burst),
            TokenBucket(limits.address_signals_per_second, limits.address_signals_burst),
        )

    def _keep_idle(self, key: str, entry: Address) -> None:
        self._idle[key] = entry
        if len(self._idle) > REMEMBERED_ADDRESSES:
            del self._idle[next(iter(self._idle))]


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
