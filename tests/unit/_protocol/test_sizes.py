"""Sizes of messages."""

from __future__ import annotations

import pytest

from artico_sync._protocol.sizes import OVERHEAD, footprint, message_size


@pytest.mark.parametrize(
    ("data", "size"), [("", 0), (b"", 0), ("abc", 3), (b"abc", 3), ("\xfc\U0001f600", 6)]
)
def test_sizes_are_those_on_the_wire(data: str | bytes, size: int) -> None:
    assert message_size(data) == size
    assert footprint(data) == size + OVERHEAD


def test_unpaired_surrogates_have_no_size() -> None:
    with pytest.raises(UnicodeEncodeError):
        message_size("\ud800")
    with pytest.raises(UnicodeEncodeError):
        footprint("\ud800")
