"""Rates and connections of each client address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from artico_sync._protocol.bounds import LruDict
from artico_sync._protocol.token_bucket import TokenBucket
from artico_sync.server.limits import LogThrottle, ServerLimits

# Addresses without a connection that are remembered.
REMEMBERED_ADDRESSES = 4096


@dataclass
class Address:
    """Rates and number of connections of one address."""

    new_connections: TokenBucket
    signals: TokenBucket
    connections: int = 0
    log_throttle: LogThrottle = field(default_factory=LogThrottle)


class AddressLimits:
    """The addresses that are connected, and those seen recently."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._connected: dict[str, Address] = {}
        self._idle: LruDict[str, Address] = LruDict(REMEMBERED_ADDRESSES)

    def __len__(self) -> int:
        return len(self._connected) + len(self._idle)

    def __getitem__(self, address: str) -> Address:
        key = network_of(address)
        entry = self._connected.get(key)
        if entry is None:
            entry = self._idle.get(key) or self._new_address()
            self._idle[key] = entry
        return entry

    @contextmanager
    def connected(self, address: str) -> Iterator[Address]:
        """Count a connection of an address, which is remembered while it has connections."""
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
                self._idle[key] = entry

    def _new_address(self) -> Address:
        limits = self._limits
        return Address(
            TokenBucket(limits.connections_per_second, limits.connections_burst),
            TokenBucket(limits.address_signals_per_second, limits.address_signals_burst),
        )


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or an IPv6 /64, which one user has."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
