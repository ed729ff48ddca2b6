"""The table of the README names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_every_fault_has_its_test() -> None:
    text = (ROOT / "README.rst").read_text(encoding="utf-8")
    section = text.split("What happens when\n---", 1)[1].split("\n---", 1)[0]
    rows = section.split("   * - ")[2:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"``((?:\w+/)*test_\w+|fuzz)``", row.rsplit("\n     - ", 1)[1])
        assert named, row
        for name in named:
            places = (ROOT / "tests" / "faults", ROOT / "tests", ROOT)
            assert (
                any((place / f"{name}.py").exists() for place in places)
                or (ROOT / "tests" / name).is_dir()
            ), name
