"""Each speed-up of `artico_sync._speedups` beside its plain twin, in this process.

Small measures of one mechanism each, over loopback or in memory, not of calls: the gain for a call
is smaller. The two ways of a line are measured in alternating rounds. The lines beside a computing
thread use the switch interval of open calls, except the line that compares it.
"""

from __future__ import annotations

import asyncio
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter, sleep

from artico_sync._protocol.settings import Settings
from artico_sync._speedups.gil_held_dtls import make_records
from artico_sync._speedups.gso import PlainBatchSender, make_batch_sender
from artico_sync._speedups.thread_scheduling import minimize_timer_slack
from artico_sync._speedups.wake_up import PlainWakeUp, WakeUp, make_wake_up
from artico_sync._webrtc._aiortc.dtls import handles_of
from tests.benchmarks.busy_thread import Computing
from tests.benchmarks.rows import Row, Scale, compare
from tests.dtls_handshake import handshake

PART = "Speed-ups beside their plain twins"
PLAIN = "plain"
LOOPBACK = "127.0.0.1"
#: Rounds more than other parts have: these are short.
EXTRA_ROUNDS = 4
SECONDS_PER_SAMPLE = 0.3
TIMEOUT_SECONDS = 10.0

DATAGRAM_BYTES = 1200
BATCH_DATAGRAMS = 32
RECEIVE_BUFFER_BYTES = 1024 * 1024
TIMED_WAIT_SECONDS = 0.001
#: CPython's default.
DEFAULT_SWITCH_INTERVAL_SECONDS = 0.005

#: Does one unit of work; returns the number of results and the seconds they took.
Step = Callable[[], tuple[int, float]]


def measure(scale: Scale) -> list[Row]:
    rounds = scale.rounds + EXTRA_ROUNDS
    return [
        measure_batches(rounds),
        measure_gil_held_batches(rounds),
        measure_wake_ups(rounds),
        measure_records(rounds),
        measure_timer_slack(rounds),
        measure_switch_interval(rounds),
    ]


def rate(step: Step) -> float:
    """Return the results of a step per second of its work."""
    results, worked = 0, 0.0
    end = perf_counter() + SECONDS_PER_SAMPLE
    while perf_counter() < end:
        count, seconds = step()
        results += count
        worked += seconds
    return results / worked


def alternate(
    rounds: int, plain: Callable[[], float], fast: Callable[[], float]
) -> list[tuple[float, float]]:
    """Measure both ways in turn, after a round that does not count."""
    plain()
    fast()
    return [(plain(), fast()) for _ in range(rounds)]


@contextmanager
def computing(switch_interval: float) -> Iterator[None]:
    """Run a thread that computes in pure Python, under a switch interval."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(switch_interval)
    thread = Computing()
    try:
        yield
    finally:
        thread.stop()
        sys.setswitchinterval(before)


def call_switch_interval() -> float:
    """Return the switch interval of open calls, in seconds."""
    seconds = Settings().switch_interval
    assert seconds is not None
    return seconds


# GSO


@contextmanager
def udp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        receiver.bind((LOOPBACK, 0))
        receiver.setblocking(False)
        sender.bind((LOOPBACK, 0))
        yield sender, receiver


def timed_sending(send: Callable[[], object], receiver: socket.socket) -> Step:
    """Return a step that sends one batch; reading it is not counted."""

    def step() -> tuple[int, float]:
        begun = perf_counter()
        send()
        seconds = perf_counter() - begun
        received = 0
        try:
            while True:
                receiver.recv(DATAGRAM_BYTES)
                received += 1
        except BlockingIOError:
            return received, seconds

    return step


def measure_batches(rounds: int) -> Row:
    data = memoryview(bytearray(BATCH_DATAGRAMS * DATAGRAM_BYTES))
    with udp_pair() as (sock, receiver):
        address = receiver.getsockname()
        sender = make_batch_sender(sock)
        if sender is None:
            raise RuntimeError("this system has no GSO")

        def send_one_by_one() -> None:
            for begin in range(0, len(data), DATAGRAM_BYTES):
                sock.sendto(data[begin : begin + DATAGRAM_BYTES], address)

        plain = timed_sending(send_one_by_one, receiver)
        fast = timed_sending(lambda: sender.send(data, DATAGRAM_BYTES, address), receiver)
        samples = alternate(rounds, lambda: rate(plain), lambda: rate(fast))
    return compare(PART, "gso: datagrams sent in batches", "/s", samples, more=True, against=PLAIN)


def measure_gil_held_batches(rounds: int) -> Row:
    data = memoryview(bytearray(BATCH_DATAGRAMS * DATAGRAM_BYTES))
    with udp_pair() as (sock, receiver), computing(call_switch_interval()):
        address = receiver.getsockname()
        sender, twin = make_batch_sender(sock), PlainBatchSender(sock)
        if sender is None:
            raise RuntimeError("this system has no GSO")
        plain = timed_sending(lambda: twin.send(data, DATAGRAM_BYTES, address), receiver)
        fast = timed_sending(lambda: sender.send(data, DATAGRAM_BYTES, address), receiver)
        samples = alternate(rounds, lambda: rate(plain), lambda: rate(fast))
    name = "gso: batches with the GIL held, busy"
    return compare(PART, name, "/s", samples, more=True, against=PLAIN)


# Wake-ups


class WokenLoop:
    """A loop thread that answers each wake-up.

    Args:
        make: Makes the wake-up, on the loop thread.
    """

    def __init__(
        self, make: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], WakeUp]
    ) -> None:
        self._make = make
        self._requested = False
        self._answered = threading.Semaphore(0)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._started.wait(TIMEOUT_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._wake_up = self._make(self._loop, self._answer)
        self._started.set()
        await self._ended.wait()
        self._wake_up.close()

    def _answer(self) -> None:
        # As often as there is something to do, and once more for an eventfd.
        if self._requested:
            self._requested = False
            self._answered.release()

    def step(self) -> tuple[int, float]:
        """Wake the loop, and wait until it has answered."""
        begun = perf_counter()
        for _ in range(100):
            self._requested = True
            self._wake_up.wake()
            self._answered.acquire()
        return 100, perf_counter() - begun

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


def measure_wake_ups(rounds: int) -> Row:
    plain, fast = WokenLoop(PlainWakeUp), WokenLoop(make_wake_up)
    samples = alternate(rounds, lambda: rate(plain.step), lambda: rate(fast.step))
    plain.close()
    fast.close()
    name = "wake_up: wake-ups of a loop thread"
    return compare(PART, name, "/s", samples, more=True, against=PLAIN)


# DTLS records


def timed_records(*, accelerate: bool) -> Step:
    """Return a step that encrypts packets and decrypts their records."""
    client, server = handshake()
    sender = make_records(client, handles_of, accelerate=accelerate)
    receiver = make_records(server, handles_of, accelerate=accelerate)
    packet = bytes(DATAGRAM_BYTES)

    def step() -> tuple[int, float]:
        begun = perf_counter()
        for _ in range(10):
            receiver.decrypt(bytes(sender.encrypt((packet,))))
        return 10, perf_counter() - begun

    return step


def measure_records(rounds: int) -> Row:
    plain, fast = timed_records(accelerate=False), timed_records(accelerate=True)
    with computing(call_switch_interval()):
        samples = alternate(rounds, lambda: rate(plain), lambda: rate(fast))
    name = "gil_held_dtls: records of 1.2 kB, busy"
    return compare(PART, name, "/s", samples, more=True, against=PLAIN)


# Thread scheduling


def lateness(*, minimize: bool) -> float:
    """Return the median lateness of a timed wait on a thread of its own, in microseconds."""
    samples: list[float] = []

    def wait() -> None:
        if minimize:
            minimize_timer_slack()
        lock = threading.Lock()
        lock.acquire()
        for _ in range(int(SECONDS_PER_SAMPLE / TIMED_WAIT_SECONDS)):
            begun = perf_counter()
            lock.acquire(timeout=TIMED_WAIT_SECONDS)
            samples.append(perf_counter() - begun - TIMED_WAIT_SECONDS)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    return 1e6 * median(samples)


def measure_timer_slack(rounds: int) -> Row:
    samples = alternate(rounds, lambda: lateness(minimize=False), lambda: lateness(minimize=True))
    return compare(PART, "timer slack: lateness of a 1 ms wait", "us", samples, against=PLAIN)


def queue_round_trip(switch_interval: float) -> float:
    """Return the median round trip between two threads beside a computing one, in milliseconds.

    It begins when a timed wait ends, as with a datagram that arrives.
    """
    there: queue.SimpleQueue[bool] = queue.SimpleQueue()
    back: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def echo() -> None:
        while there.get():
            back.put(True)

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    samples = []
    with computing(switch_interval):
        end = perf_counter() + SECONDS_PER_SAMPLE
        while perf_counter() < end:
            begun = perf_counter() + TIMED_WAIT_SECONDS
            sleep(TIMED_WAIT_SECONDS)
            there.put(True)
            back.get()
            samples.append(perf_counter() - begun)
        there.put(False)
    thread.join()
    return 1000 * median(samples)


def measure_switch_interval(rounds: int) -> Row:
    samples = alternate(
        rounds,
        lambda: queue_round_trip(DEFAULT_SWITCH_INTERVAL_SECONDS),
        lambda: queue_round_trip(call_switch_interval()),
    )
    return compare(PART, "switch interval: round trip, busy", "ms", samples, against=PLAIN)
