"""What the engine asks of whatever carries its signals; loop thread."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

# Seconds the server gets to answer a goodbye at the exit of the program.
LEAVING_TIMEOUT = 0.3


class SignalingListener(Protocol):
    """Whom a transport tells what happened: `engine.client.Client`. None may block."""

    def on_ready(self, peer_id: str) -> None:
        """The server knows us as `peer_id`; comes before `open()` returns."""

    def on_disconnected(self) -> None:
        """A ready connection is lost. Never after a failed `open()` or our own `close()`."""

    def on_error(self, error: Exception) -> None:
        """The server complained about something while we were ready."""

    def on_signal(self, message: dict[str, object]) -> None:
        """A signal came; raw: nothing of it has been validated but that it is a mapping."""

    def on_join(self, room: str, peer_id: str, metadata: str | None) -> None:
        """A peer came into a room we are in."""

    def on_peer_left(self, peer_id: str) -> None:
        """A peer we exchanged signals with has left the server and not come back."""

    def on_peer_returned(self, peer_id: str) -> None:
        """A peer we sent signals to has lost the server and come back; some may have been lost."""


class SignalingTransport(Protocol):
    """Carries signals to and from a signalling server under one peer id."""

    id: str
    #: "disconnected", "connecting", "connected" or "ready".
    state: str

    async def open(self, listener: SignalingListener) -> None:
        """Connect, and return when ready. May be called again after a disconnect.

        Raises:
            IdTakenError: Another connection holds the id.
            InvalidIdError: The server does not accept the id.
            SignalingError: The server cannot be reached, or refuses.
        """

    def send(self, message: dict[str, object]) -> asyncio.Future[bool | None]:
        """Send a signal, in order.

        Returns:
            True: it was delivered. False: the target is unknown. None: nobody says, or it was lost
            with the connection.
        """
        ...

    def join(self, room: str, metadata: str | None) -> None:
        """Enter a room, and be told of those who come later."""

    def check(self) -> None:
        """The network may have changed: a connection that cannot go on is lost now, rather than
        when the server has been silent for long."""

    async def close(self) -> None:
        """Disconnect; nothing is left running. May be called at any time, and twice."""


async def leave(transport: SignalingTransport) -> None:
    """Close a transport at the exit of the program, which waits little for a server that hangs."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LEAVING_TIMEOUT):
            await transport.close()
