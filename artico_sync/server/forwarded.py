"""Whom a request comes from when a reverse proxy stands before the server; no I/O."""

from __future__ import annotations

from collections.abc import Callable

Header = Callable[[str], str | None]
UNKNOWN = "unknown"


def client_address(peer: str | None, header: Header, behind_proxy: bool) -> str:
    """The client's address.

    Args:
        peer: Address at the other end of the connection.
        header: Looks a header up; of several lines, all, joined by commas in their order.
        behind_proxy: There is one proxy, and it appends to `X-Forwarded-For`; what stands before
            its own entry was written by the client and proves nothing.
    """
    if behind_proxy:
        forwarded = (header("x-forwarded-for") or "").rpartition(",")[2].strip()
        if forwarded:
            return _without_port(forwarded[:64])
    return peer or UNKNOWN


def _without_port(entry: str) -> str:
    """The address in '192.0.2.1:4000' or '[2001:db8::1]:4000', as some proxies write it."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, _, rest = entry.partition(":")
    # With more colons it is a bare IPv6 address.
    return entry if ":" in rest else host


def forwarded_host(header: Header, behind_proxy: bool) -> str | None:
    """The host name the client asked for."""
    if behind_proxy:
        forwarded = (header("x-forwarded-host") or "").rpartition(",")[2].strip()
        if forwarded:
            return forwarded
    return header("host")
