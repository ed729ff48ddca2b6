"""Tools for tests of programs that call: signaling in memory, pairs, test cases, fake peers.

- `connected_pair()`: two peers with an open call between them, in about 20 ms;
- `Hub`: signaling in memory for the peers of a test;
- `ArticoTestCase`: a unittest test case with a server and peers, which fails if a handler raised or
  something is left running; `artico_sync.testing.pytest_plugin` has the same as fixtures;
- `FakePeer`, `FakeCall` and `scripts`: peers that answer late, reject, go silent, send garbage.
"""

from __future__ import annotations

from artico_sync.testing import scripts
from artico_sync.testing.fake_call import FakeCall, Script
from artico_sync.testing.fixtures import (
    ArticoTestCase,
    ConnectedPair,
    Hub,
    connected_pair,
)
from artico_sync.testing.peers import FakePeer

__all__ = [
    "ArticoTestCase",
    "ConnectedPair",
    "FakeCall",
    "FakePeer",
    "Hub",
    "Script",
    "connected_pair",
    "scripts",
]
