"""A cell that connects, run again: the client of the earlier run is closed and gives its id up."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from artico_sync import Artico, ArticoServer, IdTakenError
from tests.conftest import RTC_CONFIG
from tests.forking import forks, in_child


class Notebook:
    """Runs cells, with the parts of IPython's shell by which one is distinguished from another."""

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {"Artico": Artico, "RTC_CONFIG": RTC_CONFIG, "In": [""]}
        self.execution_count = 0
        self._parent: dict[str, Any] = {}

    def get_parent(self) -> dict[str, Any]:
        return self._parent

    def run(self, source: str, *, cell: str | None = None) -> None:
        """Run a cell; `cell`: the id its editor gives it."""
        self.execution_count += 1
        self._parent = {"metadata": {} if cell is None else {"cellId": cell}}
        self.user_ns["In"].append(source)
        exec(source, self.user_ns)

    def close(self) -> None:
        for value in list(self.user_ns.values()):
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, Artico):
                    each.close()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch, server: ArticoServer) -> Iterator[Notebook]:
    """A notebook that knows the server by `url`; what its variables hold is closed afterwards."""
    running = Notebook()
    running.user_ns["url"] = server.url
    interactive = types.ModuleType("IPython")
    setattr(interactive, "get_ipython", lambda: running)
    monkeypatch.setitem(sys.modules, "IPython", interactive)
    yield running
    running.close()


ONE_LINE = "rtco = Artico(url, id={id}, rtc_config=RTC_CONFIG).connect()"
# The variable is bound again before the new client connects: nothing holds the old one any more.
TWO_LINES = "rtco = Artico(url, id={id}, rtc_config=RTC_CONFIG)\nrtco.connect()"


@pytest.mark.slow
@pytest.mark.parametrize("source", [ONE_LINE, TWO_LINES])
@pytest.mark.parametrize("id", ["mine", None])
@pytest.mark.parametrize("cell", ["7b1e", None])
def test_running_the_cell_again(
    server: ArticoServer, notebook: Notebook, source: str, id: str | None, cell: str | None
) -> None:
    for _ in range(3):
        notebook.run(source.format(id=repr(id)), cell=cell)
    assert server.peers == (notebook.user_ns["rtco"].id,)


def test_running_the_cell_again_with_another_text(server: ArticoServer, notebook: Notebook) -> None:
    notebook.run(TWO_LINES.format(id=None), cell="7b1e")
    notebook.run(ONE_LINE.format(id="'mine'") + "  # as bob knows me", cell="7b1e")
    assert server.peers == ("mine",)


def test_one_cell_may_connect_several_clients(server: ArticoServer, notebook: Notebook) -> None:
    both = ONE_LINE.format(id="None") + "\n" + ONE_LINE.format(id="None").replace("rtco", "second")
    for _ in range(2):
        notebook.run(both)
        held = notebook.user_ns["rtco"].id, notebook.user_ns["second"].id
        assert sorted(server.peers) == sorted(held)


def test_clients_of_other_cells_stay(server: ArticoServer, notebook: Notebook) -> None:
    notebook.run(ONE_LINE.format(id="None"), cell="7b1e")
    notebook.run(ONE_LINE.format(id="None").replace("rtco", "second"), cell="99aa")
    assert len(server.peers) == 2


def test_clients_kept_in_a_list_stay(server: ArticoServer, notebook: Notebook) -> None:
    notebook.run("clients = []")
    for _ in range(2):
        notebook.run("clients.append(Artico(url, rtc_config=RTC_CONFIG).connect())")
    assert len(server.peers) == 2


def test_clients_the_notebook_does_not_hold_keep_their_id(
    server: ArticoServer, notebook: Notebook
) -> None:
    with Artico(server.url, id="mine", rtc_config=RTC_CONFIG):
        with pytest.raises(IdTakenError):
            notebook.run(ONE_LINE.format(id="'mine'"))


def test_another_server_is_another_matter(server: ArticoServer, notebook: Notebook) -> None:
    with ArticoServer(port=0) as second:
        notebook.user_ns["other"] = second.url
        notebook.run(ONE_LINE.format(id="'mine'"))
        source = ONE_LINE.format(id="'mine'").replace("url", "other").replace("rtco", "two")
        notebook.run(source)
        assert server.peers == second.peers == ("mine",)
        notebook.user_ns["two"].close()


@forks
def test_a_child_leaves_its_parents_clients_alone(server: ArticoServer, notebook: Notebook) -> None:
    notebook.run(ONE_LINE.format(id=None))
    other = notebook.user_ns["rtco"]

    def connects() -> bool:
        notebook.run(ONE_LINE.format(id=None))
        return bool(notebook.user_ns["rtco"].state == "ready" == other.state)

    assert in_child(connects)
    assert other.state == "ready"
