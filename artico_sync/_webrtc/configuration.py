"""Validation of `rtc_config`, and its conversion to `aiortc.RTCConfiguration`.

Functions here may be called from any thread. aiortc is imported only when needed, because importing
it takes longer than importing all of artico_sync.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiortc import RTCConfiguration

#: The default STUN servers of Artico's JavaScript client.
DEFAULT_SERVERS: tuple[str, ...] = ("stun:stun.l.google.com:19302", "stun:stun1.l.google.com:19302")

# RFC 7064 3.1 and RFC 7065 3.1, with a host or an IPv6 address in brackets.
_URL = re.compile(
    r"(?P<scheme>stuns?|turns?):(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\[\]:?]+)(:(?P<port>\d{1,5}))?"
    r"(\?transport=(?P<transport>udp|tcp))?"
)
_MEMBERS = frozenset(
    {
        "iceServers",
        "iceTransportPolicy",
        "bundlePolicy",
        "rtcpMuxPolicy",
        "certificates",
        "iceCandidatePoolSize",
        "peerIdentity",
        "alwaysNegotiateDataChannels",
    }
)
_SERVER_MEMBERS = frozenset({"urls", "url", "username", "credential", "credentialType"})


def check_configuration(value: object) -> Any:
    """Return `value`, normalized, if it is valid as `rtc_config`.

    Args:
        value: None, an `aiortc.RTCConfiguration`, or a mapping as in JavaScript.

    Raises:
        TypeError: The value or one of its members has the wrong type.
        ValueError: A member is unknown or malformed.
    """
    if value is None or _is_configuration(value):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(
            "rtc_config must be an aiortc.RTCConfiguration or a mapping,"
            f" not {type(value).__name__}"
        )
    unknown = sorted(str(name) for name in value if name not in _MEMBERS)
    if unknown:
        raise ValueError(f"unknown member of rtc_config: {', '.join(unknown)}")
    policy = value.get("iceTransportPolicy", "all")
    if policy not in ("all", "relay"):
        raise ValueError(f'iceTransportPolicy must be "all" or "relay", not {policy!r}')
    servers = value.get("iceServers", [])
    if isinstance(servers, (str, bytes, Mapping)) or not hasattr(servers, "__iter__"):
        raise TypeError(f"iceServers must be a list, not {type(servers).__name__}")
    checked = [_check_server(server) for server in servers]
    return {**value, "iceServers": checked} if "iceServers" in value else dict(value)


def _is_configuration(value: object) -> bool:
    # An instance exists only if aiortc has been imported.
    module = sys.modules.get("aiortc")
    return module is not None and isinstance(value, module.RTCConfiguration)


def _check_server(server: object) -> dict[str, Any]:
    if not isinstance(server, Mapping):
        raise TypeError(f"an ICE server must be a mapping, not {type(server).__name__}")
    unknown = sorted(str(name) for name in server if name not in _SERVER_MEMBERS)
    if unknown:
        raise ValueError(f"unknown member of an ICE server: {', '.join(unknown)}")
    urls = server.get("urls", server.get("url"))
    listed = [urls] if isinstance(urls, str) else urls
    if not isinstance(listed, (list, tuple)) or not listed:
        raise TypeError("an ICE server needs urls: a str or a list of them")
    for url in listed:
        if not isinstance(url, str):
            raise TypeError(f"the URL of an ICE server must be a str, not {type(url).__name__}")
        match = _URL.fullmatch(url)
        if match is None or (match["scheme"].startswith("stun") and match["transport"]):
            raise ValueError(f"not the URL of a STUN or TURN server: {url!r}")
        if match["scheme"].startswith("turn"):
            for name in ("username", "credential"):
                if not isinstance(server.get(name), str):
                    raise ValueError(f"the TURN server {url!r} needs a {name}")
    return {**server, "urls": list(listed)}


def build_configuration(checked: Any) -> RTCConfiguration:
    """Convert the result of `check_configuration`; imports aiortc."""
    import aiortc

    if isinstance(checked, aiortc.RTCConfiguration):
        return checked
    checked = checked or {}
    servers = [
        aiortc.RTCIceServer(
            urls=server["urls"],
            username=server.get("username"),
            credential=server.get("credential"),
        )
        for server in checked.get("iceServers", [{"urls": list(DEFAULT_SERVERS)}])
    ]
    policy = aiortc.RTCIceTransportPolicy(checked.get("iceTransportPolicy", "all"))
    return aiortc.RTCConfiguration(
        iceServers=servers,
        iceTransportPolicy=policy,
        bundlePolicy=aiortc.RTCBundlePolicy.MAX_BUNDLE,
    )
