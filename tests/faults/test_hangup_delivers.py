"""Messages sent before a hang-up arrive, over bad networks too; a failure is reported."""

from __future__ import annotations

import hashlib
import queue
import threading
import time

import pytest

from artico_sync import ArticoTimeoutError, Call, CallClosedError
from tests.conftest import TIME_UNIT
from tests.faults.network import Network

LIMIT = 100.0 * TIME_UNIT
MIB = 1024 * 1024


class Reader:
    """Reads a call to its end in a thread of its own."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._digest = hashlib.sha256()
        self.size = self.count = 0
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for message in self._call:
            assert isinstance(message, bytes)
            self._digest.update(message)
            self.size += len(message)
            self.count += 1

    def digest(self) -> bytes:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        return self._digest.digest()


def blocks(total: int, size: int) -> list[bytes]:
    return [number.to_bytes(4, "big") * (size // 4) for number in range(total // size)]


@pytest.mark.timeout(150 * TIME_UNIT)
@pytest.mark.parametrize("direction", ["caller", "callee"])
def test_20_megabytes_in_flight_over_a_lossy_link(network: Network, direction: str) -> None:
    """All of it waits in the buffers when the call is hung up."""
    relay = network.relay(delay=0.001, loss=0.05)
    ends = network.connect(relay, send_buffer=32 * MIB)
    sender = ends.end(direction)
    reader = Reader(ends.callee if direction == "caller" else ends.caller)
    data = blocks(20 * MIB, 64 * 1024)
    for block in data:
        sender.send(block, timeout=0)
    sender.hangup(timeout=LIMIT)
    assert sender.close_reason == "hangup"
    assert reader.digest() == hashlib.sha256(b"".join(data)).digest()
    assert sum(side.lost for side in relay.directions.values()) > 100


@pytest.mark.parametrize(
    "faults",
    [
        {"delay": 0.05},
        {"loss": 0.05, "delay": 0.01, "jitter": 0.01},
        {"reorder": 0.2, "delay": 0.005},
        {"duplicate": 0.3, "loss": 0.02},
        {"rate": 20_000_000, "queue": 60_000, "delay": 0.01},
    ],
    ids=lambda faults: "-".join(faults),
)
def test_a_hangup_delivers_over_every_kind_of_bad_link(
    network: Network, faults: dict[str, float]
) -> None:
    ends = network.connect(network.relay(**faults))
    reader = Reader(ends.callee)
    data = blocks(MIB, 16 * 1024)
    for block in data:
        ends.caller.send(block)
    ends.caller.hangup(timeout=LIMIT)
    assert reader.digest() == hashlib.sha256(b"".join(data)).digest()
    assert ends.callee.close_reason == "remote"


def test_both_ends_hang_up_at_once_and_deliver(network: Network) -> None:
    ends = network.connect(network.relay(delay=0.02, loss=0.02))
    readers = Reader(ends.caller), Reader(ends.callee)
    data = blocks(MIB // 4, 4096)
    for block in data:
        ends.caller.send(block)
        ends.callee.send(block)
    other = threading.Thread(target=lambda: ends.callee.hangup(LIMIT))
    other.start()
    ends.caller.hangup(LIMIT)
    other.join(LIMIT)
    wanted = hashlib.sha256(b"".join(data)).digest()
    assert [reader.digest() for reader in readers] == [wanted, wanted]


def test_flush_is_true_when_it_says_so(network: Network) -> None:
    """Nothing is lost after `flush` returns True, even if the network fails immediately."""
    relay = network.relay(delay=0.02, loss=0.05)
    ends = network.connect(relay, silence_timeout=2.0 * TIME_UNIT)
    data = blocks(MIB // 2, 8192)
    for block in data:
        ends.caller.send(block)
    ends.caller.flush(timeout=LIMIT)
    assert ends.caller.stats()["pending"] == 0
    relay.cut()
    assert [ends.callee.recv(LIMIT) for _ in data] == data
    ends.callee.wait_closed(LIMIT)
    assert ends.callee.close_reason == "failed"


def test_flush_ends_when_the_call_is_lost(network: Network) -> None:
    relay = network.relay(delay=0.02)
    ends = network.connect(relay, silence_timeout=1.5 * TIME_UNIT)
    relay.cut()
    ends.caller.send("lost")
    with pytest.raises(CallClosedError):
        ends.caller.flush(LIMIT)
    assert ends.caller.close_reason == "failed"


@pytest.mark.parametrize("leaving", ["hangup", "close", "with"])
def test_a_hangup_that_cannot_deliver_says_so_and_closes(network: Network, leaving: str) -> None:
    relay = network.relay(delay=0.02)
    ends = network.connect(relay)
    errors: list[Exception] = []
    reported = threading.Event()

    def note(error: Exception) -> None:
        errors.append(error)
        reported.set()

    ends.caller.on("error", note)
    relay.cut()
    ends.caller.send("lost")
    begun = time.monotonic()
    if leaving == "hangup":
        with pytest.raises(ArticoTimeoutError, match="delivered"):
            ends.caller.hangup(timeout=0.5)
    elif leaving == "close":
        ends.alice.close(timeout=0.5)
    else:
        with pytest.raises(ArticoTimeoutError, match="delivered"):
            with ends.caller:
                ends.caller.send("lost, too")
    assert time.monotonic() - begun < 5 + 3 * TIME_UNIT
    assert ends.caller.closed and ends.caller.close_reason == "hangup"
    assert reported.wait(LIMIT)
    assert len(errors) == 1 and isinstance(errors[0], ArticoTimeoutError)


def test_who_sent_nothing_hangs_up_at_once_whatever_the_network(network: Network) -> None:
    """Internal messages on the channel do not reach the user."""
    relay = network.relay(delay=0.05)
    ends = network.connect(relay)
    relay.cut()
    begun = time.monotonic()
    ends.callee.hangup(timeout=10)
    assert time.monotonic() - begun < 5 * TIME_UNIT
    assert ends.callee.close_reason == "hangup"


@pytest.mark.parametrize("leaving", ["hangup", "hangup without a limit", "close"])
def test_a_call_lost_while_it_is_hung_up_says_so(network: Network, leaving: str) -> None:
    """The peer is given up before the time of the hang-up is over."""
    relay = network.relay(delay=0.02)
    ends = network.connect(relay, silence_timeout=1.5 * TIME_UNIT)
    errors: queue.SimpleQueue[Exception] = queue.SimpleQueue()
    ends.caller.on("error", errors.put)
    relay.cut()
    ends.caller.send("lost")
    begun = time.monotonic()
    if leaving == "close":
        ends.alice.close(timeout=60)
    else:
        with pytest.raises(ArticoTimeoutError, match="delivered"):
            ends.caller.hangup(timeout=60 if leaving == "hangup" else None)
    assert time.monotonic() - begun < 15 * TIME_UNIT
    assert ends.caller.closed and ends.caller.close_reason == "hangup"
    assert isinstance(errors.get(timeout=LIMIT), ArticoTimeoutError)
    assert errors.empty()


def test_a_hangup_over_a_link_that_comes_back_delivers(network: Network) -> None:
    relay = network.relay(delay=0.01)
    ends = network.connect(relay)
    relay.cut()
    ends.caller.send("late")
    restore = threading.Timer(1.5, relay.restore)
    restore.start()
    ends.caller.hangup(timeout=LIMIT)
    restore.join()
    assert ends.callee.recv(LIMIT) == "late"
    ends.callee.wait_closed(LIMIT)
    assert ends.callee.close_reason == "remote"
