"""A peer that plays a script, so that programs can be tested with peers that behave badly; user
threads."""

from __future__ import annotations

import logging
import threading

from artico_sync._bridge.waiting.deadline import Deadline, join, wait_until
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError
from artico_sync.server.server import ArticoServer
from artico_sync.signaling import MemoryHub, Signaling, SocketSignaling
from artico_sync.testing.fake_call import FakeCall, Script
from artico_sync.testing.fake_signaling import FakeSignaling
from artico_sync.testing.peers import TestClient
from artico_sync.testing.scripts import echoes

logger = logging.getLogger("artico_sync.testing")

# Seconds the scripts get to end after their calls have.
SCRIPT_LIMIT = 2.0


class FakePeer:
    """A peer whose every incoming call is played by a script.

    The peer behind it is real: WebRTC and signalling are those of any other. A script runs on a
    thread of its own; an exception in it is logged as an error, and raised by
    `FakeCall.wait_done`.

    Example:
        >>> with FakePeer(server, "busy", scripts.rejects()):
        ...     rtco.call("busy").wait_open(timeout=5)    # or what your program does
        Traceback (most recent call last):
        artico_sync.errors.CallRejectedError: ...

    Args:
        where: An `ArticoServer`, a hub in memory, or the URL of a server.
        id: The wanted peer id, else a random one.
        script: Called with the `FakeCall` of each incoming call; answers and echoes by default.
        silence_timeout: Seconds after which this side gives up a peer that is silent.

    Raises:
        TypeError: Neither a server, a hub nor a URL.
    """

    def __init__(
        self,
        where: ArticoServer | MemoryHub | str,
        id: str | None = None,
        script: Script | None = None,
        *,
        silence_timeout: float = 6.0,
    ) -> None:
        self._signaling = FakeSignaling(_signaling(where, id))
        self._script = script or echoes()
        self._artico: Artico = TestClient(
            signaling=self._signaling, silence_timeout=silence_timeout
        )
        self._artico.on("call", self._on_call)
        self._artico.on("error", self._on_error)
        self._condition = threading.Condition()
        self._calls: list[FakeCall] = []
        self._taken = 0
        self._threads: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"<FakePeer {self.id}: {len(self.calls)} calls>"

    @property
    def id(self) -> str:
        """The peer's id."""
        return self._artico.id

    @property
    def artico(self) -> Artico:
        """The real peer behind it."""
        return self._artico

    @property
    def calls(self) -> tuple[FakeCall, ...]:
        """All calls so far, in both directions, those that are over included."""
        with self._condition:
            return tuple(self._calls)

    def start(self) -> FakePeer:
        """Connect.

        Example:
            >>> dave = FakePeer(server, "dave").start()
            >>> "dave" in server.peers
            True
            >>> dave.close()

        Returns:
            The peer itself.

        Raises:
            IdTakenError, SignalingError, ArticoTimeoutError: As `Artico.connect`.
        """
        self._artico.connect()
        return self

    def close(self) -> None:
        """End every call and disconnect; twice is harmless.

        Example:
            >>> dave = FakePeer(server, "dave").start()
            >>> dave.close()
            >>> dave.artico.state
            'disconnected'
        """
        for fake in self.calls:
            if fake.silent:
                # What it sends now reaches nobody, so there is nothing to wait for.
                self._drop(fake)
        self._artico.close()
        deadline = Deadline(SCRIPT_LIMIT)
        for thread in self._threads:
            join(thread, deadline)

    @staticmethod
    def _drop(fake: FakeCall) -> None:
        try:
            fake.call.hangup(0)
        except ArticoTimeoutError as error:
            logger.debug("%s: %s", fake, error)

    def __enter__(self) -> FakePeer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def call(
        self, target: str, script: Script | None = None, metadata: str | None = None
    ) -> FakeCall:
        """Call somebody, and play a script on that call: to test how a program answers.

        Example:
            >>> with FakePeer(server) as caller:
            ...     fake = caller.call("bob")
            ...     fake.wait_open(timeout=5)
            ...     fake.send("hello")
            ...     fake.receive(timeout=5)
            'HELLO'

        Args:
            target: The other peer's id.
            script: Called with the `FakeCall`; without one the test itself says what happens, with
                the `FakeCall` returned.
            metadata: Given with the call.

        Returns:
            The call, ringing.

        Raises:
            NotReadyError: Not connected: `start()` or `with` first.
            TypeError, ValueError: As `Artico.call`.
        """
        return self._begin(self._artico.call(target, metadata), script)

    def wait_for_call(self, timeout: float | None = 5) -> FakeCall:
        """Wait for the next call that came in or was placed here, and was not returned yet.

        Example:
            >>> with FakePeer(server, "away", scripts.never_answers()) as away:
            ...     call = rtco.call("away", metadata="hi")
            ...     away.wait_for_call(timeout=5).call.metadata
            'hi'

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            The call.

        Raises:
            ArticoTimeoutError: None came.
        """
        deadline = Deadline(timeout)
        with self._condition:
            if not wait_until(self._condition, lambda: len(self._calls) > self._taken, deadline):
                raise deadline.error(f"a call of {self.id}")
            self._taken += 1
            return self._calls[self._taken - 1]

    def signal(self, target: str, signal: object, session: str = "call:0123456789") -> None:
        """Send whatever is given in the place of a signal, past all checks, to anybody.

        Example:
            >>> with FakePeer(server) as mallory:
            ...     mallory.signal(rtco.id, {"type": "garbage"})
            >>> rtco.state
            'ready'

        Args:
            target: The other peer's id.
            signal: What the protocol has a signal for.
            session: Of that session; without one, of a call nobody knows.

        Raises:
            NotReadyError: Not connected: `start()` or `with` first.
        """
        self._signaling.send_raw(target, session, signal)

    def _on_call(self, call: Call) -> None:
        self._begin(call, self._script)

    def _begin(self, call: Call, script: Script | None) -> FakeCall:
        call.on("error", self._on_error)
        fake = FakeCall(call, call._bridge, self._signaling)
        with self._condition:
            self._calls.append(fake)
            self._condition.notify_all()
        if script is not None:
            self._threads.append(fake._play(script))
        return fake

    def _on_error(self, error: Exception) -> None:
        logger.debug("%s: %s", self, error)


def _signaling(where: ArticoServer | MemoryHub | str, id: str | None) -> Signaling:
    if isinstance(where, MemoryHub):
        return where.signaling(id)
    if isinstance(where, ArticoServer):
        return SocketSignaling(where.url, id)
    if isinstance(where, str):
        return SocketSignaling(where, id)
    raise TypeError(f"a server, a hub or a URL is needed, not {type(where).__name__}")
