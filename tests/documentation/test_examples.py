"""The programs in examples/, run as they stand."""

from __future__ import annotations

import os
import pkgutil
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from artico_sync import ArticoServer
from tests.command_line import Command, running
from tests.conftest import TIME_UNIT, MakeArtico

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TIMEOUT = 20.0 * TIME_UNIT


def example(
    name: str, *arguments: str, server: ArticoServer | None = None
) -> AbstractContextManager[Command]:
    environment = {} if server is None else {"ARTICO_URL": server.url}
    return running([str(EXAMPLES / name), *arguments], environment=environment)


def test_echo_server_and_ask(server: ArticoServer) -> None:
    with example("echo_server.py", server=server) as echo:
        echo.out.wait_for("answering as echo")
        with example("ask.py", "echo", "how are you?", server=server) as ask:
            assert ask.wait() == 0, ask.err.all()
            assert ask.out.all() == ["how are you?"]
        echo.out.wait_for("a question")
        echo.out.wait_for("has gone")
        assert echo.interrupt()[0] == 0
        assert echo.err.all() == []


def test_ask_nobody_and_nothing(server: ArticoServer, make_artico: MakeArtico) -> None:
    make_artico("busy").on("call", lambda call: call.hangup())
    for peer, words in (("nobody", "is not there"), ("busy", "ended the call")):
        with example("ask.py", peer, "hm?", server=server) as ask:
            assert ask.wait() == 1
            assert words in ask.err.all()[0]
    with example("ask.py") as ask:
        assert ask.wait() == 1
        assert "ask.py PEER QUESTION" in ask.err.all()[0]


def test_chat_bot(server: ArticoServer, make_artico: MakeArtico) -> None:
    with example("chat_bot.py", server=server) as bot:
        bot.out.wait_for("the room is room")
        with make_artico().call("room", "Ann") as ann:
            assert ann.recv(TIMEOUT) == "Ann is here"
            with make_artico().call("room", "Ben") as ben:
                assert [ann.recv(TIMEOUT), ben.recv(TIMEOUT)] == ["Ben is here"] * 2
                ben.send("hello")
                assert [ann.recv(TIMEOUT), ben.recv(TIMEOUT)] == ["Ben: hello"] * 2
            assert ann.recv(TIMEOUT) == "Ben has left"


def test_send_and_receive_a_file(server: ArticoServer, tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    (tmp_path / "a.bin").write_bytes(content)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with example("receive_file.py", "inbox", str(inbox), server=server) as receive:
        receive.out.wait_for("waiting for a file")
        with example("send_file.py", "inbox", str(tmp_path / "a.bin"), server=server) as send:
            assert send.wait() == 0, send.err.all()
            assert send.out.all()[-1] == "the peer has it and has checked it"
        assert receive.wait() == 0, receive.err.all()
    assert (inbox / "a.bin").read_bytes() == content


def test_testing_a_program() -> None:
    with running(["-m", "unittest", str(EXAMPLES / "test_weather.py")]) as tests:
        assert tests.wait() == 0, tests.err.all()
        assert tests.err.all()[-1] == "OK"


def test_both_ends() -> None:
    with example("both_ends.py") as program:
        assert program.wait() == 0, program.err.all()
        assert program.out.all()[:2] == ["stressed -> desserts", "drawer -> reward"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_example_is_short_and_named(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    assert f"``{path.name}``" in (EXAMPLES / "README.rst").read_text(encoding="utf-8")


def test_each_folder_is_named() -> None:
    text = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        if path.is_dir() and path.name != "__pycache__":
            assert f"``{path.name}/" in text, path.name


def test_what_is_named_is_there() -> None:
    text = (EXAMPLES / "README.rst").read_text(encoding="utf-8")
    for name in re.findall(r"``(\w+\.py|\w+/[\w.]*)``", text):
        assert (EXAMPLES / name).exists(), name
    for name in re.findall(r"``help\(([\w.]+)\)``", text):
        thing: Any = pkgutil.resolve_name(
            name if name.startswith("artico_sync") else f"artico_sync:{name}"
        )
        assert thing.__doc__, name
