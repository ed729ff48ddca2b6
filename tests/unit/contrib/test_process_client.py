"""One client a process, and calls that last as long as a block."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    NotReadyError,
    PeerUnavailableError,
)
from artico_sync.contrib.process_client import ProcessClient, calling
from artico_sync.testing import FakePeer, Hub, scripts
from tests.polling import wait_until

TIMEOUT = 10


def make_on(hub: Hub, made: list[Artico]) -> ProcessClient:
    def make() -> Artico:
        made.append(Artico(signaling=hub.signaling(), rtc_config={"iceServers": []}))
        return made[-1]

    return ProcessClient(make)


def test_nothing_is_made_before_it_is_needed_and_only_once() -> None:
    made: list[Artico] = []
    client = make_on(Hub(), made)
    assert made == []
    assert client.get() is client.get() is made[0]
    assert made[0].state == "disconnected"
    threads = [threading.Thread(target=client.connected, args=(TIMEOUT,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(made) == 1 and made[0].state == "ready"
    client.close(TIMEOUT)
    client.close(TIMEOUT)
    assert made[0].state == "disconnected"


def test_a_closed_client_is_followed_by_another() -> None:
    made: list[Artico] = []
    client = make_on(Hub(), made)
    first = client.connected(TIMEOUT)
    client.close(TIMEOUT)
    assert client.connected(TIMEOUT) is not first
    client.close(TIMEOUT)


def test_handlers_registered_before_and_after_it_was_made() -> None:
    hub = Hub()
    client = make_on(hub, [])
    opened, called = threading.Event(), threading.Event()
    client.on("open", lambda: opened.set())
    rtco = client.connected(TIMEOUT)
    assert opened.wait(TIMEOUT)
    client.on("call", lambda call: called.set())
    with FakePeer(hub, "bob") as bob:
        bob.call(rtco.id)
        assert called.wait(TIMEOUT)
        client.close(TIMEOUT)


def test_handlers_are_checked_at_once() -> None:
    client = make_on(Hub(), [])
    with pytest.raises(ValueError, match="the events are call, close"):
        client.on("ring", lambda: None)
    with pytest.raises(TypeError):
        client.on("call", lambda call, metadata, more: None)


def test_a_call_lasts_as_long_as_the_block() -> None:
    with Hub() as hub, FakePeer(hub, "bob"):
        rtco = hub.make_artico()
        with calling(rtco, "bob", "hi", TIMEOUT) as call:
            assert call.open and call.metadata == "hi"
            call.send("x")
            assert call.recv(TIMEOUT) == "x"
        assert call.close_reason == "hangup"


def test_a_call_is_over_when_the_block_fails() -> None:
    with Hub() as hub, FakePeer(hub, "bob"):
        calls: list[Call] = []
        with pytest.raises(ZeroDivisionError), calling(hub.make_artico(), "bob") as call:
            calls.append(call)
            raise ZeroDivisionError
        assert calls[0].close_reason == "hangup"


def test_an_unanswered_call_is_cancelled() -> None:
    with Hub() as hub, FakePeer(hub, "bob", scripts.never_answers()) as bob:
        with pytest.raises(ArticoTimeoutError, match="for the call to open"):
            with calling(hub.make_artico(), "bob", timeout=0.2):
                pytest.fail("it opened")
        bob.wait_for_call().wait_done(TIMEOUT)


def test_what_happened_matters_more_than_what_could_not_be_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hangup = Call.hangup

    def failing(call: Call, timeout: float | None = 5) -> None:
        hangup(call, timeout)
        raise ArticoTimeoutError("not delivered")

    monkeypatch.setattr(Call, "hangup", failing)
    with Hub() as hub, FakePeer(hub, "bob"):
        rtco = hub.make_artico()
        with pytest.raises(ZeroDivisionError), calling(rtco, "bob"):
            raise ZeroDivisionError
        with pytest.raises(ArticoTimeoutError, match="not delivered"), calling(rtco, "bob"):
            pass


def test_calls_that_cannot_be_placed() -> None:
    with Hub() as hub:
        rtco = hub.make_artico(connect=False)
        with pytest.raises(NotReadyError), calling(rtco, "bob"):
            pytest.fail("it opened")
        rtco.connect()
        with pytest.raises(PeerUnavailableError), calling(rtco, "bob"):
            pytest.fail("it opened")


PROGRAM = """
    import os, sys, threading
    from artico_sync import Artico
    from artico_sync.contrib.process_client import ProcessClient

    client = ProcessClient(lambda: Artico(sys.argv[1], rtc_config={"iceServers": []}))
    if "connect" in sys.argv:
        client.connected(10)
    if "held" in sys.argv:
        # Another thread holds the lock at the moment of the fork, and dies with it.
        client._lock.acquire()
    parent = client._artico and client._artico.id
    child = os.fork()
    if child == 0:
        rtco = client.connected(10)
        assert rtco.id != parent
        sys.stdout.write("child ready\\n")
        sys.stdout.flush()
        sys.exit(0)
    if "held" in sys.argv:
        client._lock.release()
    _, status = os.waitpid(child, 0)
    if parent:
        assert client.connected(10).id == parent
    sys.stdout.write(f"child ended {status}\\n")
    sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["plain", "connect", "held"])
def test_each_process_connects_for_itself_and_leaves_at_its_exit(
    server: ArticoServer, how: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), server.url, how],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.returncode) == ("child ready\nchild ended 0\n", 3), done.stderr
    wait_until(lambda: server.peers == (), "their leaving")


SIGNALLED = """
    import signal, sys, time
    from artico_sync import Artico
    from artico_sync.contrib.process_client import ProcessClient

    client = ProcessClient(lambda: Artico(sys.argv[1], rtc_config={"iceServers": []}))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with client.connected(10).call("bob") as call:
        call.send("last words")
        sys.stdout.write("open\\n")
        sys.stdout.flush()
        while True:
            time.sleep(0.1)
"""


@pytest.mark.slow
def test_an_exit_delivers_what_was_sent(server: ArticoServer) -> None:
    with FakePeer(server, "bob") as bob:
        process: Any = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SIGNALLED), server.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout.readline() == "open\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT) == 0
        fake = bob.wait_for_call().wait_done(TIMEOUT)
        assert fake.received == ("last words",)
        assert fake.call.close_reason == "remote"
