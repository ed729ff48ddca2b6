"""The rules for threads, forks, Ctrl-C and exits, shown with real programs."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from artico_sync import (
    Artico,
    ArticoServer,
    ArticoTimeoutError,
    Call,
    ForkError,
    MemoryHub,
    SignalingError,
    SocketSignaling,
)
from artico_sync._bridge import portal as loop_module
from artico_sync._bridge.streams import FrameReader
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._engine.call_state import CallState
from tests.blocking import WAITING_MODULES, WaitWatch
from tests.command_line import running
from tests.conftest import RTC_CONFIG, TIME_UNIT, MakeArtico
from tests.forking import forks, in_child
from tests.polling import wait_until

TIMEOUT = 10


def run_program(
    source: str, *arguments: str, timeout: float = 30, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, as a user would."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(source), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def open_call(make_artico: MakeArtico) -> tuple[Artico, Call, Call]:
    alice, bob = make_artico(), make_artico()
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    incoming.wait_open(TIMEOUT)
    return alice, call, incoming


def test_blocking_calls_on_the_loop_thread_raise_at_once(
    make_artico: MakeArtico, server: ArticoServer
) -> None:
    alice, call, _ = open_call(make_artico)
    portal = loop_module.acquire_portal()
    blocking: list[Callable[[], Any]] = [
        alice.connect,
        alice.close,
        alice.wait_closed,
        lambda: alice.wait_for("call"),
        call.wait_open,
        call.wait_closed,
        call.recv,
        call.flush,
        call.hangup,
        lambda: call.send("x"),
        lambda: call.wait_for("data"),
        call.stats,
        server.wait_stopped,
    ]
    errors: list[Exception] = []
    done = threading.Event()

    def try_all() -> None:
        for function in blocking:
            try:
                function()
            except RuntimeError as error:
                errors.append(error)
        done.set()

    portal.post(try_all)
    assert done.wait(TIMEOUT)
    portal.release()
    assert len(errors) == len(blocking)
    assert all("event-loop thread" in str(error) for error in errors)
    assert call.open


def test_inside_a_running_loop_of_the_users(make_artico: MakeArtico) -> None:
    async def notebook_cell() -> str:
        _, call, incoming = open_call(make_artico)
        call.send("from a thread with a loop")
        message = incoming.recv(TIMEOUT)
        call.hangup()
        return str(message)

    assert asyncio.run(notebook_cell()) == "from a thread with a loop"


def test_one_call_used_by_many_threads(make_artico: MakeArtico) -> None:
    _, call, incoming = open_call(make_artico)
    received: list[str] = []

    def send(name: int) -> None:
        for number in range(50):
            call.send(f"{name}:{number}")

    def receive() -> None:
        for message in incoming:
            received.append(str(message))

    threads = [threading.Thread(target=send, args=(name,)) for name in range(4)]
    threads += [threading.Thread(target=receive) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads[:4]:
        thread.join(TIMEOUT)
    call.hangup()
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(received) == sorted(
        f"{name}:{number}" for name in range(4) for number in range(50)
    )


def test_a_handler_may_block_and_place_calls(make_artico: MakeArtico) -> None:
    _, call, incoming = open_call(make_artico)
    answers: list[Any] = []
    done = threading.Event()

    def ask_back(text: str) -> None:
        incoming.send("what?")
        incoming.off("data")
        answers.append(incoming.recv(TIMEOUT))
        done.set()

    incoming.on("data", ask_back)
    call.send("first")
    assert call.recv(TIMEOUT) == "what?"
    call.send("second")
    assert done.wait(TIMEOUT)
    assert answers == ["second"]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize(
    "wait",
    [
        lambda rtco, call: call.recv(),
        lambda rtco, call: call.wait_closed(),
        lambda rtco, call: call.wait_for("stream"),
        lambda rtco, call: rtco.wait_for("call"),
        lambda rtco, call: rtco.wait_closed(),
        lambda rtco, call: rtco.call("ringing").wait_open(None),
    ],
    ids=["recv", "wait_closed", "wait_for", "client wait_for", "client wait_closed", "wait_open"],
)
@pytest.mark.parametrize("wakes_it", [True, False])
def test_ctrl_c_ends_a_wait_and_leaves_the_call_usable(
    make_artico: MakeArtico, wait: Callable[[Artico, Call], Any], wakes_it: bool
) -> None:
    """The same if the wait itself is not interrupted, as with a signal just before it."""
    make_artico("ringing")
    alice, call, incoming = open_call(make_artico)
    main = threading.main_thread().ident
    assert main is not None
    pressed: list[float] = []
    watch = WaitWatch(*WAITING_MODULES)

    def press() -> None:
        wait_until(watch.is_blocked, "the wait", TIMEOUT)
        pressed.append(time.monotonic())
        signal.pthread_kill(main if wakes_it else threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt), watch:
        wait(alice, call)
    thread.join(TIMEOUT)
    assert time.monotonic() - pressed[0] < 5
    call.send("still usable")
    assert incoming.recv(TIMEOUT) == "still usable"


@pytest.mark.logs_errors  # the messages that were not delivered
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_ctrl_c_in_a_close_still_ends_the_calls(
    make_artico: MakeArtico, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loop that stalls for that long on a busy machine notifies no peer and closes nothing.
    monkeypatch.setattr("artico_sync._bridge.client.GOODBYE_SECONDS", float(TIMEOUT))
    alice, bob = make_artico(), make_artico(receive_buffer=512 * 1024)
    call = alice.call(bob.id)
    incoming = bob.wait_for("call", TIMEOUT).answer()
    call.wait_open(TIMEOUT)
    for _ in range(12):
        call.send(b"x" * 100_000)
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        # The close tries to deliver the messages until it is interrupted.
        wait_until(lambda: call._bridge.call_state is CallState.CLOSING, "the close", TIMEOUT)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        alice.close(timeout=None)
    thread.join(TIMEOUT)
    assert call.closed and call.close_reason == "hangup"
    assert alice.state == "disconnected"
    incoming.wait_closed(TIMEOUT)


def test_the_loop_thread_is_leased(make_artico: MakeArtico, server: ArticoServer) -> None:
    def loops() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "artico_sync-loop"]

    make_artico()
    make_artico()
    assert len(loops()) == 1
    server.stop()
    assert len(loops()) == 1


def test_importing_starts_nothing_and_is_light() -> None:
    done = run_program(
        """
        import sys, threading
        import artico_sync
        artico_sync.Artico("http://localhost:1")
        assert threading.active_count() == 1, threading.enumerate()
        heavy = {"aiortc", "aioice", "av", "numpy", "cryptography"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FORGETFUL = """
    import sys, time
    from artico_sync import Artico, ArticoServer
    server = ArticoServer(port=0).start()
    config = {"iceServers": []}
    alice = Artico(server.url, rtc_config=config).connect()
    bob = Artico(server.url, id="bob", rtc_config=config).connect()
    call = alice.call("bob")
    incoming = bob.wait_for("call", 10)
    bob.on("error", print)
    incoming.on("data", lambda text: time.sleep(100))
    incoming.answer()
    call.wait_open()
    call.send("x")
    sys.stdout.write(str(time.time()))
    sys.stdout.flush()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "code"),
    [("", 0), ("sys.exit(7)", 7), ("import os; os._exit(3)", 3)],
    ids=["falls off the end", "sys.exit", "os._exit"],
)
def test_a_script_that_forgets_to_close_exits_at_once(ending: str, code: int) -> None:
    done = run_program(textwrap.dedent(FORGETFUL) + ending)
    ended = time.time()
    assert (done.returncode, done.stderr) == (code, "")
    assert ended - float(done.stdout) < 15


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_script_leaves_a_server_that_hangs_at_once_and_silently() -> None:
    with running(["-m", "artico_sync", "serve", "--port", "0"]) as server:
        url = server.out.wait_for("serving at").split()[-1]
        program = f"""
            import os, signal, sys, time
            import logging
            logging.getLogger("asyncio").setLevel(logging.ERROR)  # a busy machine's slow callbacks
            from artico_sync import Artico
            config = {{"iceServers": []}}
            alice, bob = (Artico({url!r}, rtc_config=config).connect() for _ in range(2))
            alice.call(bob.id)
            bob.wait_for("call", 10).answer().wait_open()
            os.kill({server.process.pid}, signal.SIGSTOP)
            sys.stdout.write(str(time.time()))
        """
        done = run_program(program, options=("-X", "dev"))
        ended = time.time()
        assert (done.returncode, done.stderr) == (0, "")
        assert ended - float(done.stdout) < 15


@pytest.mark.slow
@pytest.mark.parametrize(
    "wait", ["recv()", "wait_for('stream')", "wait_for('close') or call.recv()"]
)
def test_a_daemon_thread_that_waits_at_the_exit_says_nothing(wait: str) -> None:
    waiting = f"import threading; threading.Thread(target=lambda: call.{wait}, daemon=True).start()"
    done = run_program(textwrap.dedent(FORGETFUL) + waiting)
    assert (done.returncode, done.stderr) == (0, "")


LATE = """
    import atexit, logging
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # a busy machine's slow callbacks
    late = []
    atexit.register(lambda: [close() for close in late])
    from artico_sync import Artico, ArticoServer, SocketSignaling
    server = ArticoServer(port=0).start()
    config = {"iceServers": []}
    bob = Artico(server.url, id="bob", rtc_config=config).connect()
    bob.on("call", lambda call: call.answer())
    signaling = SocketSignaling(server.url, "carol")
    signaling.connect()
    def use():
        with Artico(server.url, rtc_config=config) as alice, alice.call("bob") as call:
            yield
    user = use()
    next(user)
    class Closing:
        def __del__(self):
            bob.close()
            server.stop()
            signaling.disconnect()
    """


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    ["late += [bob.close, server.stop, signaling.disconnect, user.close]", "last = Closing()", ""],
    ids=["atexit", "__del__", "generator"],
)
def test_what_is_closed_after_the_goodbye_does_not_wait(way: str) -> None:
    done = run_program(textwrap.dedent(LATE) + way, options=("-X", "dev"))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_blocking_call_whose_time_is_up_says_so_however_its_work_ends() -> None:
    async def finish_when_cancelled() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        raise AssertionError

    async def run_out_of_time() -> None:
        raise TimeoutError("its own")

    portal = loop_module.acquire_portal()
    try:
        with pytest.raises(ArticoTimeoutError, match="after 0.05 s"):
            portal.run(finish_when_cancelled, timeout=0.05)
        with pytest.raises(TimeoutError, match="its own"):
            portal.run(run_out_of_time, timeout=TIMEOUT)
    finally:
        portal.release()


def test_a_loop_that_has_stopped_is_not_waited_for() -> None:
    async def nothing() -> None:
        """Stand for a function that never runs."""

    portal = loop_module.acquire_portal()
    portal.release()
    with pytest.raises(SignalingError, match="closed while this call"):
        portal.run(nothing)


def test_hanging_up_while_the_client_closes_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = MemoryHub()
    alice, bob = (
        Artico(signaling=hub.signaling(name), rtc_config=RTC_CONFIG).connect()
        for name in ("alice", "bob")
    )
    call = alice.call("bob")
    run = loop_module.Portal.run

    def run_later(portal: loop_module.Portal, *arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        alice.close()
        bob.close()
        assert portal.is_over
        return run(portal, *arguments, **options)

    monkeypatch.setattr(loop_module.Portal, "run", run_later)
    call.hangup()
    assert call.closed


@pytest.mark.slow
def test_a_script_that_raises_exits_with_its_own_traceback() -> None:
    done = run_program(textwrap.dedent(FORGETFUL) + "raise KeyError('mine')")
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1 and done.stderr.endswith("KeyError: 'mine'\n")


@pytest.mark.slow
def test_peers_hear_of_a_script_that_forgot_to_close(
    make_artico: MakeArtico, server: ArticoServer
) -> None:
    alice = make_artico("alice")
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import sys
                from artico_sync import Artico
                rtco = Artico(sys.argv[1], rtc_config={"iceServers": []}).connect()
                rtco.call("alice").wait_open()
                """
            ),
            server.url,
        ]
    )
    call = alice.wait_for("call", TIMEOUT * TIME_UNIT).answer()
    call.wait_open(TIMEOUT)
    call.wait_closed(TIMEOUT * TIME_UNIT)
    assert call.close_reason == "remote"
    assert program.wait(TIMEOUT * TIME_UNIT) == 0


@forks
def test_a_connected_client_refuses_in_a_child_and_lives_on_in_the_parent(
    make_artico: MakeArtico,
) -> None:
    alice, call, incoming = open_call(make_artico)

    def refuses() -> bool:
        for function in (
            alice.connect,
            alice.close,
            lambda: alice.call("bob"),
            lambda: alice.calls,
            lambda: call.send("x"),
            call.recv,
            call.hangup,
            call.answer,
            lambda: call.on("data", print),
            lambda: alice.off("call"),
            lambda: alice.wait_for("call", 0),
        ):
            try:
                function()
            except ForkError:
                continue
            return False
        return True

    assert in_child(refuses)
    call.send("unharmed")
    assert incoming.recv(TIMEOUT) == "unharmed"


@forks
def test_nothing_that_is_live_hangs_in_a_child(
    make_artico: MakeArtico, server: ArticoServer
) -> None:
    _, call, _ = open_call(make_artico)
    signaling = SocketSignaling(server.url, "dave")
    signaling.connect()
    received: Any = SimpleNamespace(kind="video")
    portal = loop_module.acquire_portal()
    reader = FrameReader(received, portal.post)
    reader._subscribed = True

    async def nothing() -> None:
        """Stand for a function that does not run in the child."""

    def refuses() -> bool:
        for function in (
            call.__enter__,
            signaling.connect,
            signaling.disconnect,
            server.wait_stopped,
            lambda: reader.get(Deadline(None)),
            lambda: portal.run(nothing),
            lambda: portal.post(print),
        ):
            try:
                function()
            except ForkError:
                continue
            return False
        return True

    try:
        assert in_child(refuses)
    finally:
        signaling.disconnect()
        portal.release()


@forks
def test_an_unconnected_client_connects_in_each_child_with_an_id_of_its_own(
    server: ArticoServer, make_artico: MakeArtico
) -> None:
    parent = make_artico("parent")
    prepared = Artico(server.url, rtc_config=RTC_CONFIG)
    own_id = prepared.id
    named = Artico(server.url, id="named", rtc_config=RTC_CONFIG)

    def connects() -> bool:
        with prepared as rtco:
            if rtco.id == own_id:
                return False
            with rtco.call("parent") as call:
                call.send("hello from the child")
                return bool(call.recv(TIMEOUT) == "HELLO FROM THE CHILD")

    def keeps_its_name() -> bool:
        with named as rtco:
            return rtco.id == "named"

    parent.on("call", lambda call: (call.on("data", lambda t: call.send(t.upper())), call.answer()))
    assert in_child(connects)
    assert in_child(keeps_its_name)
    assert prepared.id == own_id
    with prepared as rtco:
        assert rtco.id == own_id


def test_peers_on_a_hub_without_sockets() -> None:
    hub = MemoryHub()
    with (
        Artico(signaling=hub.signaling("alice"), rtc_config=RTC_CONFIG) as alice,
        Artico(signaling=hub.signaling("bob"), rtc_config=RTC_CONFIG) as bob,
    ):
        assert alice.id == "alice" and set(hub.peers) == {"alice", "bob"}
        bob.on("call", lambda call: call.answer())
        with alice.call("bob") as call:
            assert call.open
    assert hub.peers == ()
