"""What one call says to its peer through the signalling; loop thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from artico_sync._engine.call_state import CloseReason
from artico_sync._protocol import messages as wire

# Seconds before signals are sent again to a peer that has lost its server for a while.
RESEND_PAUSE = 0.5


class SignalSender(Protocol):
    """The client's way out to the signalling server; loop thread."""

    def send_signal(
        self, message: dict[str, object], told: Callable[[bool | None], None]
    ) -> None: ...
    def send_until_delivered(self, message: dict[str, object]) -> None: ...


class PeerSignaling:
    """Signals of one session, addressed to its peer.

    Args:
        sender: Who sends them.
        target: The peer's id.
        session: The session's id.
        metadata: The call's metadata, which goes with each signal.
    """

    def __init__(
        self, sender: SignalSender, target: str, session: str, metadata: str | None
    ) -> None:
        self._sender = sender
        self._target = target
        self._session = session
        self._metadata = metadata
        #: Whether artico_sync runs at the other end, as it has said itself.
        self.peer_is_artico_sync = False
        #: What a peer of ours is told that has not heard of the end.
        self.goodbye = wire.bye(CloseReason.HANGUP)
        self.said_bye = False
        self._undelivered: list[dict[str, Any]] = []
        self._resend_timer: asyncio.TimerHandle | None = None

    def send(self, body: dict[str, Any], told: Callable[[bool | None], None]) -> None:
        """Send a signal; `told` hears whether it reached the peer, or None where nobody says."""
        self._sender.send_signal(self._addressed(body), told)

    def send_bye(self, reason: str, detail: str | None = None) -> None:
        """Tell a peer of ours, which still has the session: a JavaScript page would ring."""
        if self.peer_is_artico_sync:
            self.said_bye = True
            self.goodbye = body = wire.bye(reason, detail)
            self._sender.send_until_delivered(self._addressed(body))

    def send_ringing(self) -> None:
        """Tell a caller of ours that it reached one of ours, so that either can say goodbye."""
        if self.peer_is_artico_sync:
            self._sender.send_until_delivered(self._addressed(wire.ringing()))

    def send_later(self, body: dict[str, Any], send: Callable[[dict[str, Any]], None]) -> None:
        """Have `send` called, in a while, with all that the peer was away for."""
        self._undelivered.append(body)
        if self._resend_timer is None:
            loop = asyncio.get_running_loop()
            self._resend_timer = loop.call_later(RESEND_PAUSE, self._resend, send)

    def _resend(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._resend_timer = None
        bodies, self._undelivered = self._undelivered, []
        for body in bodies:
            send(body)

    def close(self) -> None:
        """Send nothing later."""
        if self._resend_timer is not None:
            self._resend_timer.cancel()
            self._resend_timer = None

    def _addressed(self, body: dict[str, Any]) -> dict[str, object]:
        return wire.build_message(self._target, self._session, self._metadata, body)
