"""Django: the settings, the views, the command, and the example project under its servers."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    CallRejectedError,
    SignalingError,
)
from artico_sync.testing import FakePeer, Hub, scripts
from tests.conftest import TIME_UNIT
from tests.polling import wait_until
from tests.unit.contrib.web_process import REPOSITORY, WebProcess

pytest.importorskip("django")

import django  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.exceptions import ImproperlyConfigured  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.test import override_settings  # noqa: E402

if not settings.configured:
    settings.configure(INSTALLED_APPS=["artico_sync.contrib.django"], USE_TZ=True)
    django.setup()

from artico_sync.contrib.django import calling, get_artico  # noqa: E402
from artico_sync.contrib.django.answering import Answering  # noqa: E402
from artico_sync.contrib.django.apps import check_settings  # noqa: E402

TIMEOUT = 10
RTC_CONFIG: dict[str, object] = {"iceServers": []}
EXAMPLE = REPOSITORY / "examples" / "django_project"


# the settings


@pytest.fixture
def configured(server: ArticoServer) -> Iterator[dict[str, Any]]:
    values = {"URL": server.url, "RTC_CONFIG": RTC_CONFIG}
    with override_settings(ARTICO=values):
        yield values


def test_the_client_is_connected_when_first_asked_for(
    configured: object, server: ArticoServer
) -> None:
    assert list(server.peers) == []
    rtco = get_artico()
    assert get_artico() is rtco and list(server.peers) == [rtco.id]


def test_overriding_the_settings_makes_another_client(
    configured: dict[str, Any], server: ArticoServer
) -> None:
    first = get_artico()
    with override_settings(ARTICO={**configured, "ID": "shop-{pid}"}):
        assert get_artico().id == f"shop-{os.getpid()}"
        assert first.state == "disconnected"
        assert list(server.peers) == [get_artico().id]


def test_a_server_that_is_not_there() -> None:
    with override_settings(ARTICO={"URL": "http://127.0.0.1:9", "CONNECT_TIMEOUT": 5.0}):
        with pytest.raises(SignalingError):
            get_artico()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("http://localhost", "ARTICO must be a dict, not str"),
        ({"url": "http://localhost", "ID": None}, "unknown keys url; the keys are CONNECT_"),
        ({"URL": "ftp://localhost"}, "ARTICO cannot be used: "),
        ({"ID": 5}, "ARTICO cannot be used: "),
        ({"OPTIONS": {"colour": "red"}}, "colour"),
    ],
)
def test_settings_that_cannot_be_used(value: object, message: str) -> None:
    with override_settings(ARTICO=value):
        with pytest.raises(ImproperlyConfigured, match=re.escape(message)):
            get_artico()
        [problem] = check_settings(None)
        assert problem.id == "artico_sync.E001" and message in problem.msg


def test_no_setting_is_one_as_well() -> None:
    assert check_settings(None) == []


# calling


def test_a_view_calls(configured: object, server: ArticoServer) -> None:
    with FakePeer(server, "bob"), calling("bob", "hi", timeout=TIMEOUT) as call:
        call.send("x")
        assert call.recv(TIMEOUT) == "x" and call.metadata == "hi"
    assert call.close_reason in ("hangup", "remote")


def test_a_call_that_takes_too_long_is_cancelled(configured: object, server: ArticoServer) -> None:
    with FakePeer(server, "bob", scripts.never_answers()) as bob:
        with pytest.raises(ArticoTimeoutError), calling("bob", timeout=0.2):
            pytest.fail("it opened")
        bob.wait_for_call().wait_done(TIMEOUT)


# answering


def echo_once(call: Call) -> None:
    with call.answer():
        call.send(f"{call.recv(TIMEOUT)!s}!")
        call.wait_closed(TIMEOUT)


def echo_by_events(call: Call, metadata: str | None) -> None:
    call.on("data", lambda text: call.send(f"{metadata}: {text!s}"))
    call.answer()


def leave_it(call: Call) -> None:
    """Neither answers nor hangs up."""


def fail(call: Call) -> None:
    with call.answer():
        raise ZeroDivisionError


async def coroutine(call: Call) -> None:
    call.answer()


def takes_nothing() -> None:
    """No handler of calls."""


NOT_CALLABLE = 5


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


def serve(hub: Hub, handler: Any, most: int = 10) -> tuple[Artico, Answering]:
    rtco = hub.make_artico("support", connect=False)
    answering = Answering(rtco, handler, most)
    return rtco.connect(), answering


@pytest.mark.parametrize(
    ("handler", "answer"), [(echo_once, "hello!"), (echo_by_events, "hi: hello")]
)
def test_calls_are_served_at_the_same_time(hub: Hub, handler: Any, answer: str) -> None:
    rtco, answering = serve(hub, handler)
    calls = [hub.make_artico().call("support", "hi") for _ in range(3)]
    for call in calls:
        call.wait_open(TIMEOUT)
    for call in calls:
        call.send("hello")
    assert [call.recv(TIMEOUT) for call in calls] == [answer] * 3
    for call in calls:
        call.hangup()
    rtco.close()
    answering.join()


def test_a_call_left_ringing_is_rejected(hub: Hub) -> None:
    _, answering = serve(hub, leave_it)
    with pytest.raises(CallRejectedError):
        hub.make_artico().call("support").wait_open(TIMEOUT)
    answering.join()


def test_calls_beyond_the_limit_are_rejected(hub: Hub) -> None:
    rtco, answering = serve(hub, echo_by_events, 1)
    first = hub.make_artico().call("support").wait_open(TIMEOUT)
    with pytest.raises(CallRejectedError):
        hub.make_artico().call("support").wait_open(TIMEOUT)
    first.hangup()
    answering.join()
    with hub.make_artico().call("support"):
        rtco.close()
    answering.join()


@pytest.mark.logs_errors
def test_a_handler_that_fails_ends_its_call_only(hub: Hub, error_log: Any) -> None:
    _, answering = serve(hub, fail)
    for _ in range(2):
        call = hub.make_artico().call("support").wait_open(TIMEOUT)
        call.wait_closed(TIMEOUT)
    answering.join()
    assert sum("ZeroDivisionError" in text for text in error_log.errors) == 2


def test_a_caller_that_gives_up_ends_the_handler(hub: Hub) -> None:
    ringing = threading.Event()

    def slow(call: Call) -> None:
        ringing.set()
        call.wait_closed(TIMEOUT)
        with call.answer():
            pytest.fail("it opened")

    _, answering = serve(hub, slow)
    call = hub.make_artico().call("support")
    assert ringing.wait(TIMEOUT)
    call.hangup()
    answering.join()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.answer"], "There is no nowhere.answer"),
        (["tests.unit.contrib.test_django.missing"], "There is no tests"),
        (["tests.unit.contrib.test_django.NOT_CALLABLE"], "is not callable"),
        (["tests.unit.contrib.test_django.coroutine"], "coroutine function"),
        (["tests.unit.contrib.test_django.takes_nothing"], "must take the call"),
        (["tests.unit.contrib.test_django.leave_it", "--calls", "0"], "--calls must be 1 or more"),
    ],
)
def test_mistakes_of_the_command(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=re.escape(message)):
        call_command("artico_answer", *arguments)


def test_the_command_without_a_server() -> None:
    with override_settings(ARTICO={"URL": "http://127.0.0.1:9"}):
        with pytest.raises(CommandError):
            call_command(
                "artico_answer", "tests.unit.contrib.test_django.leave_it", stdout=io.StringIO()
            )


# the example, in processes of its own


@pytest.mark.slow
def test_the_tests_of_the_example() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "manage.py", "test"],
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0 and re.search(r"Ran [1-9]\d* tests", done.stderr), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_calls_until_it_is_asked_to_end(
    server: ArticoServer, number: int
) -> None:
    command = ["manage.py", "artico_answer", "calls.handlers.answer", "--id", "support"]
    with (
        FakePeer(server, "alice") as alice,
        WebProcess(
            command, EXAMPLE, {"ARTICO_URL": server.url}, r"Answering calls to (\w+)"
        ) as web,
    ):
        assert web.url == "support"
        fake = alice.call("support")
        fake.wait_open(TIMEOUT)
        fake.send("hello")
        assert fake.receive(TIMEOUT) == "You said: hello"
        with pytest.raises(CallRejectedError):
            alice.call("support", metadata="advertisement").call.wait_open(TIMEOUT)
        status, seconds = web.stop(number)
        assert (status, seconds < 5 * TIME_UNIT) == (0, True), web.output
        fake.call.wait_closed(TIMEOUT)
        assert fake.call.close_reason == "remote"
    assert web.output.endswith("Ended.\n") and "Traceback" not in web.output, web.output


def ask(web: WebProcess, peer: str, timeout: float = 10) -> tuple[int, dict[str, str]]:
    values = urllib.parse.urlencode({"peer": peer, "text": "x", "timeout": timeout}).encode()
    try:
        with urllib.request.urlopen(f"{web.url}/ask/", values, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def whoami(web: WebProcess) -> str:
    peer: str = json.loads(web.get("/"))["peer"]
    return peer


@pytest.mark.slow
def test_the_example_under_gunicorn(server: ArticoServer) -> None:
    pytest.importorskip("gunicorn")
    command = ["-m", "gunicorn", "-k", "gthread", "-w", "2", "--threads", "4", "--preload"]
    web = WebProcess(
        [*command, "-b", "127.0.0.1:0", "project.wsgi"],
        EXAMPLE,
        {"ARTICO_URL": server.url},
        r"Listening at: (http://[\d.]+:\d+)",
    )
    peers: set[str] = set()

    def both() -> bool:
        peers.add(whoami(web))
        return len(peers) == 2

    with (
        web,
        FakePeer(server, "echo"),
        FakePeer(server, "away", scripts.never_answers()) as away,
    ):
        assert not set(server.peers) - {"echo", "away"}
        wait_until(both, "an answer of each worker", 20 * TIME_UNIT)
        assert set(server.peers) == peers | {"echo", "away"}
        assert ask(web, "echo") == (200, {"peer": "echo", "answer": "x"})
        assert ask(web, "away", 0.3)[0] == 504
        away.wait_for_call().wait_done(TIMEOUT)
        status, seconds = web.stop()
        assert (status, seconds < 5 * TIME_UNIT) == (0, True), web.output
    wait_until(lambda: not server.peers, "the workers to leave")
    assert "Traceback" not in web.output and "Warning" not in web.output, web.output


@pytest.mark.slow
def test_the_example_under_runserver_which_reloads(server: ArticoServer, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    with WebProcess(
        ["manage.py", "runserver", "127.0.0.1:0"],
        project,
        # One that two processes could not both have.
        {"ARTICO_URL": server.url, "ARTICO_ID": "site"},
        r"Starting development server at (http://[\d.]+:\d+)",
    ) as web:
        assert list(server.peers) == []
        assert whoami(web) == "site" and list(server.peers) == ["site"]
        with FakePeer(server, "echo"):
            assert ask(web, "echo")[0] == 200
        before = web.output.count("Starting development server")
        views = project / "calls" / "views.py"
        changed = views.read_text(encoding="utf-8").replace(
            '"peer": get_artico', '"now": get_artico'
        )
        # The reloader looks at the time of the file, in whole seconds on some systems.
        views.write_text(changed, encoding="utf-8")
        wait_until(
            lambda: web.output.count("Starting development server") > before,
            "the reload",
            20 * TIME_UNIT,
        )
        port = re.findall(r"development server at (http://[\d.]+:\d+)", web.output)[-1]
        web.url = port
        assert json.loads(web.get("/")) == {"now": "site"}
        assert list(server.peers) == ["site"]
        status, _ = web.stop(signal.SIGINT)
        assert status == 0, web.output
    wait_until(lambda: not server.peers, "the site to leave")
    assert "Traceback" not in web.output, web.output
