"""The interface between the engine and the connection that carries its signals."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

# Seconds the server has to answer a close when the program exits.
EXIT_SECONDS = 0.3


class SignalingListener(Protocol):
    """Receives the events of a transport; no method may block."""

    def on_ready(self, peer_id: str) -> None:
        """The server has admitted this client as `peer_id`; called before `open()` returns."""

    def on_disconnected(self) -> None:
        """A ready connection is lost; not called after a failed `open()` or after `close()`."""

    def on_error(self, error: Exception) -> None:
        """The server has reported an error on a ready connection."""

    def on_signal(self, message: dict[str, object]) -> None:
        """A signal has arrived; nothing is validated except that it is a mapping."""

    def on_join(self, room: str, peer_id: str, metadata: str | None) -> None:
        """A peer has entered a room that this client is in."""

    def on_peer_left(self, peer_id: str) -> None:
        """A peer that this client exchanged signals with has left and not reconnected."""

    def on_peer_returned(self, peer_id: str) -> None:
        """A peer that this client sent signals to has reconnected; some may have been lost."""


class SignalingTransport(Protocol):
    """Carries signals to and from a signaling server under one peer id."""

    id: str
    #: "disconnected", "connecting", "connected" or "ready".
    state: str

    async def open(self, listener: SignalingListener) -> None:
        """Connect, and return when ready; may be called again after a disconnect.

        Raises:
            IdTakenError: Another connection has the id.
            InvalidIdError: The server does not accept the id.
            SignalingError: The server cannot be reached, or refuses.
        """

    def send(self, message: dict[str, object]) -> asyncio.Future[bool | None]:
        """Send a signal, in order.

        Returns:
            True if it was delivered, False if the target is unknown, and None if the server does
            not report it or the signal was lost with the connection.
        """
        ...

    def join(self, room: str, metadata: str | None) -> None:
        """Enter a room, to be notified of the peers that enter later."""

    def check(self) -> None:
        """Check the connection after a possible change of the network.

        One that cannot continue is lost now rather than when its timeout expires.
        """

    async def close(self) -> None:
        """Disconnect, with nothing left running; may be called at any time, and repeatedly."""


async def leave(transport: SignalingTransport) -> None:
    """Close a transport when the program exits, without waiting long for the server."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(EXIT_SECONDS):
            await transport.close()
