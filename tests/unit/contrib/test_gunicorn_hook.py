"""The gunicorn configuration in the docstrings of the Flask extension, run as it stands."""

from __future__ import annotations

import inspect
import json
import re
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pytest

from artico_sync import ArticoServer
from artico_sync.testing import FakePeer
from tests.conftest import TIME_UNIT, MakeArtico
from tests.polling import wait_until
from tests.unit.contrib.web_process import WebProcess

pytest.importorskip("flask")
pytest.importorskip("gunicorn")

import artico_sync.contrib.flask  # noqa: E402
from artico_sync.contrib.flask import ArticoExtension  # noqa: E402

pytestmark = pytest.mark.slow

TIMEOUT = 10 * TIME_UNIT
URL = "http://localhost:9000"
COMMAND = ["-m", "gunicorn", "-c", "gunicorn.conf.py", "--preload", "-k", "gthread", "-w", "2"]
ARGUMENTS = ["--threads", "4", "-b", "127.0.0.1:0", "app:create_app()"]

RunApp = Callable[[str, str], WebProcess]


def block(thing: object) -> str:
    """The program in a docstring: what is indented below its "::"."""
    docstring = inspect.getdoc(thing)
    assert docstring is not None
    found = re.search(r"::\n\n((?:(?: {4,}.*)?\n)+)", docstring)
    assert found is not None, docstring
    return textwrap.dedent(found.group(1))


@pytest.fixture
def run_app(tmp_path: Path) -> RunApp:
    """The application of the module's docstring with the hook of `connect`'s, to be entered."""

    def run(url: str, listening: str) -> WebProcess:
        app = block(artico_sync.contrib.flask)
        assert URL in app
        # Nothing outside this machine is asked.
        here = f'{url}"\n    app.config["ARTICO_RTC_CONFIG"] = {{"iceServers": []}}'
        (tmp_path / "app.py").write_text(app.replace(f'{URL}"', here), encoding="utf-8")
        hook = block(ArticoExtension.connect)
        (tmp_path / "gunicorn.conf.py").write_text(hook, encoding="utf-8")
        return WebProcess([*COMMAND, *ARGUMENTS], tmp_path, {}, listening)

    return run


def test_workers_answer_calls_from_their_start_and_leave_on_sigterm(
    run_app: RunApp, server: ArticoServer, make_artico: MakeArtico
) -> None:
    caller = make_artico()
    with run_app(server.url, r"Listening at: (http://[\d.]+:\d+)") as gunicorn:
        # No request has come: the hook connects them, each with an id of its own.
        wait_until(lambda: len(server.peers) == 3, "both workers to connect", TIMEOUT)
        workers = [peer for peer in server.peers if peer != caller.id]
        calls = [caller.call(worker).wait_open(TIMEOUT) for worker in workers]
        for call in calls:
            call.send("hello")
            assert call.recv(TIMEOUT) == "HELLO"
        with FakePeer(server, "echo"):
            assert json.loads(gunicorn.get("/greet/echo")) == {"answer": "hello"}
        begun = perf_counter()
        status, _ = gunicorn.stop(signal.SIGTERM)
        assert status == 0, gunicorn.output
        for call in calls:
            call.wait_closed(TIMEOUT)
            assert call.close_reason == "remote"
        assert perf_counter() - begun < 5 * TIME_UNIT
    wait_until(lambda: server.peers == (caller.id,), "the workers to leave", TIMEOUT)
    assert "Traceback" not in gunicorn.output and "Warning" not in gunicorn.output


def test_without_a_signaling_server_gunicorn_ends_and_says_why(run_app: RunApp) -> None:
    with run_app("http://127.0.0.1:9", r"Listening at: (http://[\d.]+:\d+)") as gunicorn:
        # 3 says that a worker did not start; 1, that the other failed while gunicorn was ending.
        assert gunicorn.wait() in (1, 3), gunicorn.output
    assert "artico_sync.errors.SignalingError" in gunicorn.output
