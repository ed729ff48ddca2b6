"""A client under attack, and a second peer that checks that it still works."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from artico_sync import Artico, Call, MemoryHub
from artico_sync.signaling import MemorySignaling, Signaling
from tests.conftest import RTC_CONFIG, TIME_UNIT
from tests.faults.memory import MIB, resident_memory

LIMIT = 20.0 * TIME_UNIT
#: Most bytes by which a victim may grow, however much is sent to it.
GROWTH = 64 * MIB


class Mallory(MemorySignaling):
    """Signaling that can also send signals no client would."""

    def send_raw(self, message: dict[str, Any]) -> None:
        MemorySignaling.signal(self, message)


class Victim:
    """Use as a context manager. Leaving it checks that the victim is well and has not grown.

    Args:
        limits: Of the victim's, in place of the defaults.
    """

    def __init__(self, **limits: Any) -> None:
        self._closing = ExitStack()
        self._limits = limits
        self._numbers = itertools.count()
        self.hub = MemoryHub()
        self.mallory = Mallory(self.hub, "mallory")

    def _client(self, signaling: Signaling, **limits: Any) -> Artico:
        rtco = Artico(signaling=signaling, rtc_config=dict(RTC_CONFIG))
        # Not all of them are parameters of `Artico`.
        rtco._bridge._settings = replace(rtco._bridge._settings, **limits)
        return self._closing.enter_context(rtco)

    def __enter__(self) -> Victim:
        limits = {"connect_timeout": 20.0, "ring_timeout": 10.0, **self._limits}
        self.victim = self._client(self.hub.signaling("victim"), **limits)
        self._friend = self._client(self.hub.signaling("friend"))
        self.peer = self._client(self.mallory)
        self._call, self._incoming = self._meet(self._friend)
        #: Mallory's own call with the victim, whose other end is the victim's.
        self.call, self.victims_call = self._meet(self.peer)
        self.victims_call.on("error", lambda error: None)
        self.victims_call.on("data", lambda data: None)
        self._memory = resident_memory()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        try:
            if kind is None:
                self.check()
                grown = resident_memory() - self._memory
                assert grown < GROWTH, f"grew by {grown / MIB:.0f} MiB"
        finally:
            self._closing.close()

    def _meet(self, peer: Artico) -> tuple[Call, Call]:
        call = peer.call("victim")
        incoming = self.victim.wait_for("call", LIMIT).answer().wait_open(LIMIT)
        return call.wait_open(LIMIT), incoming

    def signal(self, signal: object, session: object = None) -> None:
        """Send a signal of Mallory's call, or of another session."""
        self.mallory.send_raw(
            {
                "target": "victim",
                "session": self.call.session if session is None else session,
                "signal": signal,
            }
        )

    def check(self) -> None:
        """Check that the victim still exchanges messages with its friend without delay."""
        text = f"still there? {next(self._numbers)}"
        self._call.send(text)
        assert self._incoming.recv(LIMIT) == text

    def new_calls(self) -> list[Call]:
        """The calls that rang at the victim since."""
        calls = []
        while True:
            try:
                calls.append(self.victim.wait_for("call", timeout=0))
            except TimeoutError:
                return calls
