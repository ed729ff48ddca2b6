"""What tests of programs that call need: signalling in memory, pairs, test cases, fake peers; user
threads.

- `connected_pair()`: two peers with an open call between them, in some 20 ms;
- `Hub`: signalling in memory for the peers of a test;
- `ArticoTestCase`: unittest with a server and peers, which fails when a handler raised or
  something is left running; `artico_sync.testing.pytest_plugin` has the same as fixtures;
- `FakePeer`, `FakeCall` and `scripts`: peers that answer late, reject, fall silent, send garbage.
"""

from __future__ import annotations

from artico_sync.testing import scripts
from artico_sync.testing.case import ArticoTestCase
from artico_sync.testing.fake_call import FakeCall, Script
from artico_sync.testing.fake_peer import FakePeer
from artico_sync.testing.hub import Hub
from artico_sync.testing.pair import ConnectedPair, connected_pair

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
