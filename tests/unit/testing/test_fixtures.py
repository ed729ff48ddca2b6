"""Tests of pairs, the hub and the unittest test case."""

from __future__ import annotations

import logging
import threading
import unittest
from collections.abc import Callable
from time import perf_counter

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    Call,
    CallRejectedError,
    IdTakenError,
    PeerUnavailableError,
)
from artico_sync.testing import ArticoTestCase, Hub, connected_pair, scripts
from tests.conftest import TIME_UNIT

TIMEOUT = 10


def test_a_connected_pair_talks() -> None:
    with connected_pair("hello") as pair:
        pair.call.send("how are you?")
        assert pair.incoming.recv(TIMEOUT) == "how are you?"
        pair.incoming.send(b"fine")
        assert pair.call.recv(TIMEOUT) == b"fine"
        assert (pair.call.initiator, pair.incoming.initiator) == (True, False)
        assert pair.call.metadata == pair.incoming.metadata == "hello"
        assert (pair.call.target, pair.incoming.target) == (pair.callee.id, pair.caller.id)
    assert pair.call.closed and pair.incoming.closed
    assert pair.caller.state == pair.callee.state == "disconnected"


def test_a_connected_pair_takes_less_than_a_tenth_of_a_second() -> None:
    seconds: list[float] = []
    while len(seconds) < 5 or (min(seconds) >= 0.1 * TIME_UNIT and len(seconds) < 50):
        start = perf_counter()
        with connected_pair() as pair:
            pair.call.send("x")
            pair.incoming.recv(TIMEOUT)
        seconds.append(perf_counter() - start)
    # The first includes the imports; the best is meaningful on a busy machine, too.
    assert min(seconds) < 0.1 * TIME_UNIT, seconds


def test_options_of_a_pair_go_to_its_peers() -> None:
    with connected_pair(send_buffer=1000) as pair:
        pair.call.send("x" * 100_000)
        assert pair.incoming.recv(TIMEOUT) == "x" * 100_000


def test_a_hub_connects_its_peers_and_closes_them() -> None:
    with Hub() as hub:
        alice = hub.make_artico("alice")
        bob = hub.make_artico("bob", connect=False)
        assert list(hub.peers) == ["alice"] and bob.state == "disconnected"
        with pytest.raises(IdTakenError):
            hub.make_artico("alice")
        with pytest.raises(PeerUnavailableError):
            alice.call("bob").wait_open(TIMEOUT)
        bob.connect()
        call = alice.call("bob")
        with bob.wait_for("call", TIMEOUT).answer():
            call.wait_open(TIMEOUT)
            assert list(hub.peers) == ["alice", "bob"]
    assert list(hub.peers) == [] and alice.state == "disconnected"
    hub.close()


def run_case(case: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


def test_a_test_case_has_a_server_and_peers_and_ends_them() -> None:
    peers: list[Artico] = []
    servers: list[ArticoServer] = []

    class Case(ArticoTestCase):
        def test_calls(self) -> None:
            bob = self.make_artico("bob")
            alice = self.make_artico()
            peers.extend((alice, bob))
            servers.append(self.server)
            call = alice.call("bob")
            bob.wait_for("call", TIMEOUT).answer()
            call.wait_open(TIMEOUT)
            self.assertEqual(self.server.peers, ("bob", alice.id))

        def test_a_pair(self) -> None:
            pair = self.connected_pair("hi")
            pair.call.send("x")
            self.assertEqual(pair.incoming.recv(TIMEOUT), "x")
            self.assertEqual(pair.incoming.metadata, "hi")

        def test_a_peer_of_a_hub(self) -> None:
            with self.make_artico(signaling=self.hub.signaling("carol")) as carol:
                self.assertEqual(self.hub.peers, ("carol",))
                self.assertEqual(carol.state, "ready")

        def test_a_fake_peer(self) -> None:
            self.make_fake_peer("dave", scripts.rejects())
            with self.assertRaises(CallRejectedError):
                self.make_artico().call("dave").wait_open(TIMEOUT)

    result = run_case(Case)
    assert result.testsRun == 4 and result.wasSuccessful(), result.errors + result.failures
    assert [peer.state for peer in peers] == ["disconnected"] * 2
    assert servers[0].peers == ()


def raise_in_handler(pair_of: Callable[[], tuple[Call, Call]]) -> None:
    call, incoming = pair_of()
    done = threading.Event()

    def handler(text: str) -> None:
        done.set()
        raise ZeroDivisionError(text)

    incoming.on("data", handler)
    call.send("boom")
    assert done.wait(TIMEOUT)


@pytest.mark.logs_errors
def test_an_exception_in_a_handler_fails_the_test() -> None:
    class Case(ArticoTestCase):
        def pair(self) -> tuple[Call, Call]:
            pair = self.connected_pair()
            return pair.call, pair.incoming

        def test_unexpected(self) -> None:
            raise_in_handler(self.pair)

        def test_expected(self) -> None:
            with self.assertLogs("artico_sync.events", "ERROR"):
                raise_in_handler(self.pair)
                self.hub.close()

    result = run_case(Case)
    assert not result.errors
    [(test, text)] = result.failures
    assert test.id().endswith("test_unexpected")
    assert "ZeroDivisionError: boom" in text and "exception in the handler of 'data'" in text


@pytest.mark.logs_errors
def test_an_error_event_without_handler_does_not_fail_the_test() -> None:
    class Case(ArticoTestCase):
        def test_it(self) -> None:
            self.connected_pair()
            logging.getLogger("artico_sync.events").error("call with bob: something happened")

    assert run_case(Case).wasSuccessful()


def test_a_client_left_running_fails_the_test() -> None:
    left: list[Artico] = []

    class Case(ArticoTestCase):
        settle_limit = 0.05

        def test_it(self) -> None:
            left.append(Artico(signaling=self.hub.signaling("left")).connect())

    result = run_case(Case)
    for rtco in left:
        rtco.close()
    [(_, text)] = result.failures
    assert "left running by the test:" in text and "thread artico_sync-loop" in text


def test_threads_of_the_program_are_ignored() -> None:
    end = threading.Event()
    own = threading.Thread(target=end.wait, name="program")

    class Case(ArticoTestCase):
        def test_it(self) -> None:
            own.start()

    result = run_case(Case)
    end.set()
    own.join()
    assert result.wasSuccessful()


def test_it_can_be_combined_with_other_test_cases() -> None:
    class Other(unittest.TestCase):
        def setUp(self) -> None:
            super().setUp()
            self.other = True

    class Case(ArticoTestCase, Other):
        def test_it(self) -> None:
            self.assertTrue(self.other)
            self.assertEqual(self.server.peers, ())

    assert run_case(Case).wasSuccessful()
