"""The exceptions of artico_sync, shared by the facade, the bridge and the engine.

The tree::

    ArticoError
    +-- SignalingError
    |   +-- NotReadyError            no signalling connection yet, or lost just now
    |   +-- IdTakenError             another peer holds the wanted id
    |   +-- InvalidIdError           the server does not accept the id
    +-- CallError
    |   +-- NotOpenError             the call is not open yet
    |   +-- CallClosedError          the call is over
    |   |   +-- PeerUnavailableError     the target is not connected to the server
    |   |   +-- CallRejectedError        the peer declined
    |   |   +-- ConnectionFailedError    no path to the peer, or the path was lost
    |   +-- InvalidStateError        not possible in the state the call is in
    |   +-- MessageTooLargeError     also a ValueError
    +-- MediaError
    +-- ArticoTimeoutError           also a TimeoutError
    +-- ForkError                    also a RuntimeError
"""

from __future__ import annotations


class ArticoError(Exception):
    """Root of everything this library raises on purpose.

    Args:
        message: What happened and what to do next.
        session: The session id of the call concerned, if there is one.
        peer: The other peer's id, if there is one.
    """

    def __init__(
        self, message: str = "", *, session: str | None = None, peer: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.session = session
        self.peer = peer

    def __str__(self) -> str:
        details = [
            f"{name} {value}"
            for name, value in (("session", self.session), ("peer", self.peer))
            if value is not None
        ]
        return f"{self.message} ({', '.join(details)})" if details else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message,), {"session": self.session, "peer": self.peer}


class SignalingError(ArticoError):
    """The signalling server cannot be reached, or refuses."""


class NotReadyError(SignalingError):
    """Signalling is not ready: call `Artico.connect()` first, or wait for the next `open`."""


class IdTakenError(SignalingError):
    """Another peer is connected with the wanted id."""


class InvalidIdError(SignalingError):
    """The signalling server does not accept the wanted id."""


class CallError(ArticoError):
    """Something about one call."""


class NotOpenError(CallError):
    """The call is not open yet: `Call.wait_open()` first."""


class CallClosedError(CallError):
    """The call is over."""


class PeerUnavailableError(CallClosedError):
    """The target is not connected to the signalling server."""


class CallRejectedError(CallClosedError):
    """The peer declined the call."""


class ConnectionFailedError(CallClosedError):
    """No network path to the peer was found, or the one in use was lost."""


class InvalidStateError(CallError):
    """The call is not in a state in which this can be done."""


class MessageTooLargeError(CallError, ValueError):
    """The message is larger than the peer accepts; nothing was sent."""


class MediaError(ArticoError):
    """A media source, track or recording failed."""


class ArticoTimeoutError(ArticoError, TimeoutError):
    """The time given to a wait ran out."""


class ForkError(ArticoError, RuntimeError):
    """A connected object was used in a forked child process."""
