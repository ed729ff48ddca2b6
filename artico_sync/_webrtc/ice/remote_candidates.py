"""Which candidates of the peer's can be of use to checks from UDP sockets; no state."""

from __future__ import annotations

import ipaddress

from aioice import Candidate

PRIORITY_MAXIMUM = 2**32 - 1
CANDIDATE_TYPES = frozenset({"host", "srflx", "prflx", "relay"})


def is_usable(candidate: Candidate) -> bool:
    """Whether a candidate is one that checks from a UDP socket can reach."""
    return (
        candidate.component == 1
        and candidate.transport.lower() == "udp"
        and 0 < candidate.port < 65536
        and 0 <= candidate.priority <= PRIORITY_MAXIMUM
        and candidate.type in CANDIDATE_TYPES
    )


def is_address(host: str) -> bool:
    """Whether `host` is an address that one peer can have, written without a scope."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or "%" in host)
