"""The states of a call, the reasons it ends with their errors, and the state machine."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable

from artico_sync._protocol.settings import Settings
from artico_sync.errors import (
    CallClosedError,
    CallRejectedError,
    ConnectionFailedError,
    PeerUnavailableError,
)

logger = logging.getLogger(__name__)


class CallState(enum.Enum):
    """The states of a call, in the order it passes through them."""

    CALLING = "calling"  # offered by this side, not answered yet
    RINGING = "ringing"  # offered by the peer, not answered yet
    CONNECTING = "connecting"  # answered, no open channel yet
    OPEN = "open"
    CLOSING = "closing"  # hung up by this side, which delivers what was sent
    CLOSED = "closed"


class CloseReason:
    """The values of `Call.close_reason`."""

    HANGUP = "hangup"
    REMOTE = "remote"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


#: The close reason for each reason in a bye message; for any other it is `REMOTE`.
BYE_REASONS = {
    CloseReason.REJECTED: CloseReason.REJECTED,
    CloseReason.FAILED: CloseReason.FAILED,
}

_ERRORS: dict[str, tuple[type[CallClosedError], str]] = {
    CloseReason.HANGUP: (CallClosedError, "The call was hung up on this side."),
    CloseReason.REMOTE: (CallClosedError, "The peer hung up."),
    CloseReason.REJECTED: (CallRejectedError, "The peer rejected the call."),
    CloseReason.UNAVAILABLE: (
        PeerUnavailableError,
        "The peer is not connected to the signaling server: check its id, or call again later.",
    ),
    CloseReason.FAILED: (
        ConnectionFailedError,
        "The connection to the peer was lost or could not be made: check the network between the"
        " two, and give a TURN server in rtc_config where firewalls are in the way.",
    ),
}


def closed_error(
    reason: str | None, detail: str | None, session: str, peer: str
) -> CallClosedError:
    """Return the error that says why a call is over.

    Args:
        detail: The reason in the peer's own words, if it gave one.
    """
    kind, text = _ERRORS.get(reason or "", (CallClosedError, "The call is closed."))
    if detail:
        text = f"{text.rstrip('.')}: {detail}"
    return kind(text, session=session, peer=peer)


class CallStateMachine:
    """The state of one call, and the timers that limit ringing and connecting.

    `enter` is the only place that changes the state.

    Args:
        initial: `CALLING` or `RINGING`; the ring timeout starts at once.
        name: The call's name in log lines.
        on_change: Called after each change.
        on_timeout: Called when the call has been ringing or connecting for too long.
    """

    def __init__(
        self,
        initial: CallState,
        name: str,
        settings: Settings,
        *,
        on_change: Callable[[], None],
        on_timeout: Callable[[], None],
    ) -> None:
        self.current = initial
        #: The close reason, known from `CLOSING` or `CLOSED` on, and its details in words.
        self.reason: str | None = None
        self.detail: str | None = None
        self._name = name
        self._connect_timeout = settings.connect_timeout
        self._on_change = on_change
        self._on_timeout = on_timeout
        self._timer: asyncio.TimerHandle | None = None
        if settings.ring_timeout is not None:
            self._start_timer(settings.ring_timeout)

    def enter(self, state: CallState, reason: str | None = None) -> None:
        """Change the state.

        Args:
            reason: The close reason, None to leave it unchanged.
        """
        logger.debug(
            "%s: %s -> %s%s",
            self._name,
            self.current.value,
            state.value,
            f" ({reason})" if reason else "",
        )
        self.current = state
        if reason is not None:
            self.reason = reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state is CallState.CONNECTING:
            self._start_timer(self._connect_timeout)
        self._on_change()

    def _start_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire, seconds)

    def _expire(self, seconds: float) -> None:
        self._timer = None
        logger.info("%s: still %s after %g s", self._name, self.current.value, seconds)
        self._on_timeout()
