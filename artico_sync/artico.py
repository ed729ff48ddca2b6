"""The client: connects to a signaling server, places calls and reports incoming ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from artico_sync._bridge.client import CLIENT_EVENTS, ClientBridge, check_configuration
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import Portal
from artico_sync._bridge.signaling import SignalingTransport, UserSignalingBridge
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._checks import (
    check_optional_text,
    check_seconds,
    check_text,
    check_timeout,
    check_unicode,
    check_whole,
)
from artico_sync._notebook import close_former, html_table
from artico_sync._protocol.messages import new_peer_id, new_session_id
from artico_sync._protocol.settings import Settings
from artico_sync.call import Call, make_call
from artico_sync.events import (
    ErrorHandler,
    ErrorT,
    EventEmitter,
    Metadata,
    Nothing,
    NothingT,
)
from artico_sync.media.remote import RemoteMediaFactory
from artico_sync.signaling import SocketSignaling, check_peer_id

#: The server without an argument: that of this environment variable, else Artico's public one.
URL_VARIABLE = "ARTICO_URL"
PUBLIC_URL = "https://0.artico.dev:443"

#: Characters of metadata the servers relay: every signal of the caller carries it.
LONGEST_METADATA = 65_536

#: Bytes of the largest receiver window that can be announced (a_rwnd, RFC 9260 section 3.3.2).
LARGEST_RECEIVER_WINDOW = 2**32 - 1

_SIGNALING_MEMBERS = ("id", "connect", "disconnect", "signal", "join", "on", "off")


class Artico(EventEmitter):
    """A peer, known to others by its id; every method may be called from any thread.

    Creating one starts nothing; `connect()` does. Used as a context manager it connects and closes
    by itself. A signal handler, which interrupts the main thread wherever it is, must not call
    anything that blocks, `close()` included: raise an exception there.

    Events: `open(id)`, `close()`, `error(err)`, `call(call, metadata)`, `reconnecting()`.

    Example:
        >>> with Artico(server.url) as rtco:
        ...     with rtco.call("bob", metadata="hi") as call:
        ...         call.send("how are you?")
        ...         call.recv(timeout=5)
        'HOW ARE YOU?'

    Args:
        url: The signaling server; else the environment variable `ARTICO_URL`, else Artico's
            public server.
        id: The wanted peer id, else 24 random letters and digits.
        signaling: A `Signaling`, another way to carry the signals, in place of `url`.
        rtc_config: An `aiortc.RTCConfiguration`, or a mapping as in JavaScript with `iceServers`
            and `iceTransportPolicy` (W3C WebRTC, RTCConfiguration); default: Artico's two public
            STUN servers.
        token: Shown to a signaling server that authenticates its clients.
        connect_timeout: Seconds an answered call may take to connect before it fails.
        silence_timeout: Seconds of silence from the peer after which a call is lost (RFC 7675).
        ring_timeout: Seconds a call may ring, coming in or going out, before it ends unanswered;
            None for no limit.
        send_buffer: Bytes that may wait to be sent on a call before `send` blocks.
        receive_buffer: Bytes of unread messages a call buffers before it holds the sender; less
            than 2**32.
        switch_interval: `sys.setswitchinterval` while calls are open, so that a thread that
            computes without pause does not delay the calls; it runs slower while data flows.
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
        # The types of handlers by event; the methods are those of the base class.
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
        self._address: str | None = None
        self._socket_signaling: SocketSignaling | None = None
        self._user_signaling: Any = None
        self._random_id: tuple[int, str] | None = None
        configuration = check_configuration(rtc_config)
        settings = _checked_settings(
            connect_timeout=connect_timeout,
            silence_timeout=silence_timeout,
            ring_timeout=ring_timeout,
            switch_interval=switch_interval,
            send_buffer=send_buffer,
            receive_buffer=receive_buffer,
        )
        check_optional_text("token", token)
        if signaling is None:
            self._use_server(url, token)
        elif url is not None or id is not None or token is not None:
            text = "signaling takes the place of url, id and token: give them to it instead"
            raise ValueError(text)
        else:
            self._use_signaling(signaling)
        self._bridge = ClientBridge(
            self._wanted_id or "artico", settings, configuration, make_call, RemoteMediaFactory()
        )

    def _use_server(self, url: str | None, token: str | None) -> None:
        self._address = url if url is not None else os.environ.get(URL_VARIABLE) or PUBLIC_URL
        # Refuses a bad URL at once; nothing connects yet.
        self._socket_signaling = SocketSignaling(self._address, self._wanted_id, token=token)

    def _use_signaling(self, signaling: Any) -> None:
        missing = [name for name in _SIGNALING_MEMBERS if not hasattr(signaling, name)]
        if missing:
            raise TypeError(
                f"signaling has no {', '.join(missing)}: derive it from artico_sync.Signaling"
            )
        if isinstance(signaling, SocketSignaling):
            self._socket_signaling = signaling
            self._wanted_id = signaling.id
        else:
            self._user_signaling = signaling

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
        """The peer id of this client; by default a random one, another in each forked process."""
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
        """Block until signaling is ready; return at once when connected.

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
            timeout: Seconds to wait; None without limit, 0 polls.

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
            close_former(self, self._bridge, self.id, self._address)
        self._bridge.connect(self._make_transport, deadline)
        return self

    def _make_transport(self, portal: Portal) -> SignalingTransport:
        if self._socket_signaling is not None:
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
            NotReadyError: Signaling is not ready.
            TypeError: An argument is not a str.
            ValueError: The target is empty, or this client itself; the metadata has more than
                65 536 characters; either is not valid Unicode.
            ForkError: Connected in another process.
        """
        check_text("target", target)
        check_optional_text("metadata", metadata)
        if metadata is not None and len(metadata) > LONGEST_METADATA:
            raise ValueError(
                f"metadata has {len(metadata)} characters, more than {LONGEST_METADATA}: send data"
                " of that size once the call is open"
            )
        check_unicode(target)
        check_unicode(metadata or "")
        if not target:
            raise ValueError("target must not be empty")
        if target == self.id:
            raise ValueError("a client cannot call itself: make a second Artico for that")
        call: Call = self._bridge.place(new_session_id(), target, metadata)
        return call

    def wait_closed(self, timeout: float | None = None) -> None:
        """Block until `close()` has been called and has finished; Ctrl-C ends the wait.

        A lost connection to the signaling server does not end it.

        Example:
            >>> import threading
            >>> threading.Timer(0.1, rtco.close).start()
            >>> rtco.wait_closed(timeout=5)

        Args:
            timeout: Seconds to wait; None without limit, 0 polls.

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

        A second time it has no effect; `connect()` may follow.

        Example:
            >>> rtco.close()
            >>> rtco.state
            'disconnected'

        Args:
            timeout: Seconds for delivering, None without limit. An `error` event of a call reports
                messages that could not be delivered.

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
        return html_table(f"Artico {self.id}", rows)

    def __enter__(self) -> Artico:
        return self.connect()

    def __exit__(self, *exception: object) -> None:
        self.close()


def _checked_settings(
    *,
    connect_timeout: float,
    silence_timeout: float,
    ring_timeout: float | None,
    switch_interval: float | None,
    send_buffer: int,
    receive_buffer: int,
) -> Settings:
    least_received = 2 * Settings.maximum_message
    return Settings(
        connect_timeout=check_seconds("connect_timeout", connect_timeout),
        silence_timeout=check_seconds("silence_timeout", silence_timeout),
        ring_timeout=_optional_seconds("ring_timeout", ring_timeout),
        send_buffer=check_whole("send_buffer", send_buffer, least=0, unit="bytes"),
        receive_buffer=check_whole(
            "receive_buffer",
            receive_buffer,
            least=least_received,
            most=LARGEST_RECEIVER_WINDOW,
            unit="bytes",
        ),
        switch_interval=_optional_seconds("switch_interval", switch_interval),
    )


def _optional_seconds(name: str, seconds: float | None) -> float | None:
    return None if seconds is None else check_seconds(name, seconds)


# Types of handlers by event, for type checkers.

CallHandler = Callable[[Call, Metadata], object]
ShortCallHandler = Callable[[Call], object]
IdHandler = Callable[[str], object]
IdT = TypeVar("IdT", bound=IdHandler | Nothing)
CallT = TypeVar("CallT", bound=CallHandler | ShortCallHandler | Nothing)


class ClientRegister(Protocol):
    """Type of `Artico.on` and `Artico.once`."""

    @overload
    def __call__(self, event: Literal["close", "reconnecting"], handler: Nothing) -> Nothing: ...
    @overload
    def __call__(
        self, event: Literal["close", "reconnecting"], handler: None = None
    ) -> Callable[[NothingT], NothingT]: ...
    @overload
    def __call__(self, event: Literal["open"], handler: IdHandler) -> IdHandler: ...
    @overload
    def __call__(self, event: Literal["error"], handler: ErrorHandler) -> ErrorHandler: ...
    @overload
    def __call__(self, event: Literal["call"], handler: CallHandler) -> CallHandler: ...
    @overload
    def __call__(self, event: Literal["call"], handler: ShortCallHandler) -> ShortCallHandler: ...
    @overload
    def __call__(self, event: Literal["open", "error", "call"], handler: Nothing) -> Nothing: ...
    @overload
    def __call__(self, event: Literal["open"], handler: None = None) -> Callable[[IdT], IdT]: ...
    @overload
    def __call__(
        self, event: Literal["error"], handler: None = None
    ) -> Callable[[ErrorT], ErrorT]: ...
    @overload
    def __call__(
        self, event: Literal["call"], handler: None = None
    ) -> Callable[[CallT], CallT]: ...


class ClientWait(Protocol):
    """Type of `Artico.wait_for`."""

    @overload
    def __call__(
        self, event: Literal["close", "reconnecting"], timeout: float | None = None
    ) -> None: ...
    @overload
    def __call__(self, event: Literal["open"], timeout: float | None = None) -> str: ...
    @overload
    def __call__(self, event: Literal["error"], timeout: float | None = None) -> Exception: ...
    @overload
    def __call__(self, event: Literal["call"], timeout: float | None = None) -> Call: ...
