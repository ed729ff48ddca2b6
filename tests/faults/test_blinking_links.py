"""The connection of one peer to its signaling server is lost and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from artico_sync import Artico, ArticoServer, MemoryHub
from artico_sync.errors import SignalingError
from artico_sync.signaling import MemorySignaling, Message
from tests.conftest import RTC_CONFIG, TIME_UNIT
from tests.polling import wait_until
from tests.unit.server.raw_peer import RawPeer

LIMIT = 30.0 * TIME_UNIT


class Link(MemorySignaling):
    """A link that can be cut for a while."""

    def __init__(self, hub: MemoryHub, id: str) -> None:
        super().__init__(hub, id)
        self.is_cut = False
        #: Called with each signal after it was handed over.
        self.sent: Callable[[Message], None] = lambda message: None

    def connect(self) -> None:
        if self.is_cut:
            raise SignalingError("The link is cut.")
        super().connect()

    def signal(self, message: Message) -> bool | None:
        delivered = super().signal(message)
        self.sent(message)
        return delivered

    def cut(self) -> None:
        self.is_cut = True
        self._hub.disconnect(self.id)

    def mend(self) -> None:
        self.is_cut = False


class Pair:
    """Alice and Bob, each with a link."""

    def __init__(self, closing: ExitStack) -> None:
        hub = MemoryHub()
        self.links = {name: Link(hub, name) for name in ("alice", "bob")}
        self.alice, self.bob = (
            closing.enter_context(Artico(signaling=link, rtc_config=RTC_CONFIG))
            for link in self.links.values()
        )


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as closing:
        yield Pair(closing)


@pytest.mark.parametrize("returns", ["before it gives up", "after it gave up"])
def test_a_call_given_up_by_one_that_never_heard_it_ring_rings_no_more(
    pair: Pair, returns: str
) -> None:
    link = pair.links["alice"]

    def cut_after_offer(message: Message) -> None:
        if message["signal"]["type"] == "sdp" and not link.is_cut:
            link.cut()

    link.sent = cut_after_offer
    call = pair.alice.call("bob")
    incoming = pair.bob.wait_for("call", LIMIT)
    wait_until(lambda: pair.alice.state != "ready", "the loss", LIMIT)
    link.sent = lambda message: None
    if returns == "before it gives up":
        link.mend()
        pair.alice.connect(LIMIT)
        call.hangup()
    else:
        call.hangup()
        link.mend()
    incoming.wait_closed(LIMIT)
    assert incoming.close_reason == "remote"


def test_a_call_to_one_whose_link_is_dead_rings_when_it_is_back() -> None:
    """An offer reported as delivered over a dead link is sent again once the peer is back."""

    async def test(server: ArticoServer, alice: Artico) -> None:
        async with RawPeer(server.url, "bob") as bob:
            await bob.enter()
            call = await asyncio.to_thread(alice.call, "bob")
            assert (await bob.event())[1][0]["signal"]["data"]["type"] == "offer"
            # To the server that connection is dead: the offer is sent again on the new one.
            async with RawPeer(server.url, "bob", auth={"resume": bob.open["resume"]}) as again:
                await again.enter()
                name, (message,) = await again.event()
                assert name == "signal" and message["session"] == call.session
                assert message["signal"]["data"]["type"] == "offer"

    with ArticoServer(port=0) as server, Artico(server.url, rtc_config=RTC_CONFIG) as alice:
        asyncio.run(test(server, alice))
