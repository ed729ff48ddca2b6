"""Short-lived credentials for TURN servers that share a secret with the application; any thread."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable
from typing import Any


def turn_server(
    urls: str | Iterable[str], secret: str, *, user: str = "", seconds: int = 86400
) -> dict[str, Any]:
    """An entry for `rtc_config["iceServers"]`, valid for a while.

    TURN servers such as coturn (`use-auth-secret`) take credentials that anybody who knows their
    secret can make (draft-uberti-behave-turn-rest-00): give each user one, never the secret.

    Example:
        >>> relay = turn_server("turn:turn.example:3478", "the secret", user="alice", seconds=3600)
        >>> relay["urls"], relay["username"].partition(":")[2]
        (['turn:turn.example:3478'], 'alice')
        >>> rtco = Artico("http://localhost:9000", rtc_config={"iceServers": [relay]})

    Args:
        urls: One or several `turn:` or `turns:` URLs (RFC 7065).
        secret: What the TURN server and the application share.
        user: Shown in the server's log; may be empty.
        seconds: How long the credentials can be used to begin with a relay.

    Returns:
        A dict with `urls`, `username` and `credential`.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: No secret, no URL, a colon in the user, or no time.
    """
    for name, text in (("secret", secret), ("user", user)):
        if not isinstance(text, str):
            raise TypeError(f"{name} must be a str, not {type(text).__name__}")
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise TypeError(f"seconds must be a whole number, not {type(seconds).__name__}")
    listed = [urls] if isinstance(urls, str) else list(urls)
    if not all(isinstance(url, str) for url in listed):
        raise TypeError("urls must be str")
    if not secret or not listed or ":" in user or seconds <= 0:
        raise ValueError("a TURN server needs a secret, a URL, a user without colon and some time")
    username = f"{int(time.time()) + seconds}" + (f":{user}" if user else "")
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return {"urls": listed, "username": username, "credential": base64.b64encode(digest).decode()}
