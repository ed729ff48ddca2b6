"""Fixtures for the tests of file transfer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.files.harness import ReceiverHarness


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """An empty folder to receive into."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def receiving(inbox: Path) -> Iterator[ReceiverHarness]:
    """A receiver on a fake call."""
    harness = ReceiverHarness(inbox)
    yield harness
    harness.receiver.close()
