"""Calls of a fake peer, as its scripts use them, and their signaling.

A script runs on a thread of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from artico_sync._bridge.call import CallBridge
from artico_sync._bridge.threads import start_thread
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallClosedError, InvalidStateError
from artico_sync.signaling import Message, Signaling

logger = logging.getLogger(__name__)

# Seconds a script waits for anything before it fails.
STEP_TIMEOUT_SECONDS = 30.0

Script: TypeAlias = Callable[["FakeCall"], object]


class ScriptOverError(Exception):
    """Ends a script whose call has ended."""


class FakeSignaling(Signaling):
    """Wraps a signaling; it can send invalid signals, and mute single calls.

    Args:
        inner: The signaling that carries the signals.
    """

    def __init__(self, inner: Signaling) -> None:
        super().__init__(inner.id)
        self._inner = inner
        self._muted_sessions: set[str] = set()
        for event in self.EVENTS:
            inner.on(event, partial(self._forward_event, event))

    def mute(self, session: str) -> None:
        """Drop all further signals of a session, in both directions."""
        self._muted_sessions.add(session)

    def connect(self) -> None:
        self._state = "connecting"
        self._inner.connect()

    def disconnect(self) -> None:
        self._inner.disconnect()
        self._state = "disconnected"

    def signal(self, message: Message) -> bool | None:
        if message.get("session") in self._muted_sessions:
            return None
        return self._inner.signal(message)

    def join(self, room: str, metadata: str | None = None) -> None:
        self._inner.join(room, metadata)

    def send_raw(self, target: str, session: str, signal: object) -> None:
        """Send anything as a signal, without a check."""
        self._inner.signal({"target": target, "session": session, "signal": signal})

    def _forward_event(self, event: str, *arguments: Any) -> None:
        if event == "signal" and arguments[0].get("session") in self._muted_sessions:
            return
        self.emit(event, *arguments)


class FakeCall:
    """One call of a `FakePeer`; the peer's script is called with it, on a thread of its own.

    In a script, every method ends the script if the call has ended; most scripts end that way.

    Example:
        >>> def grumpy(fake):
        ...     fake.answer()
        ...     fake.send("what now?")
        ...     fake.receive()
        ...     fake.hangup()
        >>> with FakePeer(server, "dave", grumpy) as dave, rtco.call("dave") as call:
        ...     question = call.recv(timeout=5)
        ...     call.send("nothing")
        ...     dave.wait_for_call().wait_done(timeout=5).received
        ('nothing',)
    """

    def __init__(self, call: Call, bridge: CallBridge, signaling: FakeSignaling) -> None:
        self._call = call
        self._bridge = bridge
        self._signaling = signaling
        self._silent = False
        self._received: list[str | bytes] = []
        self._error: Exception | None = None
        self._done = threading.Event()

    def __repr__(self) -> str:
        return f"<FakeCall {self._call!r}>"

    @property
    def call(self) -> Call:
        """The real call."""
        return self._call

    @property
    def received(self) -> tuple[str | bytes, ...]:
        """The messages the script has received."""
        return tuple(self._received)

    @property
    def silent(self) -> bool:
        """True after `go_silent`."""
        return self._silent

    def pause(self, seconds: float) -> None:
        """Wait for a time.

        Example:
            >>> def slow(fake):
            ...     fake.pause(0.1)
            ...     fake.answer()
            >>> with FakePeer(server, "dave", slow), rtco.call("dave") as call:
            ...     call.open
            True

        Args:
            seconds: The time.
        """
        try:
            self._call.wait_closed(seconds)
        except ArticoTimeoutError:
            return
        raise ScriptOverError

    def answer(self) -> None:
        """Accept the call and wait until it is open.

        Example:
            >>> with FakePeer(server, "dave", lambda fake: fake.answer()):
            ...     with rtco.call("dave") as call:
            ...         call.open
            True

        Raises:
            InvalidStateError: It was answered already, or this peer placed it.
        """
        try:
            self._call.answer()
        except InvalidStateError as error:
            if self._call.closed:
                raise ScriptOverError from error
            raise
        self.wait_open()

    def wait_open(self, timeout: float = STEP_TIMEOUT_SECONDS) -> None:
        """Wait until the call is open; for calls that this peer has placed.

        Example:
            >>> with FakePeer(server) as caller:
            ...     fake = caller.call("bob")
            ...     fake.wait_open(timeout=5)
            ...     fake.call.open
            True

        Args:
            timeout: Seconds to wait.

        Raises:
            CallClosedError: The call ended first. Ends a script silently.
            ArticoTimeoutError: The time ran out.
        """
        self._call.wait_open(timeout)

    def wait_closed(self) -> None:
        """Wait without limit until the call has ended.

        Example:
            >>> def silent(fake):
            ...     fake.wait_closed()    # neither answers nor rejects
            >>> with FakePeer(server, "dave", silent) as dave:
            ...     rtco.call("dave").hangup()
            ...     dave.wait_for_call().wait_done(timeout=5).call.close_reason
            'remote'
        """
        self._call.wait_closed()

    def send(self, *messages: str | bytes) -> None:
        """Send messages.

        Example:
            >>> def talkative(fake):
            ...     fake.answer()
            ...     fake.send("one", "two")
            >>> with FakePeer(server, "dave", talkative), rtco.call("dave") as call:
            ...     call.recv(timeout=5), call.recv(timeout=5)
            ('one', 'two')

        Args:
            messages: Messages that `Call.send` accepts.

        Raises:
            CallClosedError: The call has ended. Ends a script silently.
            ArticoTimeoutError: The peer does not read.
        """
        for message in messages:
            self._call.send(message, STEP_TIMEOUT_SECONDS)

    def receive(self, timeout: float = STEP_TIMEOUT_SECONDS) -> str | bytes:
        """Wait for the next message.

        Example:
            >>> def polite(fake):
            ...     fake.answer()
            ...     fake.send(f"hello, {fake.receive()}")
            >>> with FakePeer(server, "dave", polite), rtco.call("dave") as call:
            ...     call.send("Alice")
            ...     call.recv(timeout=5)
            'hello, Alice'

        Args:
            timeout: Seconds to wait.

        Returns:
            The message, which is also appended to `received`.

        Raises:
            CallClosedError: The call has ended. Ends a script silently.
            ArticoTimeoutError: The time ran out.
        """
        message = self._call.recv(timeout)
        self._received.append(message)
        return message

    def send_signal(self, *signals: object) -> None:
        """Send anything as signals of this call, without a check.

        Example:
            >>> def mad(fake):
            ...     fake.send_signal({"type": "garbage"}, {"type": "sdp", "data": 5})
            ...     fake.answer()
            >>> with FakePeer(server, "dave", mad), rtco.call("dave") as call:
            ...     call.open
            True

        Args:
            signals: The signals, valid or not.

        Raises:
            NotReadyError: The signaling is not connected.
        """
        for signal in signals:
            self._signaling.send_raw(self._call.target, self._call.session, signal)

    def hangup(self) -> None:
        """End the call; before `answer` this rejects it.

        Example:
            >>> with FakePeer(server, "dave", lambda fake: fake.hangup()):
            ...     rtco.call("dave").wait_open(timeout=5)
            Traceback (most recent call last):
            artico_sync.errors.CallRejectedError: ...
        """
        self._call.hangup()

    def go_silent(self) -> None:
        """Stop sending and receiving on this call for good, packets and signals, as if the network
        were gone; messages sent before arrive.

        Example:
            >>> def vanishing(fake):
            ...     fake.answer()
            ...     fake.go_silent()
            >>> quick = Artico(server.url, silence_timeout=1.0).connect()
            >>> with FakePeer(server, "dave", vanishing), quick.call("dave") as call:
            ...     call.wait_closed(timeout=5)
            ...     call.close_reason
            'failed'
        """
        if self._call.open:
            self._call.flush(STEP_TIMEOUT_SECONDS)
        self._signaling.mute(self._call.session)
        self._bridge.blackhole()
        self._silent = True

    # for the test

    def wait_done(self, timeout: float | None = STEP_TIMEOUT_SECONDS) -> FakeCall:
        """Wait until the script has ended, and raise its exception if it failed; for the test.

        Example:
            >>> with FakePeer(server, "dave", lambda fake: fake.answer()) as dave:
            ...     call = rtco.call("dave")
            ...     dave.wait_for_call(timeout=5).wait_done(timeout=5).received
            ()

        Args:
            timeout: Seconds to wait; None waits without limit.

        Returns:
            The call itself.

        Raises:
            ArticoTimeoutError: The time ran out.
            Exception: The exception the script raised.
        """
        deadline = Deadline(timeout)
        while not self._done.wait(deadline.slice()):
            if deadline.expired:
                raise deadline.error(
                    "the script to end", session=self._call.session, peer=self._call.target
                )
        if self._error is not None:
            raise self._error
        return self

    def _play(self, script: Script) -> threading.Thread:
        """Start the script on a thread of its own; return the thread."""
        return start_thread(f"script-{self._call.session}", self._run, script)

    def _run(self, script: Script) -> None:
        try:
            script(self)
        except (ScriptOverError, CallClosedError):
            logger.debug("%s: the script ended with the call", self)
        except Exception as error:
            self._error = error
            logger.exception("%s: the script failed", self)
        finally:
            self._done.set()
