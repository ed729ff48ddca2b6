"""Tests of calls without any fast path, and on uvloop.

They run in a process of their own, because the environment chooses both once per process.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from artico_sync._protocol.settings import Settings
from tests.browser.chromium import find_chromium
from tests.browser.repetitions import BRIEF_VARIABLE
from tests.conftest import TIME_UNIT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LIMIT = 480

WAYS = {
    "plain": {"ARTICO_SYNC_ACCELERATE": "0"},
    "uvloop": {"ARTICO_SYNC_LOOP": "uvloop"},
    "plain uvloop": {"ARTICO_SYNC_ACCELERATE": "0", "ARTICO_SYNC_LOOP": "uvloop"},
}

INTEROP = sorted(str(path) for path in (ROOT / "tests" / "browser").glob("test_*.py"))
#: The browser suite in parts, which are run side by side where there are processes for it.
PARTS = 6
# The headless build takes a quarter less time; the suite itself runs with the full browser.
HEADLESS_SHELL = shutil.which("chromium-headless-shell")


def run_suite(way: str, *paths: str) -> None:
    """Run test modules in one of the ways; fail if one of them fails."""
    if "ARTICO_SYNC_LOOP" in WAYS[way] and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *paths]
    # A run of its own, even where this one is divided among several processes.
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
    }
    if HEADLESS_SHELL is not None:
        inherited.setdefault("ARTICO_SYNC_CHROMIUM", HEADLESS_SHELL)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={
            **inherited,
            **WAYS[way],
            BRIEF_VARIABLE: "1",
            "ARTICO_SYNC_TEST_TIME_UNIT": f"{TIME_UNIT:g}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("value, wanted", [("0", False), ("1", True), (None, True)])
def test_the_environment_turns_fast_paths_off(
    monkeypatch: pytest.MonkeyPatch, value: str | None, wanted: bool
) -> None:
    if value is None:
        monkeypatch.delenv("ARTICO_SYNC_ACCELERATE", raising=False)
    else:
        monkeypatch.setenv("ARTICO_SYNC_ACCELERATE", value)
    assert Settings().accelerate is wanted
    assert Settings(accelerate=False).accelerate is False


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("way", WAYS)
def test_calls(way: str) -> None:
    run_suite(way, "tests/calls/test_call.py")


@pytest.mark.browser
@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("way", ["plain", "uvloop"])
def test_calls_with_a_browser(way: str, part: int) -> None:
    if find_chromium() is None or shutil.which("npm") is None:
        pytest.skip("Chromium or npm is not installed")
    run_suite(way, *INTEROP[part::PARTS])
