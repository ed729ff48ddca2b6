"""A call as the script of a fake peer sees it; the script's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from artico_sync.bridge.call_port import CallPort
from artico_sync.bridge.leaks import THREAD_PREFIX
from artico_sync.bridge.silence import fall_silent
from artico_sync.bridge.waiting import Deadline
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallClosedError, InvalidStateError
from artico_sync.testing.fake_signaling import FakeSignaling

logger = logging.getLogger("artico_sync.testing")

# Seconds a script waits for anything before it gives up.
STEP_LIMIT = 30.0

Script = Callable[["FakeCall"], object]


class ScriptOverError(Exception):
    """The call is over, and the script with it."""


class FakeCall:
    """One call of a `FakePeer`; its script is called with it, on a thread of its own.

    Every method ends the script when the call is over: that is how most scripts end.
    """

    def __init__(self, call: Call, port: CallPort, signaling: FakeSignaling) -> None:
        self._call = call
        self._port = port
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
        """Do nothing for a while."""
        try:
            self._call.wait_closed(seconds)
        except ArticoTimeoutError:
            return
        raise ScriptOverError

    def answer(self) -> None:
        """Accept the call and wait until it is open."""
        try:
            self._call.answer()
        except InvalidStateError as error:
            if self._call.closed:
                raise ScriptOverError from error
            raise
        self.wait_open()

    def wait_open(self, timeout: float = STEP_LIMIT) -> None:
        """Wait until the call is open.

        Args:
            timeout: Seconds to wait.
        """
        self._call.wait_open(timeout)

    def wait_closed(self) -> None:
        """Wait, as long as it takes, until the call is over."""
        self._call.wait_closed()

    def send(self, *messages: str | bytes) -> None:
        """Send messages."""
        for message in messages:
            self._call.send(message, STEP_LIMIT)

    def receive(self, timeout: float = STEP_LIMIT) -> str | bytes:
        """Wait for the next message.

        Args:
            timeout: Seconds to wait.
        """
        message = self._call.recv(timeout)
        self._received.append(message)
        return message

    def send_signal(self, *signals: object) -> None:
        """Send whatever is given in the place of signals of this call, past all checks."""
        for signal in signals:
            self._signaling.send_raw(self._call.target, self._call.session, signal)

    def hangup(self) -> None:
        """End the call; before `answer` this rejects it."""
        self._call.hangup()

    def go_silent(self) -> None:
        """Send and hear nothing any more on this call, neither packets nor signals, as a peer does
        whose network is gone. It stays so. What was sent before arrives."""
        if self._call.open:
            self._call.flush(STEP_LIMIT)
        self._signaling.mute(self._call.session)
        fall_silent(self._port)
        self._silent = True

    # for the test

    def wait_done(self, timeout: float | None = STEP_LIMIT) -> FakeCall:
        """Wait until the script has ended, and raise what it raised.

        Args:
            timeout: Seconds to wait; None for ever.

        Raises:
            ArticoTimeoutError: It has not ended.
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

    def play(self, script: Script) -> threading.Thread:
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
