"""Tests of the fixtures for pytest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

TIMEOUT = 10


PYTEST_FILE = """
    pytest_plugins = ["artico_sync.testing.pytest_plugin"]

    def test_pair(artico_pair):
        artico_pair.call.send("x")
        assert artico_pair.incoming.recv(timeout=10) == "x"

    def test_fake(make_artico, make_fake_peer):
        make_fake_peer("bob")
        with make_artico("alice").call("bob") as call:
            call.send("x")
            assert call.recv(timeout=10) == "x"

    def test_hub_and_server(artico_hub, artico_server):
        artico_hub.make_artico("alice")
        assert artico_hub.peers == ("alice",) and artico_server.peers == ()

    def test_raises(artico_pair):
        def handler(text):
            raise ZeroDivisionError
        artico_pair.incoming.on("data", handler)
        artico_pair.call.send("x")
        artico_pair.call.hangup()
        artico_pair.incoming.wait_closed()
"""


@pytest.mark.slow
def test_fixtures_for_pytest(tmp_path: Path) -> None:
    path = tmp_path / "test_program.py"
    path.write_text(textwrap.dedent(PYTEST_FILE), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", str(path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=50,
    )
    # The exception is reported at the end of the test, when the test itself has passed.
    assert "4 passed, 1 error" in done.stdout, done.stdout
    assert "exception in the handler of 'data'" in done.stdout
