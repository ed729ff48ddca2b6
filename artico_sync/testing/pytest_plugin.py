"""Fixtures for pytest: a server, peers, and a look at what is left; test thread.

Nothing changes for who does not ask: name it in `conftest.py`::

    pytest_plugins = ["artico_sync.testing.pytest_plugin"]

A test that uses one of these fixtures fails when a handler raised an exception, or when a thread
or a UDP socket of this library is left after it. With `artico_checks` in `usefixtures` of the
configuration, every test does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from artico_sync.artico import Artico
from artico_sync.server.server import ArticoServer
from artico_sync.testing.checks import Checks
from artico_sync.testing.fake_peer import FakePeer
from artico_sync.testing.hub import Hub
from artico_sync.testing.pair import ConnectedPair, connect_pair
from artico_sync.testing.peers import Peers, TestClient

SETTLE_LIMIT = 3.0


@pytest.fixture
def artico_checks() -> Iterator[None]:
    """Fails the test when a handler raised, or something of this library is left running."""
    checks = Checks()
    checks.start()
    yield
    problems = checks.finish(SETTLE_LIMIT)
    if problems:
        pytest.fail(problems, pytrace=False)


@pytest.fixture
def artico_server(artico_checks: None) -> Iterator[ArticoServer]:
    """A signalling server on a free port of this machine."""
    with ArticoServer(port=0) as server:
        yield server


@pytest.fixture
def artico_hub(artico_checks: None) -> Iterator[Hub]:
    """Signalling in memory; closes the peers it made."""
    with Hub() as hub:
        yield hub


@pytest.fixture
def artico_pair(artico_hub: Hub) -> ConnectedPair:
    """Two peers with an open call between them."""
    return connect_pair(artico_hub.make_artico(), artico_hub.make_artico(), None, 10)


@pytest.fixture
def make_artico(artico_server: ArticoServer) -> Iterator[Callable[..., Artico]]:
    """Makes peers of `artico_server`: `make_artico(id=None, *, connect=True, **options)`."""
    peers = Peers()

    def make(id: str | None = None, *, connect: bool = True, **options: Any) -> Artico:
        if "signaling" not in options:
            options.setdefault("url", artico_server.url)
        rtco = TestClient(id=id, **options)
        peers.add(rtco)
        return rtco.connect() if connect else rtco

    yield make
    peers.close()


@pytest.fixture
def make_fake_peer(artico_server: ArticoServer) -> Iterator[Callable[..., FakePeer]]:
    """Makes fake peers on `artico_server`: `make_fake_peer(id=None, script=None)`."""
    peers = Peers()

    def make(id: str | None = None, script: Any = None) -> FakePeer:
        peer = FakePeer(artico_server, id, script)
        peers.add(peer)
        return peer.start()

    yield make
    peers.close()
