"""The client: connects to a signalling server, places calls and hears of incoming ones; user
threads."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.client import CLIENT_EVENTS, ClientBridge, check_configuration
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import Portal
from artico_sync._bridge.signaling import SignalingTransport, UserSignalingBridge
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._checks import LONGEST_SECONDS, check_timeout
from artico_sync._display import table
from artico_sync._notebook import close_former
from artico_sync._protocol.messages import new_peer_id, new_session_id
from artico_sync._protocol.settings import Settings
from artico_sync.call import Call, make_call
from artico_sync.events import EventEmitter
from artico_sync.sharing import RemoteMediaFactory
from artico_sync.signaling import SocketSignaling, check_peer_id

if TYPE_CHECKING:
    from artico_sync.event_types import ClientRegister, ClientWait

#: Where the server is, unless told otherwise: this variable, else Artico's public server.
URL_VARIABLE = "ARTICO_URL"
PUBLIC_URL = "https://0.artico.dev:443"

#: Characters of metadata the servers relay: every signal of the caller carries it.
LONGEST_METADATA = 65_536

#: Bytes of room that can be announced to a peer (RFC 9260 section 3.3.4).
LARGEST_WINDOW = 2**32 - 1

_SIGNALING_MEMBERS = ("id", "connect", "disconnect", "signal", "join", "on", "off")


class Artico(EventEmitter):
    """A peer, known to others by its id; every method may be called from any thread.

    Creating one starts nothing; `connect()` does. Used as a context manager it connects and closes
    by itself. A signal handler, which interrupts the main thread wherever it is, must not call what
    blocks, `close()` included: raise an exception there.

    Events: `open(id)`, `close()`, `error(err)`, `call(call, metadata)`, `reconnecting()`.

    Example:
        >>> with Artico(server.url) as rtco:
        ...     with rtco.call("bob", metadata="hi") as call:
        ...         call.send("how are you?")
        ...         call.recv(timeout=5)
        'HOW ARE YOU?'

    Args:
        url: The signalling server; else the environment variable `ARTICO_URL`, else Artico's
            public server.
        id: The wanted peer id, else 24 random letters and digits.
        signaling: Another way to carry the signals, in place of `url`: a `Signaling`.
        rtc_config: An `aiortc.RTCConfiguration`, or a mapping as in JavaScript with `iceServers`
            and `iceTransportPolicy` (W3C WebRTC, RTCConfiguration); default: Artico's two public
            STUN servers.
        token: Shown to a signalling server that wants to know who connects.
        connect_timeout: Seconds an answered call may take to connect before it fails.
        silence_timeout: Seconds of silence from the peer after which a call is lost (RFC 7675).
        ring_timeout: Seconds a call may ring, coming in or going out, before it ends unanswered;
            None for ever.
        send_buffer: Bytes that may wait to be sent on a call before `send` blocks.
        receive_buffer: Bytes of unread messages a call keeps before it holds the sender; less than
            2**32.
        switch_interval: `sys.setswitchinterval` while calls are open, so that a thread that
            computes all the time does not hold the calls up; it runs slower while data flows.
            None leaves the interpreter's own.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A malformed URL, an empty id, two arguments that exclude one another.
    """

    _EVENTS = CLIENT_EVENTS
    _copy_hint = (
        "make another Artico with the same arguments; each process needs one of its own, and each"
        " id can be connected once."
    )

    if TYPE_CHECKING:
        # Which handler fits which event; the methods themselves are the base's.
        on: ClientRegister  # type: ignore[assignment]
        once: ClientRegister  # type: ignore[assignment]
        wait_for: ClientWait  # type: ignore[assignment]

    def __init__(
        self,
        url: str | None = None,
        *,
        id: str | None = None,
        signaling: Any = None,
        rtc_config: Any = None,
        token: str | None = None,
        connect_timeout: float = 30.0,
        silence_timeout: float = 6.0,
        ring_timeout: float | None = None,
        send_buffer: int = 1024 * 1024,
        receive_buffer: int = 4 * 1024 * 1024,
        switch_interval: float | None = 0.0002,
    ) -> None:
        self._wanted_id = None if id is None else check_peer_id(id)
        configuration = check_configuration(rtc_config)
        settings = _checked_settings(
            connect_timeout, silence_timeout, ring_timeout, send_buffer, receive_buffer
        )
        if switch_interval is not None:
            switch_interval = _checked_seconds("switch_interval", switch_interval)
        settings = replace(settings, switch_interval=switch_interval)
        if token is not None and not isinstance(token, str):
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        if signaling is None:
            address = url if url is not None else os.environ.get(URL_VARIABLE) or PUBLIC_URL
            self._address: str | None = address
            # Made anew in each process that connects; here only to refuse a bad URL at once.
            self._socket_signaling = SocketSignaling(address, self._wanted_id, token=token)
            self._user_signaling = None
        else:
            if url is not None or id is not None or token is not None:
                raise ValueError(
                    "signaling takes the place of url, id and token: give them to it instead"
                )
            missing = [name for name in _SIGNALING_MEMBERS if not hasattr(signaling, name)]
            if missing:
                raise TypeError(
                    f"signaling has no {', '.join(missing)}: derive it from artico_sync.Signaling"
                )
            self._user_signaling = signaling
            self._address = None
            if isinstance(signaling, SocketSignaling):
                self._socket_signaling = signaling
                self._user_signaling = None
                self._wanted_id = signaling.id
        self._random_id: tuple[int, str] | None = None
        name = self._wanted_id or "artico"
        self._bridge = ClientBridge(name, settings, configuration, make_call, RemoteMediaFactory())

    def __repr__(self) -> str:
        return f"<Artico {self.id}: {self.state}>"

    def _mailbox_of(self) -> Mailbox:
        return self._bridge.mailbox

    def _check_process(self) -> None:
        self._bridge.check_process()

    def _check_wait(self) -> None:
        self._bridge.check()

    @property
    def id(self) -> str:
        """The own peer id; where none was given, a random one, another in each forked process."""
        if self._user_signaling is not None:
            return str(self._user_signaling.id)
        if self._wanted_id is not None:
            return self._wanted_id
        process = os.getpid()
        if self._random_id is None or self._random_id[0] != process:
            self._random_id = process, new_peer_id()
        return self._random_id[1]

    @property
    def state(self) -> str:
        """`"disconnected"`, `"connecting"`, `"connected"` or `"ready"`; calls need `"ready"`."""
        return self._bridge.state

    @property
    def calls(self) -> tuple[Call, ...]:
        """The live calls, those that still ring included.

        Raises:
            ForkError: Connected in another process.
        """
        return self._bridge.calls

    def connect(self, timeout: float | None = 10) -> Artico:
        """Block until signalling is ready; harmless when connected.

        After a lost connection it waits for the next one, which the client makes by itself.

        Example:
            >>> carol = Artico(server.url, id="carol").connect()
            >>> carol.state
            'ready'
            >>> carol.close()
            >>> Artico("http://127.0.0.1:9").connect()
            Traceback (most recent call last):
            artico_sync.errors.SignalingError: ...

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            The client itself.

        Raises:
            IdTakenError: Another peer holds the wanted id.
            InvalidIdError: The server does not accept the id.
            SignalingError: The server cannot be reached, or refuses.
            ArticoTimeoutError: The time ran out; nothing is left running.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        if self.state == "disconnected":
            close_former(self)
        self._bridge.connect(self._make_transport, deadline)
        return self

    def _make_transport(self, portal: Portal) -> SignalingTransport:
        if self._user_signaling is None:
            return self._socket_signaling._make_transport(self.id)
        return UserSignalingBridge(self._user_signaling, portal)

    def call(self, target: str, metadata: str | None = None) -> Call:
        """Start calling a peer; returns at once, `Call.wait_open` or `with` wait for the
        connection.

        Example:
            >>> ringing = rtco.call("bob", metadata="about lunch")
            >>> ringing.wait_open(timeout=5).open
            True

        Args:
            target: The other peer's id.
            metadata: Shown to the other side with the call; at most 65 536 characters.

        Returns:
            The call, ringing.

        Raises:
            NotReadyError: Signalling is not ready.
            TypeError: An argument is not a str.
            ValueError: The target is empty, or this client itself; the metadata has more than
                65 536 characters; either is no valid Unicode.
            ForkError: Connected in another process.
        """
        if not isinstance(target, str):
            raise TypeError(f"target must be a str, not {type(target).__name__}")
        if metadata is not None and not isinstance(metadata, str):
            raise TypeError(f"metadata must be a str or None, not {type(metadata).__name__}")
        if metadata is not None and len(metadata) > LONGEST_METADATA:
            raise ValueError(
                f"metadata has {len(metadata)} characters, more than {LONGEST_METADATA}: send what"
                " is that large once the call is open"
            )
        for text in (target, metadata or ""):
            # Surrogates that stand alone cannot be sent.
            text.encode()
        if not target:
            raise ValueError("target must not be empty")
        if target == self.id:
            raise ValueError("a client cannot call itself: make a second Artico for that")
        call: Call = self._bridge.place(new_session_id(), target, metadata)
        return call

    def wait_closed(self, timeout: float | None = None) -> None:
        """Block until `close()` has been called and has done its work; Ctrl-C ends the wait.

        A lost connection to the signalling server does not end it.

        Example:
            >>> import threading
            >>> threading.Timer(0.1, rtco.close).start()
            >>> rtco.wait_closed(timeout=5)

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Raises:
            NotReadyError: Never connected.
            ArticoTimeoutError: The time ran out.
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        self._bridge.wait_closed(deadline)

    def close(self, timeout: float | None = 5) -> None:
        """Hang up every call, delivering what was sent, disconnect, and stop the threads.

        Twice is harmless, and `connect()` may follow.

        Example:
            >>> rtco.close()
            >>> rtco.state
            'disconnected'

        Args:
            timeout: Seconds for delivering; None for ever. What could not be delivered then is
                told by an `error` event of its call.

        Raises:
            ForkError: Connected in another process.
            RuntimeError: On the library's loop thread.
        """
        check_timeout(timeout)
        self._bridge.check()
        self._bridge.close(Deadline(timeout))

    def _repr_html_(self) -> str:
        calls = [f"{call.session} with {call.target}" for call in self._bridge.calls]
        rows: list[tuple[str, object]] = [("state", self.state), ("calls", calls)]
        return table(f"Artico {self.id}", rows)

    def __enter__(self) -> Artico:
        return self.connect()

    def __exit__(self, *exception: object) -> None:
        self.close()


def _checked_settings(
    connect_timeout: float,
    silence_timeout: float,
    ring_timeout: float | None,
    send_buffer: int,
    receive_buffer: int,
) -> Settings:
    connect_timeout = _checked_seconds("connect_timeout", connect_timeout)
    silence_timeout = _checked_seconds("silence_timeout", silence_timeout)
    if ring_timeout is not None:
        ring_timeout = _checked_seconds("ring_timeout", ring_timeout)
    defaults = Settings()
    for name, size, least, most in (
        ("send_buffer", send_buffer, 0, None),
        ("receive_buffer", receive_buffer, 2 * defaults.maximum_message, LARGEST_WINDOW),
    ):
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"{name} must be a number of bytes, not {type(size).__name__}")
        if size < least:
            raise ValueError(f"{name} must be at least {least} bytes, not {size}")
        if most is not None and size > most:
            raise ValueError(f"{name} must be at most {most} bytes, not {size}")
    return replace(
        defaults,
        connect_timeout=connect_timeout,
        silence_timeout=silence_timeout,
        ring_timeout=ring_timeout,
        send_buffer=send_buffer,
        receive_buffer=receive_buffer,
    )


def _checked_seconds(name: str, seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name} must be seconds, not {type(seconds).__name__}")
    if not seconds > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {seconds}")
    return float(min(seconds, LONGEST_SECONDS))
