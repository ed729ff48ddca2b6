"""`serve_forever`: a server with a process of its own, stopped by signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from artico_sync import ArticoServer
from artico_sync.server.server import serve_forever
from tests.unit.server.raw_peer import WAIT

PROGRAM = """
import logging, sys
from artico_sync.server.server import ArticoServer, serve_forever
# Development mode also reports callbacks that are slow on a busy machine.
logging.getLogger("asyncio").setLevel(logging.ERROR)
server = ArticoServer(port=0)
serve_forever(server, on_started=lambda: print(server.url, flush=True))
print("left with", server.peers, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="other platforms have no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_gracefully_and_silently(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        output, errors = process.communicate(timeout=3 * WAIT)
    assert (output, errors, process.returncode) == ("left with ()\n", "", 0)


def test_stop_from_another_thread_ends_it() -> None:
    server = ArticoServer(port=0)
    stopping = threading.Thread(target=server.stop)
    serve_forever(server, on_started=stopping.start)
    stopping.join()
    with pytest.raises(RuntimeError, match="start"):
        _ = server.url


def test_it_may_run_on_another_thread() -> None:
    server, started = ArticoServer(port=0), threading.Event()
    serving = threading.Thread(
        target=serve_forever, args=(server,), kwargs={"on_started": started.set}
    )
    serving.start()
    assert started.wait(WAIT)
    server.stop()
    serving.join(WAIT)
    assert not serving.is_alive()


def test_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    server = ArticoServer(port=0)

    def terminate() -> None:
        assert signal.getsignal(signal.SIGTERM) is not before
        signal.raise_signal(signal.SIGTERM)

    serve_forever(server, on_started=terminate)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_server_that_cannot_start_raises() -> None:
    with ArticoServer(port=0) as server:
        port = int(server.url.rpartition(":")[2])
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(OSError, match="in use"):
            serve_forever(ArticoServer(port=port))
        assert signal.getsignal(signal.SIGINT) is before


FORGETFUL = """
import gc, logging, sys
from artico_sync import Artico, ArticoServer
# Development mode also reports callbacks that are slow on a busy machine.
logging.getLogger("asyncio").setLevel(logging.ERROR)
server = ArticoServer(port=0).start()
if "peers" in sys.argv:
    alice, bob = (Artico(server.url, rtc_config={"iceServers": []}).connect() for _ in range(2))
    call = alice.call(bob.id)
    bob.wait_for("call", 10).answer()
    call.wait_open(10)
if "collected" in sys.argv:
    del server
    gc.collect()
raise SystemExit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["alone", "peers", "collected"])
def test_a_script_that_forgets_to_stop_exits_at_once_and_silently(how: str) -> None:
    # Development mode reports resources that are not closed.
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", FORGETFUL, how],
        capture_output=True,
        text=True,
        timeout=3 * WAIT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")
