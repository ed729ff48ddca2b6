"""Fixtures for pytest: a signaling server, peers, and checks for leaks.

They have no effect on tests that do not use them. Name the plugin in `conftest.py`::

    pytest_plugins = ["artico_sync.testing.pytest_plugin"]

A test that uses one of these fixtures fails if a handler raised an exception, or if a thread or a
UDP socket of this library is left running. `artico_checks` in the `usefixtures` setting applies
this to every test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from artico_sync.artico import Artico
from artico_sync.server.server import ArticoServer
from artico_sync.testing.fixtures import ConnectedPair, Hub, connect_pair
from artico_sync.testing.leaks import TestChecks
from artico_sync.testing.peers import ClosingStack, FakePeer

#: Seconds for threads and sockets to end by themselves after a test.
SETTLE_SECONDS = 3.0
#: Seconds for the call of a pair to open.
OPEN_SECONDS = 10.0


@pytest.fixture
def artico_checks() -> Iterator[None]:
    """Fail the test if a handler raised, or something of this library is left running."""
    checks = TestChecks()
    checks.start()
    yield
    problems = checks.finish(SETTLE_SECONDS)
    if problems:
        pytest.fail(problems, pytrace=False)


@pytest.fixture
def artico_server(artico_checks: None) -> Iterator[ArticoServer]:
    """A signaling server on a free port of this machine."""
    with ArticoServer(port=0) as server:
        yield server


@pytest.fixture
def artico_hub(artico_checks: None) -> Iterator[Hub]:
    """Signaling in memory; closes the peers it made."""
    with Hub() as hub:
        yield hub


@pytest.fixture
def artico_pair(artico_hub: Hub) -> ConnectedPair:
    """Two peers with an open call between them."""
    return connect_pair(artico_hub.make_artico(), artico_hub.make_artico(), None, OPEN_SECONDS)


@pytest.fixture
def make_artico(artico_server: ArticoServer) -> Iterator[Callable[..., Artico]]:
    """Make peers of `artico_server`: `make_artico(id=None, *, connect=True, **options)`."""
    peers = ClosingStack()

    def make(id: str | None = None, *, connect: bool = True, **options: Any) -> Artico:
        if "signaling" not in options:
            options.setdefault("url", artico_server.url)
        return peers.make_client(connect=connect, id=id, **options)

    yield make
    peers.close()


@pytest.fixture
def make_fake_peer(artico_server: ArticoServer) -> Iterator[Callable[..., FakePeer]]:
    """Make fake peers on `artico_server`: `make_fake_peer(id=None, script=None)`."""
    peers = ClosingStack()

    def make(id: str | None = None, script: Any = None) -> FakePeer:
        peer = FakePeer(artico_server, id, script)
        peers.add(peer)
        return peer.start()

    yield make
    peers.close()
