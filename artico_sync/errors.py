"""The exceptions of artico_sync, shared by the facade, the bridge and the engine.

The tree::

    ArticoError
    +-- SignalingError
    |   +-- NotReadyError            no signaling connection yet, or it was just lost
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
    """Base class of all exceptions of this library.

    Example:
        >>> try:
        ...     rtco.call("nobody").wait_open(timeout=5)
        ... except ArticoError as error:
        ...     type(error).__name__, error.peer
        ('PeerUnavailableError', 'nobody')

    Args:
        message: The event and the next step to take; an attribute, as the others.
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
    """The signaling server cannot be reached, or refuses.

    Example:
        >>> Artico("http://127.0.0.1:9").connect()
        Traceback (most recent call last):
        artico_sync.errors.SignalingError: ...
    """


class NotReadyError(SignalingError):
    """Signaling is not ready: call `Artico.connect()` first, or wait for the next `open`.

    Example:
        >>> Artico(server.url).call("bob")
        Traceback (most recent call last):
        artico_sync.errors.NotReadyError: ...
    """


class IdTakenError(SignalingError):
    """Another peer is connected with the wanted id.

    Example:
        >>> Artico(server.url, id="bob").connect()
        Traceback (most recent call last):
        artico_sync.errors.IdTakenError: ...
    """


class InvalidIdError(SignalingError):
    """The signaling server does not accept the wanted id.

    Example:
        >>> Artico(server.url, id="bob\\n").connect()
        Traceback (most recent call last):
        artico_sync.errors.InvalidIdError: ...
    """


class CallError(ArticoError):
    """Base class of the exceptions about one call.

    Example:
        >>> try:
        ...     call.answer()
        ... except CallError as error:
        ...     error.session == call.session
        True
    """


class NotOpenError(CallError):
    """The call is not open yet: `Call.wait_open()` first.

    Example:
        >>> carol = Artico(server.url, id="carol").connect()    # lets it ring
        >>> rtco.call("carol").send("too early")
        Traceback (most recent call last):
        artico_sync.errors.NotOpenError: ...
    """


class CallClosedError(CallError):
    """The call is over.

    Example:
        >>> call.hangup()
        >>> call.send("too late")
        Traceback (most recent call last):
        artico_sync.errors.CallClosedError: ...
    """


class PeerUnavailableError(CallClosedError):
    """The target is not connected to the signaling server.

    Example:
        >>> rtco.call("nobody").wait_open(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.PeerUnavailableError: ...
    """


class CallRejectedError(CallClosedError):
    """The peer declined the call.

    Example:
        >>> carol = Artico(server.url, id="carol").connect()
        >>> ringing = rtco.call("carol")
        >>> carol.wait_for("call", timeout=5).hangup()
        >>> ringing.wait_open(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.CallRejectedError: ...
    """


class ConnectionFailedError(CallClosedError):
    """No network path to the peer was found, or the selected one was lost.

    Example:
        >>> relayed = {"iceTransportPolicy": "relay"}    # and no TURN server
        >>> carol = Artico(server.url, rtc_config=relayed, connect_timeout=0.5).connect()
        >>> carol.call("bob").wait_open(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.ConnectionFailedError: ...
    """


class InvalidStateError(CallError):
    """The state of the call does not allow the operation.

    Example:
        >>> call.answer()
        Traceback (most recent call last):
        artico_sync.errors.InvalidStateError: ...
    """


class MessageTooLargeError(CallError, ValueError):
    """The message is larger than the peer accepts; nothing was sent.

    Example:
        >>> call.send("x" * 300_000)
        Traceback (most recent call last):
        artico_sync.errors.MessageTooLargeError: ...
    """


class MediaError(ArticoError):
    """A media source, track or recording failed.

    Example:
        >>> MediaStream.from_file("nothing.mp4")
        Traceback (most recent call last):
        artico_sync.errors.MediaError: ...
    """


class ArticoTimeoutError(ArticoError, TimeoutError):
    """The timeout of a wait expired.

    Example:
        >>> call.recv(timeout=0)
        Traceback (most recent call last):
        artico_sync.errors.ArticoTimeoutError: ...
    """


class ForkError(ArticoError, RuntimeError):
    """A connected object was used in a forked child process: make and connect one there.

    Example:
        >>> import os
        >>> if os.fork() == 0:
        ...     try:
        ...         call.send("from the child")
        ...     except ForkError:
        ...         os._exit(7)
        >>> os.waitstatus_to_exitcode(os.wait()[1])
        7
    """
