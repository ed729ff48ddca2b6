"""The policy that decides which web pages may use a signaling server.

A browser lets any page open a WebSocket to any server it can reach, including one on the same
machine, but it sends the true origin of the page.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Return whether a host name can only mean the machine itself."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def normalized(origin: str) -> str:
    """Return an origin in its canonical form: lower case, no default port, no trailing slash.

    Raises:
        ValueError: It is not an origin such as 'https://app.example:8443'.
    """
    parts = urlsplit(origin.strip())
    if not parts.scheme or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ValueError(f"{origin!r} is not an origin such as 'https://app.example:8443'")
    scheme = parts.scheme.lower()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port
    if port is None or port == DEFAULT_PORTS.get(scheme):
        return f"{scheme}://{host}"
    return f"{scheme}://{host}:{port}"


class OriginPolicy:
    """Decides by the `Origin` and `Host` headers of a request.

    A request without an `Origin` is not from a browser, and is allowed. A page is allowed if it is
    listed, if it comes from the host name the request was sent to (on any port), or if page and
    server are both addressed by loopback names: a page on http://localhost:5173 may use
    http://127.0.0.1:9000.

    Args:
        allowed: Further allowed origins; "*" for all.
        loopback_only: The server is reachable from this machine only, so a request sent to any
            other host name comes from a page whose name was made to resolve to this machine (DNS
            rebinding).
    """

    def __init__(
        self, allowed: str | Iterable[str] | None = None, *, loopback_only: bool = False
    ) -> None:
        entries = [allowed] if isinstance(allowed, str) else list(allowed or ())
        for entry in entries:
            if not isinstance(entry, str):
                raise TypeError(f"an allowed origin must be a str, not {type(entry).__name__}")
        self._all = "*" in entries
        # The origin of a page from a file or in a sandbox is "null".
        self._listed = {
            entry if entry == "null" else normalized(entry) for entry in entries if entry != "*"
        }
        self._loopback_only = loopback_only

    def allows(self, origin: str | None, host: str | None) -> bool:
        """Return whether a page of `origin` may use the server that it addressed as `host`."""
        if origin is None or self._all:
            return True
        if origin in self._listed:
            return True
        try:
            if normalized(origin) in self._listed:
                return True
            page = urlsplit(origin).hostname
            server = urlsplit(f"//{host}").hostname if host else None
        except ValueError:
            return False
        if not page or not server:
            return False
        if is_loopback(page) and is_loopback(server):
            return True
        return page == server and not self._loopback_only
