"""Rates and connections of each client address, and the values of the limits."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from artico_sync.server.limits import ServerLimits
from artico_sync.server.limits.address_limits import (
    REMEMBERED_ADDRESSES,
    AddressLimits,
    network_of,
)


def test_the_number_of_remembered_addresses_is_bounded() -> None:
    addresses = AddressLimits(ServerLimits())
    with addresses.connected("192.0.2.1") as first:
        for number in range(2 * REMEMBERED_ADDRESSES):
            assert addresses[f"address-{number}"].connections == 0
        assert addresses["192.0.2.1"] is first
        assert first.connections == 1
        assert len(addresses) <= REMEMBERED_ADDRESSES + 1
    assert addresses["192.0.2.1"] is first
    assert len(addresses) <= REMEMBERED_ADDRESSES


def test_an_address_is_remembered_however_many_are_connected() -> None:
    addresses = AddressLimits(ServerLimits(connections_per_second=0.001, connections_burst=1))
    with ExitStack() as stack:
        for number in range(REMEMBERED_ADDRESSES):
            stack.enter_context(addresses.connected(f"address-{number}"))
        assert addresses["192.0.2.1"].new_connections.try_acquire()
        assert not addresses["192.0.2.1"].new_connections.try_acquire()


def test_what_counts_as_one_address() -> None:
    assert network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("unknown") == "unknown"


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_are_positive(value: float) -> None:
    with pytest.raises(ValueError, match="max_peers"):
        ServerLimits(max_peers=value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_peers"):
        ServerLimits(max_peers="many")  # type: ignore[arg-type]
