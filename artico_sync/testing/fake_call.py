"""A call as the script of a fake peer sees it; the script's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from artico_sync._bridge.call import CallBridge
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallClosedError, InvalidStateError
from artico_sync.testing.fake_signaling import FakeSignaling
from artico_sync.testing.leaks import THREAD_PREFIX

logger = logging.getLogger("artico_sync.testing")

# Seconds a script waits for anything before it gives up.
STEP_LIMIT = 30.0

Script = Callable[["FakeCall"], object]


class ScriptOverError(Exception):
    """The call is over, and the script with it."""


class FakeCall:
    """One call of a `FakePeer`; its script is called with it, on a thread of its own.

    In a script, every method ends it when the call is over: that is how most scripts end.

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
        """The real call behind it."""
        return self._call

    @property
    def received(self) -> tuple[str | bytes, ...]:
        """The messages the script has received."""
        return tuple(self._received)

    @property
    def silent(self) -> bool:
        """Whether `go_silent` was called."""
        return self._silent

    def pause(self, seconds: float) -> None:
        """Do nothing for a while.

        Example:
            >>> def slow(fake):
            ...     fake.pause(0.1)
            ...     fake.answer()
            >>> with FakePeer(server, "dave", slow), rtco.call("dave") as call:
            ...     call.open
            True

        Args:
            seconds: How long.
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
            InvalidStateError: A second time, or for a call of this side.
        """
        try:
            self._call.answer()
        except InvalidStateError as error:
            if self._call.closed:
                raise ScriptOverError from error
            raise
        self.wait_open()

    def wait_open(self, timeout: float = STEP_LIMIT) -> None:
        """Wait until the call is open: for calls this side has placed.

        Example:
            >>> with FakePeer(server) as caller:
            ...     fake = caller.call("bob")
            ...     fake.wait_open(timeout=5)
            ...     fake.call.open
            True

        Args:
            timeout: Seconds to wait.

        Raises:
            CallClosedError: It came to nothing; ends a script in silence.
            ArticoTimeoutError: The time ran out.
        """
        self._call.wait_open(timeout)

    def wait_closed(self) -> None:
        """Wait, as long as it takes, until the call is over.

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
            messages: Each as for `Call.send`.

        Raises:
            CallClosedError: The call is over; ends a script in silence.
            ArticoTimeoutError: The peer does not read.
        """
        for message in messages:
            self._call.send(message, STEP_LIMIT)

    def receive(self, timeout: float = STEP_LIMIT) -> str | bytes:
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
            The message; it is in `received` from now on.

        Raises:
            CallClosedError: The call is over; ends a script in silence.
            ArticoTimeoutError: The time ran out.
        """
        message = self._call.recv(timeout)
        self._received.append(message)
        return message

    def send_signal(self, *signals: object) -> None:
        """Send whatever is given in the place of signals of this call, past all checks.

        Example:
            >>> def mad(fake):
            ...     fake.send_signal({"type": "garbage"}, {"type": "sdp", "data": 5})
            ...     fake.answer()
            >>> with FakePeer(server, "dave", mad), rtco.call("dave") as call:
            ...     call.open
            True

        Args:
            signals: What the protocol has signals for, one after another.

        Raises:
            NotReadyError: Signalling is not connected.
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
        """Send and hear nothing any more on this call, neither packets nor signals, as a peer does
        whose network is gone. It stays so. What was sent before arrives.

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
            self._call.flush(STEP_LIMIT)
        self._signaling.mute(self._call.session)
        self._bridge.blackhole()
        self._silent = True

    # for the test

    def wait_done(self, timeout: float | None = STEP_LIMIT) -> FakeCall:
        """Wait until the script has ended, and raise what it raised; for the test.

        Example:
            >>> with FakePeer(server, "dave", lambda fake: fake.answer()) as dave:
            ...     call = rtco.call("dave")
            ...     dave.wait_for_call(timeout=5).wait_done(timeout=5).received
            ()

        Args:
            timeout: Seconds to wait; None for ever.

        Returns:
            The call itself.

        Raises:
            ArticoTimeoutError: It has not ended.
            Exception: Whatever the script raised.
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
        """Start the script on a thread of its own."""
        thread = threading.Thread(
            target=self._run,
            args=(script,),
            name=f"{THREAD_PREFIX}script-{self._call.session}",
            daemon=True,
        )
        thread.start()
        return thread

    def _run(self, script: Script) -> None:
        try:
            script(self)
        except (ScriptOverError, CallClosedError):
            logger.debug("%s: the call is over, and so is the script", self)
        except Exception as error:
            self._error = error
            logger.exception("%s: the script failed", self)
        finally:
            self._done.set()
