"""TURN credentials made from a shared secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import pytest

from artico_sync import Artico
from artico_sync.turn import turn_server


def test_credentials_as_coturn_checks_them() -> None:
    before = int(time.time())
    server = turn_server(["turn:a.example", "turns:a.example?transport=tcp"], "s3cret", user="u")
    expires, _, user = server["username"].partition(":")
    assert before + 86400 <= int(expires) <= int(time.time()) + 86400 and user == "u"
    expected = hmac.new(b"s3cret", server["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(server["credential"]) == expected
    Artico("http://localhost:1", rtc_config={"iceServers": [server]})


def test_without_a_user() -> None:
    assert turn_server("turn:a.example", "s", seconds=60)["username"].isdigit()


@pytest.mark.parametrize(
    ("urls", "secret", "options", "error"),
    [
        ("turn:a", "", {}, ValueError),
        ([], "s", {}, ValueError),
        ("turn:a", "s", {"user": "a:b"}, ValueError),
        ("turn:a", "s", {"seconds": 0}, ValueError),
        ("turn:a", "s", {"seconds": 1.5}, TypeError),
        ("turn:a", b"s", {}, TypeError),
        ([5], "s", {}, TypeError),
    ],
)
def test_bad_arguments_are_refused(
    urls: Any, secret: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        turn_server(urls, secret, **options)
