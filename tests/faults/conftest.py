"""Fixtures of the tests that inject faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.network import Network

#: Modules whose tests take less than a second each; all others wait for time-outs of real calls.
FAST_MODULES = ("test_limits", "test_lock_order", "test_readme_table", "test_secrets")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder as slow, except those of `FAST_MODULES`."""
    folder = Path(__file__).parent
    for item in items:
        if folder in item.path.parents and item.path.stem not in FAST_MODULES:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def network() -> Iterator[Network]:
    """Makes calls over networks of the test's own."""
    with Network() as made:
        yield made
