"""Fixtures of the tests that inject faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.network import Network


@pytest.fixture
def network() -> Iterator[Network]:
    """Makes calls over networks of the test's own."""
    with Network() as made:
        yield made
