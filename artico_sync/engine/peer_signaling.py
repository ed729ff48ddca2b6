"""What one call says to its peer through the signalling; loop thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from artico_sync.engine import wire
from artico_sync.engine.phase import CloseReason


class SignalSender(Protocol):
    """The client's way out to the signalling server; loop thread."""

    def send_signal(
        self, message: dict[str, object], told: Callable[[bool | None], None]
    ) -> None: ...
    def insist(self, message: dict[str, object]) -> None: ...


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
        self.peer_is_ours = False
        #: What a peer of ours is told that has not heard of the end.
        self.goodbye = wire.bye(CloseReason.HANGUP)
        self.said_bye = False

    def send(self, body: dict[str, Any], told: Callable[[bool | None], None]) -> None:
        """Send a signal; `told` hears whether it reached the peer, or None where nobody says."""
        self._sender.send_signal(self._addressed(body), told)

    def say_bye(self, reason: str, detail: str | None = None) -> None:
        """Tell a peer of ours, which still has the session: a JavaScript page would ring."""
        if self.peer_is_ours:
            self.said_bye = True
            self.goodbye = body = wire.bye(reason, detail)
            self._sender.insist(self._addressed(body))

    def say_ringing(self) -> None:
        """Tell a caller of ours that it reached one of ours, so that either can say goodbye."""
        if self.peer_is_ours:
            self.send(wire.ringing(), lambda delivered: None)

    def insist_ringing(self) -> None:
        """The same, again and again until it has heard."""
        if self.peer_is_ours:
            self._sender.insist(self._addressed(wire.ringing()))

    def _addressed(self, body: dict[str, Any]) -> dict[str, object]:
        return wire.build_message(self._target, self._session, self._metadata, body)
