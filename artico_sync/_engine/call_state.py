"""The phases of a call and the reasons it ends, with the error for each; plain values, any
thread."""

from __future__ import annotations

import enum

from artico_sync.errors import (
    CallClosedError,
    CallRejectedError,
    ConnectionFailedError,
    PeerUnavailableError,
)


class CallState(enum.Enum):
    """Where a call is in its life."""

    CALLING = "calling"  # we offered, nobody answered yet
    RINGING = "ringing"  # they offered, we have not answered yet
    CONNECTING = "connecting"  # answered, no open channel yet
    OPEN = "open"
    CLOSING = "closing"  # we hang up: what was sent is being delivered
    CLOSED = "closed"


class CloseReason:
    """The values of `Call.close_reason`."""

    HANGUP = "hangup"
    REMOTE = "remote"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


#: What we tell a peer of ours when a call ends before its channel could say so, and how it takes
# it.
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
        "The peer is not connected to the signalling server: check its id, or call again later.",
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
    """The error that tells why a call is over, with the peer's own words where it gave some."""
    kind, text = _ERRORS.get(reason or "", (CallClosedError, "The call is closed."))
    if detail:
        text = f"{text.rstrip('.')}: {detail}"
    return kind(text, session=session, peer=peer)
