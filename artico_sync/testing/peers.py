"""Peers of a test: clients with settings for tests, and fake peers that play a script."""

from __future__ import annotations

import logging
import threading
from typing import Any, Protocol

from artico_sync._bridge.waiting.deadline import Deadline, join, wait_until
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError
from artico_sync.server.server import ArticoServer
from artico_sync.signaling import MemoryHub, Signaling, SocketSignaling
from artico_sync.testing.fake_call import FakeCall, FakeSignaling, Script
from artico_sync.testing.scripts import echoes

logger = logging.getLogger(__name__)

#: Without STUN servers: peers of one test need no host outside this machine.
RTC_CONFIG: dict[str, object] = {"iceServers": []}
# Seconds for a peer that is closed to deliver its messages.
CLOSE_SECONDS = 1.0
# Seconds for scripts to end after their calls.
SCRIPT_END_SECONDS = 2.0


class TestClient(Artico):
    """An `Artico` for tests: without STUN servers, and quick to close.

    Args:
        url: The URL of a server.
        options: Further arguments of `Artico`.
    """

    __test__ = False  # Not a class of tests, for pytest.

    def __init__(self, url: str | None = None, **options: Any) -> None:
        options.setdefault("rtc_config", dict(RTC_CONFIG))
        super().__init__(url, **options)

    def close(self, timeout: float | None = CLOSE_SECONDS) -> None:
        super().close(timeout)


class Closable(Protocol):
    """Something that has to be closed."""

    def close(self) -> None: ...


class ClosingStack:
    """Objects made for a test, closed in reverse order."""

    def __init__(self) -> None:
        self._made: list[Closable] = []

    def add(self, made: Closable) -> None:
        """Close an object with the others."""
        self._made.append(made)

    def make_client(self, *, connect: bool, **options: Any) -> Artico:
        """Return a new client, connected or not, which is closed with the others."""
        rtco = TestClient(**options)
        self.add(rtco)
        return rtco.connect() if connect else rtco

    def close(self) -> None:
        """Close all objects, then raise the first error."""
        errors: list[Exception] = []
        while self._made:
            try:
                self._made.pop().close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]


class FakePeer:
    """A peer that plays a script on each of its incoming calls.

    Its WebRTC and signaling are real. A script runs on a thread of its own; an exception in it is
    logged as an error, and raised by `FakeCall.wait_done`.

    Example:
        >>> with FakePeer(server, "busy", scripts.rejects()):
        ...     rtco.call("busy").wait_open(timeout=5)    # or the program under test
        Traceback (most recent call last):
        artico_sync.errors.CallRejectedError: ...

    Args:
        where: An `ArticoServer`, a hub in memory, or the URL of a server.
        id: The peer id; by default a random one.
        script: Called with the `FakeCall` of each incoming call; by default the peer answers and
            echoes.
        silence_timeout: Seconds of silence after which this peer gives up a call.

    Raises:
        TypeError: `where` is neither a server, a hub nor a URL.
    """

    def __init__(
        self,
        where: ArticoServer | MemoryHub | str,
        id: str | None = None,
        script: Script | None = None,
        *,
        silence_timeout: float = 6.0,
    ) -> None:
        self._signaling = FakeSignaling(_make_signaling(where, id))
        self._script = script or echoes()
        self._artico: Artico = TestClient(
            signaling=self._signaling, silence_timeout=silence_timeout
        )
        self._artico.on("call", self._on_call)
        self._artico.on("error", self._on_error)
        self._condition = threading.Condition()
        self._calls: list[FakeCall] = []
        self._returned = 0
        self._threads: list[threading.Thread] = []

    def __repr__(self) -> str:
        return f"<FakePeer {self.id}: {len(self.calls)} calls>"

    @property
    def id(self) -> str:
        """The peer's id."""
        return self._artico.id

    @property
    def artico(self) -> Artico:
        """The real client of this peer."""
        return self._artico

    @property
    def calls(self) -> tuple[FakeCall, ...]:
        """All calls so far, in both directions, including closed ones."""
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
            IdTakenError: The id is in use.
            SignalingError: The server cannot be reached, or did not accept the peer.
            ArticoTimeoutError: The server did not reply in time.
        """
        self._artico.connect()
        return self

    def close(self) -> None:
        """End every call and disconnect; has no effect a second time.

        Example:
            >>> dave = FakePeer(server, "dave").start()
            >>> dave.close()
            >>> dave.artico.state
            'disconnected'
        """
        for fake in self.calls:
            if fake.silent:
                # Nothing it sends arrives, so there is nothing to wait for.
                self._hang_up_at_once(fake)
        self._artico.close()
        deadline = Deadline(SCRIPT_END_SECONDS)
        for thread in self._threads:
            join(thread, deadline)

    @staticmethod
    def _hang_up_at_once(fake: FakeCall) -> None:
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
        """Place a call and play a script on it, to test how a program answers.

        Example:
            >>> with FakePeer(server) as caller:
            ...     fake = caller.call("bob")
            ...     fake.wait_open(timeout=5)
            ...     fake.send("hello")
            ...     fake.receive(timeout=5)
            'HELLO'

        Args:
            target: The other peer's id.
            script: Called with the `FakeCall`; without one, the test uses the `FakeCall` returned.
            metadata: The metadata of the call.

        Returns:
            The call, ringing.

        Raises:
            NotReadyError: The peer is not connected; use `start()` or `with` first.
            TypeError: As raised by `Artico.call`.
            ValueError: As raised by `Artico.call`.
        """
        return self._begin(self._artico.call(target, metadata), script)

    def wait_for_call(self, timeout: float | None = 5) -> FakeCall:
        """Wait for the next call, incoming or placed here, that was not returned yet.

        Example:
            >>> with FakePeer(server, "away", scripts.never_answers()) as away:
            ...     call = rtco.call("away", metadata="hi")
            ...     away.wait_for_call(timeout=5).call.metadata
            'hi'

        Args:
            timeout: Seconds to wait; None waits without limit, 0 polls.

        Returns:
            The call.

        Raises:
            ArticoTimeoutError: The time ran out.
        """
        deadline = Deadline(timeout)
        with self._condition:
            if not wait_until(self._condition, lambda: len(self._calls) > self._returned, deadline):
                raise deadline.error(f"a call of {self.id}")
            self._returned += 1
            return self._calls[self._returned - 1]

    def signal(self, target: str, signal: object, session: str = "call:0123456789") -> None:
        """Send anything as a signal to any peer, without a check.

        Example:
            >>> with FakePeer(server) as mallory:
            ...     mallory.signal(rtco.id, {"type": "garbage"})
            >>> rtco.state
            'ready'

        Args:
            target: The other peer's id.
            signal: The signal, valid or not.
            session: The session id of a call; the default is that of no call.

        Raises:
            NotReadyError: The peer is not connected; use `start()` or `with` first.
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


def _make_signaling(where: ArticoServer | MemoryHub | str, id: str | None) -> Signaling:
    if isinstance(where, MemoryHub):
        return where.signaling(id)
    if isinstance(where, ArticoServer):
        return SocketSignaling(where.url, id)
    if isinstance(where, str):
        return SocketSignaling(where, id)
    raise TypeError(f"where must be a server, a hub or a URL, not {type(where).__name__}")
