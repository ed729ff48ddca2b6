"""The coverage-guided fuzzer for a moment; see `tests.fuzz.guided` for longer."""

from __future__ import annotations

import pytest

from tests.fuzz.guided import Target, fuzz, targets

pytestmark = pytest.mark.slow

SECONDS = 0.7


@pytest.mark.parametrize("name", targets())
def test_target(name: str) -> None:
    found = fuzz(targets()[name], SECONDS)
    assert found.wrong == []
    assert found.inputs and found.lines


def test_it_finds_faults() -> None:
    def faulty(data: bytes) -> None:
        if data[:1] == b"\xff":
            raise KeyError

    assert fuzz(Target(faulty, (b"x",)), 20).wrong
