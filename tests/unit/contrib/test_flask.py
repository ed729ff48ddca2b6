"""The Flask extension, and the example application under the servers it runs under."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from time import perf_counter
from types import ModuleType
from typing import Any

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    SignalingError,
)
from artico_sync.testing import FakePeer, Hub, scripts
from tests.conftest import TIME_UNIT
from tests.polling import wait_until
from tests.unit.contrib.web_process import REPOSITORY, WebProcess

flask = pytest.importorskip("flask")

from artico_sync.contrib.flask import ArticoExtension, current_artico  # noqa: E402

TIMEOUT = 10
RTC_CONFIG: dict[str, object] = {"iceServers": []}
EXAMPLE = REPOSITORY / "examples" / "flask_app"


# the extension


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def artico() -> ArticoExtension:
    return ArticoExtension()


@pytest.fixture
def app(hub: Hub, artico: ArticoExtension) -> Iterator[Any]:
    app = flask.Flask("tested")
    app.config["ARTICO_OPTIONS"] = {"signaling": hub.signaling("flask"), "rtc_config": RTC_CONFIG}
    app.config["ARTICO_RTC_CONFIG"] = RTC_CONFIG
    del app.config["ARTICO_OPTIONS"]["rtc_config"]
    artico.init_app(app)
    yield app
    artico.close(app)


def test_it_connects_when_first_asked_for(hub: Hub, artico: ArticoExtension, app: Any) -> None:
    assert list(hub.peers) == []
    with app.test_request_context():
        assert artico.client is artico.client
        assert current_artico.id == artico.client.id == "flask"
        assert isinstance(current_artico, Artico)
    assert list(hub.peers) == ["flask"]
    artico.close(app)
    assert list(hub.peers) == []


def test_it_can_be_connected_without_a_request(hub: Hub, artico: ArticoExtension, app: Any) -> None:
    assert artico.connect(app).state == "ready"
    assert list(hub.peers) == ["flask"]


def test_handlers_run_in_the_context_of_the_application(
    hub: Hub, artico: ArticoExtension, app: Any
) -> None:
    seen: list[Any] = []
    done = threading.Event()

    @artico.on("call")
    def incoming(call: Call, metadata: str | None) -> None:
        seen.extend((flask.current_app.name, metadata))
        call.answer()

    @artico.on("open")
    def ready() -> None:
        done.set()

    artico.connect(app)
    assert done.wait(TIMEOUT)
    with FakePeer(hub, "bob") as bob:
        bob.call("flask", metadata="hi").wait_open(TIMEOUT)
    assert seen == ["tested", "hi"]


def test_handlers_are_checked_before_anything_is_connected(artico: ArticoExtension) -> None:
    with pytest.raises(ValueError):
        artico.on("ring", lambda: None)
    with pytest.raises(TypeError):
        artico.on("open", lambda id, more: None)


def test_a_view_calls(hub: Hub, artico: ArticoExtension, app: Any) -> None:
    with FakePeer(hub, "bob"), app.test_request_context():
        with artico.calling("bob", "hi", timeout=TIMEOUT) as call:
            call.send("x")
            assert call.recv(TIMEOUT) == "x" and call.metadata == "hi"
        assert call.close_reason == "hangup"


def test_a_call_that_takes_too_long_is_cancelled(
    hub: Hub, artico: ArticoExtension, app: Any
) -> None:
    with FakePeer(hub, "bob", scripts.never_answers()) as bob, app.test_request_context():
        with pytest.raises(ArticoTimeoutError), artico.calling("bob", timeout=0.2):
            pytest.fail("it opened")
        bob.wait_for_call().wait_done(TIMEOUT)


def test_the_configuration_reaches_the_client(server: ArticoServer) -> None:
    app = flask.Flask("tested")
    app.config.update(
        ARTICO_URL=server.url,
        ARTICO_ID="shop-{pid}",
        ARTICO_RTC_CONFIG=RTC_CONFIG,
        ARTICO_OPTIONS={"silence_timeout": 2.0},
    )
    artico = ArticoExtension(app)
    rtco = artico.connect(app)
    assert re.fullmatch(r"shop-\d+", rtco.id) and server.peers == (rtco.id,)
    artico.close(app)


def test_two_applications_have_a_client_each(hub: Hub) -> None:
    artico = ArticoExtension()
    apps = [flask.Flask(name) for name in ("one", "two")]
    for app in apps:
        app.config["ARTICO_OPTIONS"] = {"signaling": hub.signaling(app.name)}
        artico.init_app(app)
        artico.connect(app)
    assert hub.peers == ("one", "two")
    for app in apps:
        artico.close(app)


def test_mistakes_are_explained(artico: ArticoExtension, app: Any) -> None:
    with pytest.raises(RuntimeError, match="already"):
        ArticoExtension(app)
    with pytest.raises(RuntimeError, match="init_app"):
        artico.connect(flask.Flask("other"))
    with pytest.raises(RuntimeError, match="context"):
        artico.client
    other = flask.Flask("other")
    other.config.update(ARTICO_URL="http://127.0.0.1:9", ARTICO_CONNECT_TIMEOUT=5.0)
    artico.init_app(other)
    with pytest.raises(SignalingError):
        artico.connect(other)


# the example


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("flask_example", EXAMPLE / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Flask finds the templates by it.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def peer_in(page: str) -> str:
    found = re.search(r'data-peer="([^"]+)"', page)
    assert found is not None, page
    return found.group(1)


@pytest.mark.slow
def test_the_example_answers_with_a_status_for_each_ending(
    example: ModuleType, server: ArticoServer
) -> None:
    app = example.create_app({"ARTICO_URL": server.url, "ARTICO_RTC_CONFIG": RTC_CONFIG})
    client = app.test_client()

    def ask(peer: str, timeout: float = 5) -> tuple[int, dict[str, str]]:
        values = {"peer": peer, "text": "how are you?", "timeout": timeout}
        response = client.post("/ask", json=values)
        return response.status_code, response.json

    with (
        FakePeer(server, "echo"),
        FakePeer(server, "busy", scripts.rejects()),
        FakePeer(server, "away", scripts.never_answers()) as away,
        FakePeer(server, "mute", lambda call: call.answer()) as mute,
    ):
        assert ask("echo") == (200, {"peer": "echo", "answer": "how are you?"})
        assert ask("busy")[0] == 409
        assert ask("nobody")[0] == 404
        start = perf_counter()
        status, answer = ask("away", 0.3)
        assert status == 504 and "Timed out" in answer["error"]
        assert perf_counter() - start < 2 * TIME_UNIT
        away.wait_for_call().wait_done(TIMEOUT)
        assert ask("mute", 0.3)[0] == 504
        mute.wait_for_call().call.wait_closed(TIMEOUT)
    server.stop()
    app.extensions["artico"].close(5)
    app.config["ARTICO_CONNECT_TIMEOUT"] = 10.0
    assert ask("echo")[0] == 503


def test_the_example_under_werkzeugs_server(example: ModuleType, server: ArticoServer) -> None:
    from werkzeug.serving import make_server

    app = example.create_app(
        {"ARTICO_URL": server.url, "ARTICO_RTC_CONFIG": RTC_CONFIG, "GREETING": "hi"}
    )
    web = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=web.serve_forever, name="web server")
    thread.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{web.port}/", timeout=TIMEOUT) as page:
            peer = peer_in(page.read().decode())
        assert server.peers == (peer,)
        with FakePeer(server, "bob") as bob:
            call = bob.call(peer)
            call.wait_open(TIMEOUT)
            call.send("hello")
            assert call.receive(TIMEOUT) == "hi: hello"
    finally:
        web.shutdown()
        thread.join(TIMEOUT)
        web.server_close()
        app.extensions["artico"].close(5)


@pytest.fixture
def gunicorn(server: ArticoServer) -> Iterator[WebProcess]:
    pytest.importorskip("gunicorn")
    command = ["-m", "gunicorn", "-c", "gunicorn.conf.py", "-b", "127.0.0.1:0"]
    with WebProcess(
        [*command, "--graceful-timeout", "10", "app:create_app()"],
        EXAMPLE,
        {"ARTICO_URL": server.url},
        r"Listening at: (http://[\d.]+:\d+)",
    ) as process:
        yield process


def workers(gunicorn: WebProcess) -> set[str]:
    """The ids of both workers."""
    found: set[str] = set()

    def both() -> bool:
        found.add(peer_in(gunicorn.get("/")))
        return len(found) == 2

    wait_until(both, "an answer of each worker", 20 * TIME_UNIT)
    return found


@pytest.mark.slow
def test_the_example_under_gunicorn(gunicorn: WebProcess, server: ArticoServer) -> None:
    peers = workers(gunicorn)
    assert set(server.peers) == peers
    with (
        FakePeer(server, "echo") as echo,
        FakePeer(server, "away", scripts.never_answers()) as away,
    ):
        for peer in peers:
            fake = echo.call(peer)
            fake.wait_open(TIMEOUT)
            fake.send("hello")
            assert fake.receive(TIMEOUT) == "Hello from Flask: hello"
        values = {"peer": "echo", "text": "x", "timeout": 5}
        assert gunicorn.post("/ask", values) == (200, {"peer": "echo", "answer": "x"})
        assert gunicorn.post("/ask", {"peer": "away", "text": "x", "timeout": 0.3})[0] == 504
        away.wait_for_call().wait_done(TIMEOUT)
        wait_until(lambda: sum(fake.call.open for fake in echo.calls) == 2, "the end of a call")
        open_calls = [fake for fake in echo.calls if fake.call.open]
        assert len(open_calls) == 2
        status, seconds = gunicorn.stop(signal.SIGTERM)
        assert status == 0 and seconds < 5 * TIME_UNIT, (seconds, gunicorn.output)
        for fake in open_calls:
            fake.call.wait_closed(TIMEOUT)
            assert fake.call.close_reason == "remote"
    wait_until(lambda: server.peers == (), "the workers to leave")
    assert "Traceback" not in gunicorn.output and "Warning" not in gunicorn.output


@pytest.mark.slow
def test_a_view_that_waits_is_finished_before_gunicorn_ends(
    gunicorn: WebProcess, server: ArticoServer
) -> None:
    answers: list[Any] = []
    with FakePeer(server, "slow", scripts.answers_late(1.0)) as slow:
        values = {"peer": "slow", "text": "x", "timeout": 10}
        asking = threading.Thread(target=lambda: answers.append(gunicorn.post("/ask", values)))
        asking.start()
        slow.wait_for_call(TIMEOUT)
        status, seconds = gunicorn.stop(signal.SIGTERM)
        asking.join(TIMEOUT)
    assert answers == [(200, {"peer": "slow", "answer": "x"})], gunicorn.output
    assert status == 0 and seconds < 8 * TIME_UNIT, (seconds, gunicorn.output)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_by_another_peer(
    gunicorn: WebProcess, server: ArticoServer
) -> None:
    before = workers(gunicorn)
    first = int(re.findall(r"Booting worker with pid: (\d+)", gunicorn.output)[0])
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: gunicorn.output.count("Booting worker") == 3, "another worker", 20)
    after = workers(gunicorn)
    assert len(before & after) == 1
    assert gunicorn.stop()[0] == 0
