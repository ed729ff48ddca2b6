"""Peers whose calls go over a network of the test: their candidates are rewritten to a relay."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from artico_sync import Artico, Call, MemoryHub, Signaling, SocketSignaling
from artico_sync.signaling import MemorySignaling, Message
from tests.conftest import RTC_CONFIG
from tests.datagram_relay import Relay

#: Seconds a call may take to open on a busy machine.
OPEN_LIMIT = 20.0


class RelayedSignaling(MemorySignaling):
    """Signaling that replaces the candidates' addresses by those of a relay.

    Args:
        side: Of the relay, "a" or "b".
        relay: The network in use; another one may be put in its place at any time, and holds for
            the descriptions and candidates to come.
    """

    def __init__(self, hub: MemoryHub, id: str, side: str, relay: Relay | None) -> None:
        super().__init__(hub, id)
        self.relay = relay
        #: Called with each signal; its result is sent, None drops the signal.
        self.filter: Callable[[Message], Message | None] = lambda message: message
        self._side = side

    def signal(self, message: Message) -> bool | None:
        wanted = self.filter(message)
        if wanted is None:
            return True
        return super().signal(
            {**wanted, "signal": rewritten(wanted["signal"], self.relay, self._side)}
        )


def rewritten(signal: dict[str, Any], relay: Relay | None, side: str) -> dict[str, Any]:
    """Return a signal of the peer on one side of a relay, as the other side gets it."""
    if relay is None:
        return signal

    def line(line: str) -> str | None:
        if not line.startswith("a=candidate:"):
            return line
        words = line.split(" ")
        host, port = words[4], int(words[5])
        if words[2].lower() != "udp" or ":" in host or host.endswith(".local"):
            return None
        words[5] = str(relay.forward_to((host, port), side))
        return " ".join(words)

    data = signal.get("data")
    if signal.get("type") == "sdp":
        assert isinstance(data, dict)
        lines = [line(one) for one in data["sdp"].split("\r\n")]
        sdp = "\r\n".join(one for one in lines if one is not None)
        return {**signal, "data": {**data, "sdp": sdp}}
    if signal.get("type") == "candidate" and data:
        # A candidate without an address cannot be reached.
        return {
            **signal,
            "data": {**data, "candidate": (line(f"a={data['candidate']}") or "a=")[2:]},
        }
    return signal


class RelayedSocketSignaling(Signaling):
    """A relayed signaling over a server, for calls with a page, whose signals it also rewrites.

    Args:
        url: URL of the server.
    """

    def __init__(self, url: str, id: str, relay: Relay) -> None:
        super().__init__(id)
        self.relay = relay
        #: Called with each local signal; its result is sent, None drops the signal.
        self.filter: Callable[[Message], Message | None] = lambda message: message
        self._socket = SocketSignaling(url, id)
        for event in self.EVENTS - {"signal"}:
            self._socket.on(event, lambda *arguments, event=event: self.emit(event, *arguments))
        self._socket.on("signal", self._received)

    def connect(self) -> None:
        self._socket.connect()

    def disconnect(self) -> None:
        self._socket.disconnect()

    def signal(self, message: Message) -> bool | None:
        wanted = self.filter(message)
        if wanted is None:
            return True
        return self._socket.signal(
            {**wanted, "signal": rewritten(wanted["signal"], self.relay, "a")}
        )

    def _received(self, message: Message) -> None:
        self.emit("signal", {**message, "signal": rewritten(message["signal"], self.relay, "b")})


@dataclass
class Signals:
    """The signaling of two peers."""

    hub: MemoryHub
    alices: RelayedSignaling
    bobs: RelayedSignaling

    def use(self, relay: Relay) -> None:
        """Use the addresses of another relay in the descriptions to come."""
        self.alices.relay = self.bobs.relay = relay


@dataclass
class Ends:
    """Two peers and the open call between them."""

    alice: Artico
    bob: Artico
    caller: Call
    callee: Call
    signals: Signals

    def end(self, role: str) -> Call:
        return self.caller if role == "caller" else self.callee


class Network:
    """Makes calls over relays; use as a context manager."""

    def __init__(self) -> None:
        self._closing = ExitStack()

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._closing.close()

    def relay(self, **faults: Any) -> Relay:
        """A relay that ends with the test."""
        return self._closing.enter_context(Relay(**faults))

    def clients(
        self, relay: Relay | None = None, *, bobs: dict[str, Any] | None = None, **options: Any
    ) -> tuple[Artico, Artico, Signals]:
        """Two connected peers, "alice" and "bob", whose calls go over a relay.

        Args:
            bobs: Options for bob that differ from alice's.
        """
        hub = MemoryHub()
        alices = RelayedSignaling(hub, "alice", "a", relay)
        bobs_signaling = RelayedSignaling(hub, "bob", "b", relay)
        alice, bob = (
            self._closing.enter_context(
                Artico(signaling=signaling, rtc_config=dict(RTC_CONFIG), **own)
            )
            for signaling, own in ((alices, options), (bobs_signaling, {**options, **(bobs or {})}))
        )
        return alice, bob, Signals(hub, alices, bobs_signaling)

    def connect(self, relay: Relay | None = None, **options: Any) -> Ends:
        """An open call over a relay; without one, over the plain loopback. Alice calls bob; the
        options are those of `clients`."""
        alice, bob, signals = self.clients(relay, **options)
        caller = alice.call("bob")
        callee = bob.wait_for("call", OPEN_LIMIT)
        callee.answer().wait_open(OPEN_LIMIT)
        caller.wait_open(OPEN_LIMIT)
        return Ends(alice, bob, caller, callee, signals)
