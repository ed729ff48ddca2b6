"""A cell that connects, run again: the client of the earlier run gives its id up."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from artico_sync import Artico, ArticoServer, IdTakenError
from tests.conftest import RTC_CONFIG


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The variables of a notebook, as IPython keeps them."""
    variables: dict[str, Any] = {}
    interactive = types.ModuleType("IPython")
    shell = types.SimpleNamespace(user_ns=variables)
    setattr(interactive, "get_ipython", lambda: shell)
    monkeypatch.setitem(sys.modules, "IPython", interactive)
    return variables


def test_running_the_cell_again(server: ArticoServer, cells: dict[str, Any]) -> None:
    for _ in range(3):
        cells["rtco"] = Artico(server.url, id="mine", rtc_config=RTC_CONFIG).connect()
    assert server.peers == ("mine",)
    cells["rtco"].close()


def test_clients_the_notebook_does_not_hold_keep_their_id(
    server: ArticoServer, cells: dict[str, Any]
) -> None:
    with Artico(server.url, id="mine", rtc_config=RTC_CONFIG):
        with pytest.raises(IdTakenError):
            Artico(server.url, id="mine", rtc_config=RTC_CONFIG).connect()


def test_another_server_is_another_matter(server: ArticoServer, cells: dict[str, Any]) -> None:
    with ArticoServer(port=0) as second:
        cells["one"] = Artico(server.url, id="mine", rtc_config=RTC_CONFIG).connect()
        cells["two"] = Artico(second.url, id="mine", rtc_config=RTC_CONFIG).connect()
        assert cells["one"].state == cells["two"].state == "ready"
        cells["one"].close()
        cells["two"].close()
