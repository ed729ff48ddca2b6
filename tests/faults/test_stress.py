"""Many threads call all methods of shared objects, `close` included, in random order.

It takes seconds by default; ARTICO_SYNC_STRESS_SECONDS sets a longer time.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from artico_sync import Artico, ArticoError, Call, MediaStream, MemoryHub, VideoTrack
from tests.conftest import RTC_CONFIG, TIME_UNIT
from tests.faults.lock_order import watch_locks

SECONDS = float(os.environ.get("ARTICO_SYNC_STRESS_SECONDS", "4"))
THREADS = 8
#: Nothing here may take longer, however busy the machine is.
STUCK = 40.0 * TIME_UNIT


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Switch threads as often as possible, which exposes races."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def lock_order() -> Iterator[None]:
    """No two threads may take locks the other way round, even where that went well."""
    with watch_locks() as order:
        yield
    order.check()
    assert order.edges


class Stage:
    """Objects shared by all threads: two connected peers, one that comes and goes, and calls."""

    def __init__(self, seed: int) -> None:
        hub = MemoryHub()
        self.peers = [
            Artico(signaling=hub.signaling(name), rtc_config=dict(RTC_CONFIG))
            for name in ("alice", "bob", "carol")
        ]
        self.hub = hub
        self.calls: list[Call] = []
        self.done = Counter[str]()
        self.refused = Counter[str]()
        self.wrong: list[BaseException] = []
        self.over = threading.Event()
        self._seed = seed
        for peer in self.peers:
            peer.on("call", self._on_call)
            peer.on("error", lambda error: None)
            peer.connect()

    def _on_call(self, call: Call) -> None:
        # One in four rings until another thread answers or rejects it.
        if random.random() < 0.75:
            self._keep(call)
            try:
                call.answer()
            except ArticoError:
                return
        else:
            self._keep(call)

    def _keep(self, call: Call) -> Call:
        call.on("error", lambda error: None)
        # Other threads choose from it: a list they have read must not change.
        self.calls = [*self.calls, call][-12:]
        return call

    # the actions of the threads

    def place(self, chance: random.Random) -> None:
        caller, callee = chance.sample(self.peers, 2)
        self._keep(caller.call(callee.id, "stress"))

    def talk(self, chance: random.Random) -> None:
        call = chance.choice(self.calls)
        messages: list[str | bytes] = ["short", "x" * 20_000, b"bytes"]
        call.send(chance.choice(messages), timeout=0.2)

    def listen(self, chance: random.Random) -> None:
        chance.choice(self.calls).recv(timeout=chance.choice([0, 0.05]))

    def wait(self, chance: random.Random) -> None:
        call = chance.choice(self.calls)
        waits: list[Callable[[], object]] = [
            lambda: call.wait_open(timeout=0.1),
            lambda: call.wait_closed(timeout=0.05),
            lambda: call.wait_for("stream", timeout=0.05),
            lambda: call.flush(timeout=0.1),
            lambda: chance.choice(self.peers).wait_for("call", timeout=0.02),
        ]
        chance.choice(waits)()

    def look(self, chance: random.Random) -> None:
        call = chance.choice(self.calls)
        assert call.open in (True, False) and call.closed in (True, False)
        repr(call)
        for peer in self.peers:
            repr((peer.id, peer.state, peer.calls))
        call.stats()

    def answer(self, chance: random.Random) -> None:
        chance.choice(self.calls).answer()

    def reject(self, chance: random.Random) -> None:
        chance.choice(self.calls).reject("no")

    def handle(self, chance: random.Random) -> None:
        call = chance.choice(self.calls)

        def handler(data: object) -> None:
            call.off("data", handler)

        call.on("data", handler)
        call.once("close", lambda: None)

    def share(self, chance: random.Random) -> None:
        call = chance.choice(self.calls)
        track = VideoTrack()
        stream = MediaStream([track])
        try:
            call.add_stream(stream, "stress")
            if chance.random() < 0.5:
                call.remove_stream(stream)
        finally:
            track.stop()

    def hang_up(self, chance: random.Random) -> None:
        chance.choice(self.calls).hangup(timeout=chance.choice([0, 0.2, 2]))

    def come_and_go(self, chance: random.Random) -> None:
        peer = self.peers[2]
        if chance.random() < 0.7:
            return
        if chance.random() < 0.5:
            peer.close(timeout=1)
        else:
            peer.connect(timeout=5)

    def cut_signals(self, chance: random.Random) -> None:
        # Not so often that hardly a call opens.
        if chance.random() < 0.1:
            self.hub.disconnect(chance.choice(["alice", "bob"]))

    # the whole

    def is_exercised(self) -> bool:
        """Return True if a call carried something; a busy machine may need more time for that."""
        return self.done["place"] > 0 and self.done["talk"] + self.done["listen"] > 0

    def run(self, number: int, end: float) -> None:
        chance = random.Random(self._seed * 1000 + number)
        actions = [
            *(self.place, self.answer, self.reject, self.wait, self.look, self.handle) * 2,
            *(self.talk, self.listen) * 6,
            *(self.share, self.hang_up, self.come_and_go, self.cut_signals),
        ]
        latest = end + STUCK / 2
        while not self.over.is_set():
            now = time.monotonic()
            if now > latest or (now > end and self.is_exercised()):
                return
            action = chance.choice(actions)
            try:
                if self.calls or action == self.place:
                    action(chance)
                    self.done[action.__name__] += 1
            except ArticoError as error:
                # The documented way to refuse an action.
                self.refused[type(error).__name__] += 1
            except BaseException as error:
                self.wrong.append(error)
                self.over.set()

    def close(self) -> None:
        for peer in self.peers:
            peer.close()


@pytest.mark.timeout(SECONDS + 3 * STUCK)
@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(seed: int) -> None:
    stage = Stage(seed)
    end = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=stage.run, args=(number, end), name=f"stress-{number}", daemon=True)
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    limit = end + STUCK
    for thread in threads:
        thread.join(max(0.0, limit - time.monotonic()))
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        faulthandler.dump_traceback()
    assert not stuck
    if stage.wrong:
        raise stage.wrong[0]
    closer = threading.Thread(target=stage.close, daemon=True)
    closer.start()
    closer.join(STUCK)
    if closer.is_alive():
        faulthandler.dump_traceback()
    assert not closer.is_alive()
    # It was no idle exercise.
    assert sum(stage.done.values()) > 50
    assert stage.is_exercised(), (stage.done, stage.refused)


@pytest.mark.timeout(SECONDS + 2 * STUCK)
def test_no_wake_up_is_lost() -> None:
    """Each message wakes exactly one of the threads that wait, whoever waits in whichever way."""
    hub = MemoryHub()
    configuration = dict(RTC_CONFIG)
    with (
        Artico(signaling=hub.signaling("alice"), rtc_config=configuration) as alice,
        Artico(signaling=hub.signaling("bob"), rtc_config=configuration) as bob,
    ):
        call = alice.call("bob")
        incoming = bob.wait_for("call", STUCK).answer().wait_open(STUCK)
        call.wait_open(STUCK)
        end = time.monotonic() + SECONDS / 2
        received: list[str | bytes] = []
        lock = threading.Lock()

        def take() -> None:
            for message in incoming:
                with lock:
                    received.append(message)

        takers = [threading.Thread(target=take, daemon=True) for _ in range(4)]
        for taker in takers:
            taker.start()
        sent = 0
        while time.monotonic() < end:
            # The sender waits for each message, so that all receivers wait again.
            call.send(f"{sent}")
            sent += 1
            if sent % 7 == 0:
                call.flush(STUCK)
        call.hangup(STUCK)
        for taker in takers:
            taker.join(STUCK)
            assert not taker.is_alive()
        assert sorted(received, key=int) == [f"{number}" for number in range(sent)]


@pytest.mark.timeout(4 * STUCK)
def test_closing_from_many_threads_at_once() -> None:
    for _ in range(5):
        hub = MemoryHub()
        peers = [
            Artico(signaling=hub.signaling(name), rtc_config=dict(RTC_CONFIG)).connect()
            for name in ("alice", "bob")
        ]
        call = peers[0].call("bob")
        incoming = peers[1].wait_for("call", STUCK).answer()
        endings: list[Callable[[], object]] = [
            peers[0].close,
            peers[1].close,
            call.hangup,
            incoming.hangup,
            peers[0].close,
        ]
        start = threading.Barrier(len(endings))

        def end(ending: Callable[[], object], start: threading.Barrier = start) -> None:
            start.wait(STUCK)
            try:
                ending()
            except ArticoError:
                return  # closed by another one just before

        threads = [threading.Thread(target=end, args=(one,), daemon=True) for one in endings]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(STUCK)
            assert not thread.is_alive()
        for one in (call, incoming):
            one.wait_closed(STUCK)
        for peer in peers:
            peer.close()
