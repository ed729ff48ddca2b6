"""The types users see, checked with mypy itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CASES = Path(__file__).with_name("typing_cases.py")


def test_handlers_are_checked_by_the_name_of_the_event(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    output, errors, _ = api.run(
        ["--strict", "--no-pretty", "--config-file=", f"--cache-dir={tmp_path}", str(CASES)]
    )
    assert not errors
    found = {int(line) for line in re.findall(r"typing_cases\.py:(\d+): error", output)}
    lines = CASES.read_text().splitlines()
    assert found == {n for n, text in enumerate(lines, 1) if text.endswith("# wrong")}, output
