"""`ArticoTestCase`: unittest with a server and peers, which looks at what a test left; user
threads."""

from __future__ import annotations

import unittest
from typing import Any

from artico_sync.artico import Artico
from artico_sync.server.server import ArticoServer
from artico_sync.testing.checks import Checks
from artico_sync.testing.fake_call import Script
from artico_sync.testing.fake_peer import FakePeer
from artico_sync.testing.hub import Hub
from artico_sync.testing.pair import ConnectedPair, connect_pair
from artico_sync.testing.peers import Peers, TestClient


class ArticoTestCase(unittest.TestCase):
    """A test case with a signalling server and peers, all closed after each test.

    A test fails when a handler raised an exception, or when a thread or a UDP socket of this
    library is left after it. A test that wants a handler to raise says so with
    `self.assertLogs("artico_sync.events", "ERROR")`.

    It goes together with other test cases, Django's for example: `class MyTest(ArticoTestCase,
    django.test.TestCase)`. A `setUp` of one's own calls `super().setUp()`.

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

    #: Seconds that what a test left running gets to end by itself.
    settle_limit = 3.0

    def setUp(self) -> None:
        """Begin to look at what the test does; one of your own calls this first.

        Example:
            >>> class MyTest(ArticoTestCase):
            ...     def setUp(self):
            ...         super().setUp()
            ...         self.bob = self.make_artico("bob")
        """
        super().setUp()
        self.__server: ArticoServer | None = None
        self.__hub: Hub | None = None
        self.__peers = Peers()
        self.__checks = Checks()
        self.__checks.start()
        # Cleanups run in reverse: what tests add, then these.
        self.addCleanup(self.__check)
        self.addCleanup(self.__stop_server)
        self.addCleanup(self.__peers.close)

    @property
    def server(self) -> ArticoServer:
        """The test's signalling server, started when first asked for."""
        if self.__server is None:
            self.__server = ArticoServer(port=0).start()
        return self.__server

    @property
    def hub(self) -> Hub:
        """The test's signalling in memory, for what needs no server."""
        if self.__hub is None:
            self.__hub = Hub()
            self.__peers.add(self.__hub)
        return self.__hub

    def make_artico(self, id: str | None = None, *, connect: bool = True, **options: Any) -> Artico:
        """A peer on the test's server, closed after the test.

        Example:
            >>> rtco = self.make_artico("dave")
            >>> rtco.id, rtco.state
            ('dave', 'ready')

        Args:
            id: The wanted peer id, else a random one.
            connect: Connect it.
            options: As for `Artico`; no STUN servers unless `rtc_config` names some.

        Returns:
            The peer.

        Raises:
            TypeError, ValueError: As `Artico`.
            IdTakenError, SignalingError: As `Artico.connect`.
        """
        if "signaling" not in options:
            options.setdefault("url", self.server.url)
        rtco = TestClient(id=id, **options)
        self.__peers.add(rtco)
        return rtco.connect() if connect else rtco

    def make_fake_peer(self, id: str | None = None, script: Script | None = None) -> FakePeer:
        """A fake peer on the test's server, closed after the test; see `FakePeer`.

        Example:
            >>> busy = self.make_fake_peer("busy", scripts.rejects())
            >>> self.make_artico().call("busy").wait_open(timeout=5)
            Traceback (most recent call last):
            artico_sync.errors.CallRejectedError: ...

        Args:
            id: The wanted peer id, else a random one.
            script: What it does with incoming calls; it answers and echoes by default.

        Returns:
            The peer, connected.

        Raises:
            IdTakenError, SignalingError: As `Artico.connect`.
        """
        peer = FakePeer(self.server, id, script)
        self.__peers.add(peer)
        return peer.start()

    def connected_pair(
        self, metadata: str | None = None, *, timeout: float = 10, **options: Any
    ) -> ConnectedPair:
        """Two peers with an open call between them, signalling in memory; closed after the test.

        Example:
            >>> pair = self.connected_pair("hi")
            >>> pair.call.send("how are you?")
            >>> pair.incoming.recv(timeout=5), pair.incoming.metadata
            ('how are you?', 'hi')

        Args:
            metadata: Given with the call.
            timeout: Seconds the call may take to open.
            options: As for `Artico`, for both peers.

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
