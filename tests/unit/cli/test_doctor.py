"""`artico-sync doctor`, with servers that work and servers that do not."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest

from artico_sync import ArticoServer
from artico_sync.cli import main
from artico_sync.cli.doctor import parse_stun_url, request_mapped_address
from tests.conftest import TIME_UNIT
from tests.ice_faults import StunServer, TurnServer, silent_server

TIMEOUT = 20.0 * TIME_UNIT


@contextmanager
def serving(*servers: Any) -> Iterator[None]:
    """Run servers of the ICE tests on an event loop of their own."""
    started = threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server)
            done = asyncio.Event()
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(done.set))
            started.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="ice-servers")
    thread.start()
    try:
        assert started.wait(TIMEOUT)
        yield
    finally:
        for function in stop:
            function()
        thread.join(TIMEOUT)


class Report:
    """The result of one run of the doctor."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        events = [json.loads(line) for line in text.splitlines()]
        self.checks = {e["name"]: e for e in events if e["event"] == "check"}
        self.ok = events[-1]["ok"]

    def states(self) -> list[str]:
        return [check["state"] for check in self.checks.values()]


Examine = Callable[..., Report]


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str]) -> Examine:
    def run(*arguments: str) -> Report:
        status = main(["doctor", "--json", *arguments])
        return Report(status, capsys.readouterr().out)

    return run


@pytest.mark.slow
def test_all_is_well(server: ArticoServer, examine: Examine) -> None:
    one, two = StunServer(("203.0.113.5", 4000)), StunServer(("203.0.113.5", 4000))
    turn = TurnServer()
    with serving(one, two, turn):
        report = examine(
            server.url,
            *("--ice-server", f"stun:127.0.0.1:{one.port}"),
            *("--ice-server", f"stun:127.0.0.1:{two.port}"),
            *("--ice-server", f"turn:127.0.0.1:{turn.port},user,password"),
        )
    assert (report.status, report.ok, report.states()) == (0, True, ["ok"] * 5)
    assert "203.0.113.5:4000" in report.checks["STUN"]["text"]
    assert "relay candidate" in list(report.checks.values())[-1]["text"]
    assert "says when a peer is not there" in report.checks["signalling"]["text"]


def test_a_symmetric_nat(server: ArticoServer, examine: Examine) -> None:
    one, two = StunServer(("203.0.113.5", 4000)), StunServer(("203.0.113.5", 4001))
    with serving(one, two):
        report = examine(
            server.url,
            *("--ice-server", f"stun:127.0.0.1:{one.port}"),
            *("--ice-server", f"stun:127.0.0.1:{two.port}"),
        )
    assert report.status == 1
    assert "TURN" in report.checks["STUN"]["advice"]


@pytest.mark.slow
def test_stun_and_turn_that_do_not_answer(
    server: ArticoServer, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("artico_sync.cli.doctor.STEP_SECONDS", 1.0 * TIME_UNIT)
    with silent_server() as port:
        report = examine(
            server.url,
            *("--ice-server", f"stun:127.0.0.1:{port}"),
            *("--ice-server", f"turn:127.0.0.1:{port},user,password"),
        )
    assert report.status == 1
    assert report.states() == ["ok", "ok", "ok", "failed", "failed"]
    assert all(c["advice"] for c in report.checks.values() if c["state"] == "failed")


def test_without_stun(server: ArticoServer, examine: Examine) -> None:
    report = examine("--url", server.url, "--no-stun")
    assert report.status == 0
    assert report.states() == ["ok", "ok", "ok", "skipped", "skipped"]


def test_for_people(server: ArticoServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", server.url, "--no-stun"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "ok", "ok", "-", "-", "Everything"]


def test_nothing_listens(examine: Examine) -> None:
    report = examine("http://127.0.0.1:9")
    assert (report.status, report.states()) == (3, ["failed"])
    assert "running" in report.checks["server"]["advice"]


def test_no_such_host(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*arguments: Any, **options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "create_connection", nowhere)
    report = examine("http://nowhere.invalid")
    assert (report.status, report.states()) == (3, ["failed"])
    assert "DNS" in report.checks["server"]["advice"]


def test_a_server_of_another_kind(examine: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection: socket.socket
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, name="other-server")
        thread.start()
        report = examine(f"http://127.0.0.1:{other.getsockname()[1]}")
        other.shutdown(socket.SHUT_RDWR)
    thread.join(TIMEOUT)
    assert (report.status, report.states()) == (3, ["ok", "failed"])


def test_a_server_that_wants_a_token(examine: Examine) -> None:
    with ArticoServer(port=0, auth=lambda token: token == "sesame") as server:
        assert examine(server.url, "--no-stun").status == 3
        assert examine(server.url, "--no-stun", "--token", "sesame").status == 0


class TestStun:
    """The STUN request and its responses."""

    @pytest.mark.parametrize(
        "url, address",
        [
            ("stun:stun.example", ("stun.example", 3478)),
            ("stun:stun.example:19302", ("stun.example", 19302)),
            ("stun:[2001:db8::1]:5", ("2001:db8::1", 5)),
        ],
    )
    def test_urls(self, url: str, address: tuple[str, int]) -> None:
        assert parse_stun_url(url) == address

    def test_not_a_url(self) -> None:
        with pytest.raises(ValueError):
            parse_stun_url("http://stun.example")

    def test_nonsense_is_passed_over(self) -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            server.bind(("127.0.0.1", 0))
            server.settimeout(TIMEOUT)

            def answer() -> None:
                request, address = server.recvfrom(2048)
                good = struct.pack("!HHI12s", 0x0101, 12, 0x2112A442, request[8:20])
                mapped = struct.pack("!HHBBH4s", 1, 8, 0, 1, 5000, bytes([192, 0, 2, 1]))
                wrong = struct.pack("!HHI12s", 0x0101, 12, 0x2112A442, bytes(12)) + mapped
                cut = struct.pack("!HHI12s", 0x0101, 400, 0x2112A442, request[8:20]) + mapped[:6]
                for data in (b"", b"x", wrong, cut, good + mapped):
                    server.sendto(data, address)

            thread = threading.Thread(target=answer, name="stun-answers")
            thread.start()
            found = request_mapped_address(client, server.getsockname(), TIMEOUT)
            thread.join(TIMEOUT)
        assert found == ("192.0.2.1", 5000)
