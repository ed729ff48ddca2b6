"""The notebooks in examples/ run as they stand, and the library's behavior in a kernel.

The kernels are processes of their own; an event loop that ends with the test talks to them.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from artico_sync import ArticoServer, Call, MediaStream
from artico_sync.media import RemoteTrack
from tests.call_media import pictures, wait_for_color
from tests.conftest import TIME_UNIT, MakeArtico
from tests.media_content import BLUE
from tests.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 * TIME_UNIT)]

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "examples" / "notebooks"
LIMIT = 60.0 * TIME_UNIT
# The contract's 0.2 s, and the way from a signal to a kernel and back on a busy machine.
INTERRUPT_LIMIT = 2.0 * TIME_UNIT

NEGATIVE_OF_BLUE = (255 - BLUE[0], 255 - BLUE[1], 255 - BLUE[2])


def _module(name: str) -> Any:
    if os.environ.get("CI"):
        return importlib.import_module(name)
    return pytest.importorskip(name, reason=f"{name} is not installed")


nbclient = _module("nbclient")
nbformat = _module("nbformat")
_module("ipykernel")
_module("matplotlib")


class Kernel:
    """A running kernel, and the notebook its cells are added to."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def cells(self) -> list[Any]:
        """The cells so far."""
        cells: list[Any] = self._client.nb.cells
        return cells

    def start(self, source: str) -> tuple[Any, asyncio.Task[Any]]:
        """Start one more cell; return the cell, which collects its outputs, and the task."""
        cell = nbformat.v4.new_code_cell(source)
        self.cells.append(cell)
        execution = self._client.async_execute_cell(cell, len(self.cells) - 1)
        return cell, asyncio.create_task(execution)

    async def run(self, source: str) -> str:
        """Run one more cell; return its output."""
        cell, execution = self.start(source)
        await execution
        assert errors_of(cell) == []
        return printed(cell)

    async def run_all(self) -> None:
        """Run every cell there is, in order."""
        for number, cell in enumerate(self.cells):
            await self._client.async_execute_cell(cell, number)

    async def interrupt(self) -> None:
        """Interrupt the kernel, as the stop button does."""
        await self._client.km.interrupt_kernel()


@asynccontextmanager
async def kernel(
    folder: Path, environment: dict[str, str], notebook: Any = None
) -> AsyncIterator[Kernel]:
    """A kernel with settings of its own, shut down at the end."""
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook() if notebook is None else notebook,
        timeout=int(LIMIT),
        startup_timeout=int(LIMIT),
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    # Nothing is read from the user's settings, and nothing is written into them.
    settings = {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
    }
    async with client.async_setup_kernel(env={**os.environ, **settings, **environment}):
        yield Kernel(client)


async def executed(name: str, folder: Path, environment: dict[str, str]) -> list[Any]:
    """Run a notebook of the examples from top to bottom; return its code cells."""
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    async with kernel(folder, environment, notebook) as running:
        await running.run_all()
    codes = [cell for cell in running.cells if cell.cell_type == "code"]
    for cell in codes:
        assert errors_of(cell) == [], cell.source
        assert printed(cell, "stderr") == "", cell.source
    return codes


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """Run it on a loop that is closed afterwards."""

    async def bounded() -> Any:
        async with asyncio.timeout(1.5 * LIMIT):
            return await scenario

    return asyncio.run(bounded())


def errors_of(cell: Any) -> list[str]:
    """The names of the exceptions that ended the cell."""
    return [output.ename for output in cell.outputs if output.output_type == "error"]


def printed(cell: Any, name: str = "stdout") -> str:
    """Return the output of the cell to stdout and stderr."""
    return "".join(
        output.text
        for output in cell.outputs
        if output.output_type == "stream" and output.name == name
    )


def shown(cell: Any, kind: str = "text/html") -> list[str]:
    """Return the results of the cell that have such a representation."""
    return [
        output.data[kind]
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data") and kind in output.data
    ]


def cell_with(cells: list[Any], text: str) -> Any:
    """The one cell whose source contains `text`."""
    (found,) = [cell for cell in cells if text in cell.source]
    return found


@pytest.fixture
def environment(server: ArticoServer, make_artico: MakeArtico) -> dict[str, str]:
    """Environment variables with the server and a peer "echo" that replies in capitals."""

    def incoming(call: Call) -> None:
        call.on("data", lambda text: call.send(text.upper()))
        call.answer()

    make_artico("echo").on("call", incoming)
    return {"ARTICO_URL": server.url, "PEER": "echo"}


def test_chat(server: ArticoServer, environment: dict[str, str], tmp_path: Path) -> None:
    cells = run(executed("chat.ipynb", tmp_path, environment))
    assert printed(cell_with(cells, "call.recv")) == "echo: HELLO!\necho: HOW ARE YOU?\n"
    (client,) = shown(cell_with(cells, ".connect()"))
    assert "Artico notebook-chat" in client and "ready" in client
    (call,) = shown(cell_with(cells, "rtco.call("))
    assert "echo" in call and "open" in call
    (stats,) = shown(cell_with(cells, "call.stats()"))
    assert "round_trip_time" in stats
    assert server.peers == ("echo",)


def test_video(server: ArticoServer, make_artico: MakeArtico, tmp_path: Path) -> None:
    seen: list[RemoteTrack] = []

    def incoming(call: Call) -> None:
        call.add_stream(MediaStream([pictures(BLUE)], id="camera-1"), "camera")
        call.on("track", watch)
        call.answer()

    def watch(track: RemoteTrack) -> None:
        wait_for_color(track, NEGATIVE_OF_BLUE)
        seen.append(track)

    make_artico("camera").on("call", incoming)
    environment = {"ARTICO_URL": server.url, "PEER": "camera"}
    cells = run(executed("video.ipynb", tmp_path, environment))
    (stream,) = shown(cell_with(cells, 'wait_for("stream"'))
    assert "camera-1" in stream and "camera" in stream
    assert len(shown(cell_with(cells, 'wait_for("track"'), "image/png")) == 1
    live = [cell for cell in cells if "track.display(" in cell.source]
    assert [len(shown(cell, "image/jpeg")) for cell in live] == [1, 1]
    (processed,) = shown(cell_with(cells, "def negative"))
    assert "video" in processed
    assert len(shown(cell_with(cells, "snapshot()"), "image/png")) == 1
    assert [track.kind for track in seen] == ["video"]


def test_statistics(environment: dict[str, str], tmp_path: Path) -> None:
    cells = run(executed("statistics.ipynb", tmp_path, environment))
    said = printed(cell_with(cells, "stats_history"))
    assert int(said.split()[0]) >= 12
    assert "round_trip_time" in said and "bytes_sent" in said
    assert len(shown(cell_with(cells, "watch_stats"))) == 1
    assert len(shown(cell_with(cells, "subplots"), "image/png")) == 1


CONNECT = """
import os
from artico_sync import Artico
rtco = Artico(os.environ["ARTICO_URL"], id="cell", rtc_config={"iceServers": []}).connect()
"""
CALL = "call = rtco.call(os.environ['PEER']).wait_open(timeout=30)\n"
# Says so once the main thread has been seen in one of the library's waits.
WATCH = f"""
import sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
from tests.blocking import WAITING_MODULES, WaitWatch

def tell(watch):
    while not watch.is_blocked():
        time.sleep(0.01)
    print("waiting", flush=True)
"""
WAITING = """
with WaitWatch(*WAITING_MODULES) as watch:
    threading.Thread(target=tell, args=[watch]).start()
    {}
"""


def test_interrupting_a_cell_keeps_the_call(environment: dict[str, str], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with kernel(tmp_path, environment) as running:
            await running.run(CONNECT + CALL + WATCH)
            for wait in ("call.recv()", "rtco.wait_for('call')", "call.wait_closed()"):
                cell, execution = running.start(WAITING.format(wait))
                await until_printed(cell, "waiting")
                begun = monotonic()
                await running.interrupt()
                await execution
                assert monotonic() - begun < INTERRUPT_LIMIT
                assert errors_of(cell) == ["KeyboardInterrupt"]
                talk = "call.send('still there?'); print(call.recv(timeout=10))"
                assert await running.run(talk) == "STILL THERE?\n"
            assert await running.run("rtco.close(); print(rtco.state)") == "disconnected\n"

    run(scenario())


async def until_printed(cell: Any, text: str) -> None:
    """Wait until the cell has printed this."""
    while text not in printed(cell):
        await asyncio.sleep(0.005)


def test_the_cells_run_on_the_main_thread_beside_its_loop(
    environment: dict[str, str], tmp_path: Path
) -> None:
    where = "import asyncio, threading\nprint(asyncio.get_running_loop().is_running())\n"
    ask = "call.send('hello')\nprint(threading.current_thread().name, call.recv(timeout=10))\n"

    async def scenario() -> None:
        async with kernel(tmp_path, environment) as running:
            assert await running.run(CONNECT + CALL + where) == "True\n"
            assert await running.run(ask) == "MainThread HELLO\n"
            # A cell that awaits something of its own is a coroutine on that loop.
            assert await running.run(f"await asyncio.sleep(0)\n{ask}") == "MainThread HELLO\n"
            assert await running.run("rtco.close()") == ""

    run(scenario())


@pytest.mark.parametrize("id", ['id="cell", ', ""])
def test_running_the_cell_that_connects_again(
    server: ArticoServer, environment: dict[str, str], tmp_path: Path, id: str
) -> None:
    connect = CONNECT.replace('id="cell", ', id)

    async def scenario() -> None:
        async with kernel(tmp_path, environment) as running:
            for _ in range(3):
                own, state = (await running.run(connect + "print(rtco.id, rtco.state)")).split()
                assert (set(server.peers), state) == ({own, "echo"}, "ready")
            # The client the cell made last is one to call with.
            await running.run(CALL)
            ask = "call.send('hello'); print(call.recv(timeout=10), len(rtco.calls))"
            assert await running.run(ask) == "HELLO 1\n"
            # No `close()`: the kernel is shut down with the call open.

    run(scenario())
    wait_until(lambda: server.peers == ("echo",), "the kernel's client to go", LIMIT)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_each_notebook_is_valid_clean_and_named(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert f"``notebooks/{path.name}``" in (ROOT / "examples" / "README.rst").read_text("utf-8")
