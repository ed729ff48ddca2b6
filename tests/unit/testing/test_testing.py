"""`artico_sync.testing`: pairs, the hub, the test case, the fixtures and the fake peers."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    CallClosedError,
    CallError,
    CallRejectedError,
    IdTakenError,
    NotReadyError,
    PeerUnavailableError,
)
from artico_sync.testing import ArticoTestCase, FakeCall, FakePeer, Hub, connected_pair, scripts
from artico_sync.testing.scripts import GARBAGE_MESSAGES
from tests.conftest import TIME_UNIT, MakeArtico
from tests.polling import wait_until

TIMEOUT = 10


# pairs and hubs


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


def test_a_call_between_peers_of_a_test_costs_less_than_a_tenth_of_a_second() -> None:
    seconds: list[float] = []
    while len(seconds) < 5 or (min(seconds) >= 0.1 * TIME_UNIT and len(seconds) < 50):
        start = perf_counter()
        with connected_pair() as pair:
            pair.call.send("x")
            pair.incoming.recv(TIMEOUT)
        seconds.append(perf_counter() - start)
    # The first pays for the imports; the best says what it costs on a busy machine, too.
    assert min(seconds) < 0.1 * TIME_UNIT, seconds


def test_options_of_a_pair_are_those_of_its_peers() -> None:
    with connected_pair(send_buffer=1000) as pair:
        pair.call.send("x" * 100_000)
        assert pair.incoming.recv(TIMEOUT) == "x" * 100_000


def test_a_hub_joins_its_peers_and_closes_them() -> None:
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


# the test case


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
def test_a_test_whose_handler_raised_fails() -> None:
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
def test_an_error_nobody_handles_is_no_fault_of_a_handler() -> None:
    class Case(ArticoTestCase):
        def test_it(self) -> None:
            self.connected_pair()
            logging.getLogger("artico_sync.events").error("call with bob: something happened")

    assert run_case(Case).wasSuccessful()


def test_a_test_that_leaves_something_running_fails() -> None:
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


def test_threads_of_the_program_are_none_of_its_business() -> None:
    end = threading.Event()
    own = threading.Thread(target=end.wait, name="program")

    class Case(ArticoTestCase):
        def test_it(self) -> None:
            own.start()

    result = run_case(Case)
    end.set()
    own.join()
    assert result.wasSuccessful()


def test_it_goes_together_with_other_test_cases() -> None:
    class Other(unittest.TestCase):
        def setUp(self) -> None:
            super().setUp()
            self.other = True

    class Case(ArticoTestCase, Other):
        def test_it(self) -> None:
            self.assertTrue(self.other)
            self.assertEqual(self.server.peers, ())

    assert run_case(Case).wasSuccessful()


PYTEST_FILE = """
    pytest_plugins = ["artico_sync.testing.pytest_plugin"]

    def test_pair(artico_pair):
        artico_pair.call.send("x")
        assert artico_pair.incoming.recv(timeout=10) == "x"

    def test_fake(make_artico, make_fake_peer):
        make_fake_peer("bob")
        with make_artico("alice").call("bob") as call:
            call.send("x")
            assert call.recv(timeout=10) == "x"

    def test_hub_and_server(artico_hub, artico_server):
        artico_hub.make_artico("alice")
        assert artico_hub.peers == ("alice",) and artico_server.peers == ()

    def test_raises(artico_pair):
        def handler(text):
            raise ZeroDivisionError
        artico_pair.incoming.on("data", handler)
        artico_pair.call.send("x")
        artico_pair.call.hangup()
        artico_pair.incoming.wait_closed()
"""


def test_the_fixtures_of_pytest(tmp_path: Path) -> None:
    path = tmp_path / "test_program.py"
    path.write_text(textwrap.dedent(PYTEST_FILE), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", str(path)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=50,
    )
    # The handler's exception comes at the end of the test, so the test itself has passed.
    assert "4 passed, 1 error" in done.stdout, done.stdout
    assert "exception in the handler of 'data'" in done.stdout


# fake peers


@pytest.fixture(params=["hub", "server", "url"])
def place(request: pytest.FixtureRequest) -> Hub | ArticoServer | str:
    if request.param == "hub":
        hub: Hub = request.getfixturevalue("hub")
        return hub
    server: ArticoServer = request.getfixturevalue("server")
    return server if request.param == "server" else server.url


def test_a_fake_peer_lives_where_it_is_told_to(place: Hub | ArticoServer | str) -> None:
    with Hub() as hub, FakePeer(place if not isinstance(place, Hub) else hub, "bob") as bob:
        assert bob.id == "bob" and bob.calls == ()
        if isinstance(place, Hub):
            alice = hub.make_artico()
        else:
            url = place if isinstance(place, str) else place.url
            alice = Artico(url, rtc_config={"iceServers": []}).connect()
        with alice.call("bob") as call:
            call.send("echo?")
            assert call.recv(TIMEOUT) == "echo?"
        alice.close()
        assert bob.wait_for_call().received == ("echo?",)
    assert bob.artico.state == "disconnected"


@pytest.fixture
def hub() -> object:
    return Hub()


def test_a_fake_peer_needs_a_place() -> None:
    with pytest.raises(TypeError):
        FakePeer(5)  # type: ignore[arg-type]


def test_it_answers_late() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.answers_late(4)):
        rtco = hub.make_artico()
        start = perf_counter()
        call = rtco.call("bob")
        with pytest.raises(ArticoTimeoutError):
            call.wait_open(0.1)
        call.wait_open(TIMEOUT)
        assert perf_counter() - start >= 4
        call.send("x")
        assert call.recv(TIMEOUT) == "x"


def test_a_caller_that_gives_up_ends_the_script() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.answers_late(60)) as bob:
        call = hub.make_artico().call("bob")
        fake = bob.wait_for_call()
        call.hangup()
        fake.wait_done(TIMEOUT)
        assert not fake.call.open


@pytest.mark.parametrize("after", [0.0, 0.1])
def test_it_rejects(after: float) -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.rejects(after)):
        call = hub.make_artico().call("bob")
        with pytest.raises(CallRejectedError):
            call.wait_open(TIMEOUT)
        assert call.close_reason == "rejected"


def test_a_block_that_runs_out_of_time_says_so_and_ends_the_ringing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = Call.wait_open
    monkeypatch.setattr(Call, "wait_open", lambda call: waiting(call, 0.2))
    with Hub() as hub, FakePeer(hub, "bob", scripts.never_answers()) as bob:
        with pytest.raises(ArticoTimeoutError, match="for the call to open"):
            with hub.make_artico().call("bob"):
                pytest.fail("it opened")
        bob.wait_for_call().wait_done(TIMEOUT)


def test_it_never_answers() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.never_answers()) as bob:
        call = hub.make_artico().call("bob")
        fake = bob.wait_for_call()
        with pytest.raises(ArticoTimeoutError):
            call.wait_open(0.1)
        with pytest.raises(ArticoTimeoutError):
            fake.wait_done(0)
    fake.wait_done(TIMEOUT)


@pytest.mark.parametrize("messages", [0, 2])
def test_it_hangs_up_after_some_messages(messages: int) -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.hangs_up(messages)):
        call = hub.make_artico().call("bob")
        if messages:
            call.wait_open(TIMEOUT)
        for number in range(messages):
            call.send(str(number))
        assert list(call) == [str(number) for number in range(messages)]
        assert call.close_reason == "remote"


def test_it_goes_silent(server: ArticoServer) -> None:
    with FakePeer(server, "bob", scripts.goes_silent(1)) as bob:
        with Artico(server.url, rtc_config={"iceServers": []}, silence_timeout=1) as alice:
            call = alice.call("bob").wait_open(TIMEOUT)
            call.send("x")
            assert call.recv(TIMEOUT) == "x"
            wait_until(lambda: bob.calls[0].silent, "the silence")
            with pytest.raises(CallClosedError):
                call.send("y")
                call.recv(TIMEOUT)
            assert call.close_reason == "failed"
        start = perf_counter()
    assert perf_counter() - start < 1 * TIME_UNIT


def test_garbage_messages_arrive_as_they_are() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.sends_garbage()):
        with hub.make_artico().call("bob") as call:
            expected = [
                one for one in GARBAGE_MESSAGES if not (isinstance(one, str) and "cmd" in one)
            ]
            assert [call.recv(TIMEOUT) for _ in expected] == expected
            call.send("still there?")
            assert call.recv(TIMEOUT) == "still there?"


@pytest.mark.parametrize("where", ["hub", "server"])
def test_a_call_survives_garbage_signals(where: str, server: ArticoServer) -> None:
    with (
        Hub() as hub,
        FakePeer(hub if where == "hub" else server, "bob", scripts.sends_garbage_signals()) as bob,
    ):
        signaling = {"signaling": hub.signaling()} if where == "hub" else {"url": server.url}
        with Artico(rtc_config={"iceServers": []}, **signaling) as alice:
            call = alice.call("bob")
            call.on("error", lambda error: None)
            call.wait_open(TIMEOUT)
            call.send("still there?")
            assert call.recv(TIMEOUT) == "still there?"
            call.hangup()
            bob.wait_for_call().wait_done(TIMEOUT)


def test_a_script_of_ones_own_and_signals_out_of_the_blue() -> None:
    def script(call: FakeCall) -> None:
        call.answer()
        call.send("one", b"two")
        assert call.receive(TIMEOUT) == "thanks"
        call.hangup()

    with Hub() as hub, FakePeer(hub, "bob", script) as bob:
        alice = hub.make_artico("alice")
        bob.signal("alice", {"type": "sdp", "data": 5})
        with alice.call("bob") as call:
            assert [call.recv(TIMEOUT), call.recv(TIMEOUT)] == ["one", b"two"]
            call.send("thanks")
            assert bob.wait_for_call().wait_done(TIMEOUT).received == ("thanks",)
        with pytest.raises(ArticoTimeoutError):
            alice.wait_for("call", 0)


@pytest.mark.logs_errors
def test_a_script_that_fails_says_so() -> None:
    def script(call: FakeCall) -> None:
        call.answer()
        assert call.receive(TIMEOUT) == "expected"

    with Hub() as hub, FakePeer(hub, "bob", script) as bob:
        with hub.make_artico().call("bob") as call:
            call.send("other")
            with pytest.raises(AssertionError):
                bob.wait_for_call().wait_done(TIMEOUT)


def test_a_fake_peer_calls() -> None:
    with Hub() as hub, FakePeer(hub, "bob") as bob:
        alice = hub.make_artico("alice")
        fake = bob.call("alice", scripts.hangs_up(1), metadata="hi")
        call = alice.wait_for("call", TIMEOUT)
        assert (call.metadata, call.target) == ("hi", "bob")
        with call.answer():
            call.send("x")
            assert list(call) == ["x"]
        assert fake.wait_done(TIMEOUT).received == ("x",)


def test_a_fake_peer_calls_step_by_step() -> None:
    with Hub() as hub, FakePeer(hub, "bob") as bob:
        alice = hub.make_artico("alice")
        fake = bob.call("alice")
        alice.wait_for("call", TIMEOUT).answer()
        fake.wait_open(TIMEOUT)
        fake.go_silent()
        assert fake.silent and "bob" in repr(bob)
        with pytest.raises(CallError):
            fake.answer()


def test_a_peer_that_is_not_connected_cannot_call() -> None:
    with pytest.raises(NotReadyError):
        FakePeer(Hub(), "bob").call("alice")


def test_waiting_for_a_call_times_out(make_artico: MakeArtico, server: ArticoServer) -> None:
    with FakePeer(server, "bob") as bob, pytest.raises(ArticoTimeoutError):
        bob.wait_for_call(0.05)
