"""Fixtures of a test: signaling in memory, connected pairs, and a unittest test case."""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.server.server import ArticoServer
from artico_sync.signaling import MemoryHub
from artico_sync.testing.fake_call import Script
from artico_sync.testing.leaks import TestChecks
from artico_sync.testing.peers import ClosingStack, FakePeer


class Hub(MemoryHub):
    """Connects the peers of one test: signaling in memory, without server or sockets, and real
    WebRTC between the peers.

    Leaving its `with` closes the peers. `hub.signaling(id)` returns an argument for
    `Artico(signaling=...)`, for code that makes its own clients; `hub.disconnect(id)` cuts a peer's
    signaling as a network fault would.

    Example:
        >>> with Hub() as hub:
        ...     alice, carol = hub.make_artico("alice"), hub.make_artico("carol")
        ...     call = alice.call("carol")
        ...     carol.wait_for("call", timeout=5).answer().wait_open(timeout=5).open
        True
    """

    def __init__(self) -> None:
        super().__init__()
        self._clients = ClosingStack()

    def make_artico(self, id: str | None = None, *, connect: bool = True, **options: Any) -> Artico:
        """Return a new peer on this hub, which is closed with it.

        Example:
            >>> with Hub() as hub:
            ...     hub.make_artico("alice", ring_timeout=5).state
            'ready'

        Args:
            id: The peer id; by default a random one.
            connect: False to leave it unconnected.
            options: Further arguments of `Artico`; `rtc_config` has no STUN servers by default.

        Returns:
            The peer.

        Raises:
            TypeError: As raised by `Artico`.
            ValueError: As raised by `Artico`.
            IdTakenError: The id is in use on this hub.
        """
        return self._clients.make_client(connect=connect, signaling=self.signaling(id), **options)

    def close(self) -> None:
        """Close the peers made here; has no effect a second time.

        Example:
            >>> hub = Hub()
            >>> alice = hub.make_artico("alice")
            >>> hub.close()
            >>> alice.state
            'disconnected'
        """
        self._clients.close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True)
class ConnectedPair:
    """Two peers and the open call between them, made by `connected_pair`.

    Example:
        >>> with connected_pair("hi") as pair:
        ...     pair.call.initiator, pair.call.target == pair.callee.id, pair.incoming.metadata
        (True, True, 'hi')

    Attributes:
        caller: The peer that placed the call.
        callee: The peer that answered it.
        call: The caller's end of the call.
        incoming: The callee's end of the same call.
    """

    caller: Artico
    callee: Artico
    call: Call
    incoming: Call


@contextmanager
def connected_pair(
    metadata: str | None = None, *, timeout: float = 10, **options: Any
) -> Iterator[ConnectedPair]:
    """Connect two peers by a call, with signaling in memory; for `with`, which closes them.

    Example:
        >>> with connected_pair() as pair:
        ...     pair.call.send("how are you?")
        ...     pair.incoming.recv(timeout=5)
        'how are you?'

    Args:
        metadata: The metadata of the call.
        timeout: Seconds for the call to open.
        options: Further arguments of `Artico`, for both peers.

    Returns:
        A context manager for the `ConnectedPair`.

    Raises:
        ArticoTimeoutError: The call did not open in time.
    """
    with Hub() as hub:
        caller, callee = hub.make_artico(**options), hub.make_artico(**options)
        yield connect_pair(caller, callee, metadata, timeout)


def connect_pair(
    caller: Artico, callee: Artico, metadata: str | None, timeout: float
) -> ConnectedPair:
    """Open a call between two connected peers."""
    deadline = Deadline(timeout)
    call = caller.call(callee.id, metadata)
    incoming: Call = callee.wait_for("call", deadline.remaining())
    incoming.answer().wait_open(deadline.remaining())
    call.wait_open(deadline.remaining())
    return ConnectedPair(caller, callee, call, incoming)


class ArticoTestCase(unittest.TestCase):
    """A test case with a signaling server and peers, which are closed after each test.

    A test fails if a handler raised an exception, or if a thread or a UDP socket of this library
    is left running. A test that expects a handler to raise says so with
    `self.assertLogs("artico_sync.events", "ERROR")`.

    It can be combined with other test cases, such as Django's: `class MyTest(ArticoTestCase,
    django.test.TestCase)`. An overriding `setUp` must call `super().setUp()`.

    Example:
        >>> class EchoTest(ArticoTestCase):
        ...     def test_it_echoes(self):
        ...         self.make_fake_peer("echo")
        ...         with self.make_artico().call("echo") as call:
        ...             call.send("hello")
        ...             self.assertEqual(call.recv(timeout=5), "hello")
        >>> EchoTest("test_it_echoes").run()
        <unittest.result.TestResult run=1 errors=0 failures=0>
    """

    #: Seconds for threads and sockets to end by themselves after a test.
    settle_limit = 3.0

    def setUp(self) -> None:
        """Start the checks of a test; an overriding method calls this first.

        Example:
            >>> class MyTest(ArticoTestCase):
            ...     def setUp(self):
            ...         super().setUp()
            ...         self.bob = self.make_artico("bob")
        """
        super().setUp()
        self.__server: ArticoServer | None = None
        self.__hub: Hub | None = None
        self.__peers = ClosingStack()
        self.__checks = TestChecks()
        self.__checks.start()
        # Cleanups run in reverse order, after those that the test adds.
        self.addCleanup(self.__check)
        self.addCleanup(self.__stop_server)
        self.addCleanup(self.__peers.close)

    @property
    def server(self) -> ArticoServer:
        """The test's signaling server, started on first use."""
        if self.__server is None:
            self.__server = ArticoServer(port=0).start()
        return self.__server

    @property
    def hub(self) -> Hub:
        """The test's signaling in memory, which needs no server."""
        if self.__hub is None:
            self.__hub = Hub()
            self.__peers.add(self.__hub)
        return self.__hub

    def make_artico(self, id: str | None = None, *, connect: bool = True, **options: Any) -> Artico:
        """Return a new peer on the test's server, which is closed after the test.

        Example:
            >>> rtco = self.make_artico("dave")
            >>> rtco.id, rtco.state
            ('dave', 'ready')

        Args:
            id: The peer id; by default a random one.
            connect: False to leave it unconnected.
            options: Further arguments of `Artico`; `rtc_config` has no STUN servers by default.

        Returns:
            The peer.

        Raises:
            TypeError: As raised by `Artico`.
            ValueError: As raised by `Artico`.
            IdTakenError: The id is in use.
            SignalingError: The server did not accept the peer.
        """
        if "signaling" not in options:
            options.setdefault("url", self.server.url)
        return self.__peers.make_client(connect=connect, id=id, **options)

    def make_fake_peer(self, id: str | None = None, script: Script | None = None) -> FakePeer:
        """Return a new `FakePeer` on the test's server, which is closed after the test.

        Example:
            >>> busy = self.make_fake_peer("busy", scripts.rejects())
            >>> self.make_artico().call("busy").wait_open(timeout=5)
            Traceback (most recent call last):
            artico_sync.errors.CallRejectedError: ...

        Args:
            id: The peer id; by default a random one.
            script: The script for incoming calls; by default the peer answers and echoes.

        Returns:
            The peer, connected.

        Raises:
            IdTakenError: The id is in use.
            SignalingError: The server did not accept the peer.
        """
        peer = FakePeer(self.server, id, script)
        self.__peers.add(peer)
        return peer.start()

    def connected_pair(
        self, metadata: str | None = None, *, timeout: float = 10, **options: Any
    ) -> ConnectedPair:
        """Connect two peers by a call, with signaling in memory; they are closed after the test.

        Example:
            >>> pair = self.connected_pair("hi")
            >>> pair.call.send("how are you?")
            >>> pair.incoming.recv(timeout=5), pair.incoming.metadata
            ('how are you?', 'hi')

        Args:
            metadata: The metadata of the call.
            timeout: Seconds for the call to open.
            options: Further arguments of `Artico`, for both peers.

        Returns:
            The peers and the two ends of the call.

        Raises:
            ArticoTimeoutError: The call did not open in time.
        """
        caller, callee = self.hub.make_artico(**options), self.hub.make_artico(**options)
        return connect_pair(caller, callee, metadata, timeout)

    def __stop_server(self) -> None:
        if self.__server is not None:
            self.__server.stop()

    def __check(self) -> None:
        problems = self.__checks.finish(self.settle_limit)
        if problems:
            self.fail(problems)
