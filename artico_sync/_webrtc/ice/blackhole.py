"""Has a connection fall silent without ending it, as a peer does that lost its network; for tests
of programs; loop thread."""

from __future__ import annotations

from typing import Any

from artico_sync._webrtc.ice.agent import IceAgent
from artico_sync._webrtc.ice.transport import IceTransport


def blackhole(transport: IceTransport) -> None:
    """Neither send nor hear anything any more, on every socket there is now."""
    for connection in (transport.agent, transport._next):
        if connection is not None:
            _cut(connection)


def _cut(connection: IceAgent) -> None:
    for protocol in connection.sockets:
        # On the objects themselves, so that whoever holds one of them meets the silence.
        setattr(protocol, "datagram_received", _discard)
        setattr(protocol.transport, "sendto", _discard)


def _discard(*arguments: Any) -> None:
    """Lose a datagram, on its way in or out."""
