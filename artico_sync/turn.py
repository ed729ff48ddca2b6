"""Short-lived credentials for TURN servers that share a secret with the application."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable
from typing import Any

from artico_sync._checks import check_text, check_whole


def turn_server(
    urls: str | Iterable[str], secret: str, *, user: str = "", seconds: int = 86400
) -> dict[str, Any]:
    """Return an entry for `rtc_config["iceServers"]` that is valid for a limited time.

    TURN servers such as coturn (`use-auth-secret`) accept credentials that are derived from their
    secret (draft-uberti-behave-turn-rest-00): give each user a credential, never the secret.

    Example:
        >>> relay = turn_server("turn:turn.example:3478", "the secret", user="alice", seconds=3600)
        >>> relay["urls"], relay["username"].partition(":")[2]
        (['turn:turn.example:3478'], 'alice')
        >>> rtco = Artico("http://localhost:9000", rtc_config={"iceServers": [relay]})

    Args:
        urls: One or several `turn:` or `turns:` URLs (RFC 7065).
        secret: The secret the TURN server and the application share.
        user: Shown in the server's log; may be empty.
        seconds: Time in which the credentials can be used to allocate a relay.

    Returns:
        A dict with `urls`, `username` and `credential`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: No secret, no URL, a colon in the user, or no time.
    """
    check_text("secret", secret)
    check_text("user", user)
    check_whole("seconds", seconds, least=1)
    listed = [urls] if isinstance(urls, str) else list(urls)
    for url in listed:
        check_text("each of urls", url)
    if not secret or not listed or ":" in user:
        raise ValueError("secret and urls must not be empty, and user must not contain ':'")
    username = f"{int(time.time()) + seconds}" + (f":{user}" if user else "")
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return {"urls": listed, "username": username, "credential": base64.b64encode(digest).decode()}
