"""The URL of a server as it is shown."""

from __future__ import annotations

import pytest

from artico_sync._bridge.signaling import shown_url


def test_a_shown_url_has_no_query() -> None:
    assert (
        shown_url("http://artico.example:9000/app?key=secret") == "http://artico.example:9000/app"
    )


def test_other_urls_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        shown_url("ftp://artico.example")
