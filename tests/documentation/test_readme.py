"""README.rst: it renders, its programs run as they stand, and what it names is there."""

from __future__ import annotations

import asyncio
import importlib
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import artico_sync
from artico_sync import Artico, ArticoError, ArticoServer, Call
from tests.command_line import Command, running
from tests.conftest import TIME_UNIT, MakeArtico
from tests.polling import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
ADDRESS = "http://localhost:9000"
TIMEOUT = 20.0 * TIME_UNIT
_BLOCK = re.compile(
    r"^\.\. test: (.+)\n\n\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE
)
BLOCKS = {name: textwrap.dedent(text) for name, language, text in _BLOCK.findall(README)}


def block(name: str, url: str) -> str:
    """A program of the README, with the test's server in place of its own."""
    return BLOCKS[name].replace(ADDRESS, url)


@pytest.fixture
def shouting(make_artico: MakeArtico) -> Artico:
    """A peer "bob" that answers in capitals."""
    bob = make_artico("bob")

    def incoming(call: Call) -> None:
        call.on("data", lambda text: call.send(text.upper()))
        call.answer()

    bob.on("call", incoming)
    return bob


RunBlock = Callable[[str], Command]


@pytest.fixture
def run_block(server: ArticoServer, tmp_path: Path) -> Iterator[RunBlock]:
    """Runs a program of the README in a process of its own."""
    contexts = []

    def run(name: str) -> Command:
        path = tmp_path / "program.py"
        path.write_text(block(name, server.url), encoding="utf-8")
        context = running(["-u", str(path)])
        contexts.append(context)
        return context.__enter__()

    yield run
    for context in contexts:
        context.__exit__(None, None, None)


def wait_for_peer(server: ArticoServer, id: str) -> None:
    wait_until(lambda: id in server.peers, f"{id} to be connected", TIMEOUT)


def test_each_python_program_is_tested() -> None:
    assert README.count(".. code-block:: python") == len(
        re.findall(r"\.\. test: .+\n\n\.\. code-block:: python", README)
    )
    assert set(BLOCKS) == {
        "place a call",
        "answer with callbacks",
        "answer without callbacks",
        "script",
        "notebook",
        "show and look",
        "play and record",
        "flask",
        "django",
        "unittest",
        "page",
    }


@pytest.mark.parametrize("name, output", [("place a call", "HOW ARE YOU?"), ("script", "STATUS?")])
def test_placing_a_call(run_block: RunBlock, shouting: Artico, name: str, output: str) -> None:
    program = run_block(name)
    assert program.wait() == 0, program.err.all()
    assert program.out.all() == [output]
    assert program.err.all() == []


def test_a_script_whose_peer_is_not_there(run_block: RunBlock) -> None:
    program = run_block("script")
    assert program.wait() == 1
    assert program.err.all() == ["bob is not there"]


def test_answering_with_callbacks(
    run_block: RunBlock, server: ArticoServer, make_artico: MakeArtico
) -> None:
    program = run_block("answer with callbacks")
    wait_for_peer(server, "bob")
    alice = make_artico()
    with alice.call("bob") as one, alice.call("bob") as two:
        one.send("one")
        two.send("two")
        assert (one.recv(TIMEOUT), two.recv(TIMEOUT)) == ("ONE", "TWO")
    program.interrupt(signal.SIGINT)


def test_answering_without_callbacks(
    run_block: RunBlock, server: ArticoServer, make_artico: MakeArtico
) -> None:
    program = run_block("answer without callbacks")
    wait_for_peer(server, "bob")
    with make_artico().call("bob") as call:
        call.send("one")
        assert call.recv(TIMEOUT) == "ONE"
    assert program.wait() == 0
    assert program.err.all() == []


def test_notebook(server: ArticoServer, shouting: Artico) -> None:
    async def cells() -> Any:
        # As in a notebook, the thread's own event loop is running.
        names: dict[str, Any] = {}
        exec(block("notebook", server.url), names)
        return names["rtco"].state

    assert asyncio.run(cells()) == "disconnected"


def test_flask(server: ArticoServer, shouting: Artico) -> None:
    pytest.importorskip("flask")
    names: dict[str, Any] = {"__name__": "readme_flask"}
    exec(block("flask", server.url), names)
    client = names["app"].test_client()
    try:
        assert client.get("/ask/bob?question=how").json == {"answer": "HOW"}
        assert client.get("/ask/nobody?question=how").status_code == 502
    finally:
        names["rtco"].close()


def test_django(server: ArticoServer, shouting: Artico) -> None:
    pytest.importorskip("django")
    settings = importlib.import_module("django.conf").settings
    RequestFactory = importlib.import_module("django.test").RequestFactory

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], DEFAULT_CHARSET="utf-8")
    names: dict[str, Any] = {}
    exec(block("django", server.url), names)
    request = RequestFactory().get("/ask", {"question": "how"})
    try:
        assert names["ask"](request, "bob").content == b'{"answer": "HOW"}'
        assert names["ask"](request, "nobody").status_code == 502
    finally:
        names["rtco"].close()


def test_unittest(run_block: RunBlock) -> None:
    program = run_block("unittest")
    assert program.wait() == 0, program.err.all()
    assert program.err.all()[-1] == "OK"


def test_it_renders() -> None:
    pytest.importorskip("docutils")
    command = [sys.executable, "-m", "docutils", "--report=1", "--halt=5", "--writer=html"]
    for name in ("README.rst", "CHANGES.rst", "examples/README.rst"):
        done = subprocess.run([*command, ROOT / name], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_errors_are_all_there() -> None:
    table = README[README.index("\nErrors\n") :]
    named = set(re.findall(r"\* - ``(\w+)``", table))
    public = {
        name
        for name in artico_sync.__all__
        if isinstance(thing := getattr(artico_sync, name), type) and issubclass(thing, ArticoError)
    }
    assert named == public - {"ArticoError", "CallError"}


def test_the_names_are_there() -> None:
    table = README[README.index("\nFrom JavaScript\n") : README.index("\nErrors\n")]
    for owner, name in re.findall(r"\b(rtco|call)\.([a-z_]+)\b", table.replace("@rtco.", "rtco.")):
        if (owner, name) == ("rtco", "join"):
            assert not hasattr(Artico, name)
        else:
            assert hasattr(Artico if owner == "rtco" else Call, name), name


def test_marks_of_the_check_are_there() -> None:
    for mark in ("main job", "tests"):
        assert f"\n.. .ci/run: {mark}\n\n.. code-block:: bash\n\n    python3" in README
