"""Notifications that a peer has left the server, or has reconnected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from artico_sync import Artico, ArticoServer
from artico_sync.server.registry import Peer, Presence
from artico_sync.server.server import ServerLimits
from tests.conftest import RTC_CONFIG
from tests.unit.server.raw_peer import RawPeer, eventually, two_peers

SOON = ServerLimits(absence_timeout=0.1)
LATE = ServerLimits(absence_timeout=1000.0)


def visit(limits: ServerLimits, test: Callable[[ArticoServer], Awaitable[None]]) -> None:
    async def run(server: ArticoServer) -> None:
        await test(server)

    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(run(server))


async def ask(peer: RawPeer, target: str, request: int) -> object:
    """Send a signal, and return its acknowledgement, which must be the next frame."""
    await peer.signal(target, {"type": "sdp"}, request=request)
    return await peer.acknowledged(request)


async def meet(peer: RawPeer, other: RawPeer) -> None:
    assert other.id is not None
    assert await ask(peer, other.id, 1) == {"delivered": True}
    assert (await other.event())[0] == "signal"


@pytest.mark.parametrize("who_leaves", ["who called", "who was called"])
def test_contacts_are_notified(who_leaves: str) -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "carol") as carol:
            await carol.enter()
            async with RawPeer(server.url, "alice") as alice:
                await alice.enter()
                async with RawPeer(server.url, "bob") as bob:
                    await bob.enter()
                    await meet(*((bob, alice) if who_leaves == "who called" else (alice, bob)))
                assert await alice.event() == ("gone", ["bob"])
                # The next event of a peer that was not in contact with bob is this one.
                await meet(alice, carol)

    visit(SOON, test)


@pytest.mark.parametrize("closing_frame", ["41", "1"])
def test_a_peer_that_closes_cleanly_is_not_expected_to_reconnect(closing_frame: str) -> None:
    async def test(server: ArticoServer) -> None:
        async with two_peers(server) as (alice, bob):
            await meet(alice, bob)
            await bob.send_frame(closing_frame)
            assert await alice.event() == ("gone", ["bob"])

    visit(LATE, test)


def test_a_client_of_this_library_closes_cleanly() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "bob") as bob:
            await bob.enter()
            alice = Artico(server.url, id="alice", rtc_config=dict(RTC_CONFIG))
            await asyncio.to_thread(alice.connect)
            alice.call("bob")
            assert (await bob.event())[0] == "signal"
            await asyncio.to_thread(alice.close)
            assert await bob.event() == ("gone", ["alice"])

    visit(LATE, test)


def test_a_peer_that_reconnects_in_time_has_not_left() -> None:
    async def test(server: ArticoServer) -> None:
        async with two_peers(server) as (alice, bob):
            await meet(bob, alice)
            await bob.socket.close()
            await eventually(lambda: "bob" not in server.peers, "bob is away")
            async with RawPeer(server.url, "bob", auth=dict(resume=bob.open["resume"])) as again:
                await again.enter()
                # No other event comes first.
                assert await ask(alice, "bob", 2) == {"delivered": True}
            # Its contacts were kept: they are notified when another client takes the id.
            await eventually(lambda: "bob" not in server.peers, "bob is away again")
            async with RawPeer(server.url, "bob") as other:
                await other.enter()
                assert await alice.event() == ("gone", ["bob"])

    visit(LATE, test)


@pytest.mark.parametrize("noticed", [True, False], ids=["after a while", "in place of itself"])
def test_those_who_sent_it_signals_are_notified_of_its_return(noticed: bool) -> None:
    async def test(server: ArticoServer) -> None:
        async with two_peers(server) as (alice, bob), RawPeer(server.url, "carol") as carol:
            await carol.enter()
            await meet(bob, carol)  # carol has sent nothing herself
            await meet(alice, bob)
            if noticed:
                await bob.socket.close()
                await eventually(lambda: "bob" not in server.peers, "bob is away")
            async with RawPeer(server.url, "bob", auth=dict(resume=bob.open["resume"])) as again:
                await again.enter()
                assert await alice.event() == ("back", ["bob"])
                await meet(alice, carol)  # carol received nothing else

    visit(LATE, test)


def test_another_client_with_the_same_id_has_none_of_the_calls() -> None:
    async def test(server: ArticoServer) -> None:
        async with two_peers(server) as (alice, bob):
            await meet(alice, bob)
            await bob.socket.close()
            await eventually(lambda: "bob" not in server.peers, "bob is away")
            async with RawPeer(server.url, "bob", auth={"resume": "not the secret ü"}) as other:
                await other.enter()
                assert await alice.event() == ("gone", ["bob"])

    visit(LATE, test)


def test_a_peer_is_not_notified_of_itself() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "carol") as carol:
            await carol.enter()
            await meet_oneself(carol)
        await eventually(lambda: not server.peers, "carol is away")
        async with RawPeer(server.url, "carol") as carol:
            await carol.enter()
            await meet_oneself(carol)

    async def meet_oneself(carol: RawPeer) -> None:
        await carol.signal("carol", {"type": "sdp"})
        assert (await carol.event())[0] == "signal"

    visit(LATE, test)


def test_only_the_latest_contacts_are_remembered() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "old") as old, RawPeer(server.url, "new") as new:
            await old.enter()
            await new.enter()
            async with RawPeer(server.url, "bob") as bob:
                await bob.enter()
                await meet(bob, old)
                await meet(bob, new)
            assert await new.event() == ("gone", ["bob"])
            await meet(new, old)

    visit(ServerLimits(absence_timeout=0.1, max_contacts=1), test)


def test_strangers_do_not_crowd_out_a_contact() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, AsyncExitStack() as stack:
            await alice.enter()
            async with RawPeer(server.url, "bob") as bob:
                await bob.enter()
                await meet(alice, bob)
                await meet(bob, alice)
                for number in range(5):
                    stranger = RawPeer(server.url, f"stranger{number}")
                    await stack.enter_async_context(stranger)
                    await stranger.enter()
                    await meet(stranger, bob)
            assert await alice.event() == ("gone", ["bob"])
            # The last of the others is notified as well.
            assert await stranger.event() == ("gone", ["bob"])

    visit(ServerLimits(absence_timeout=0.1, max_contacts=3), test)


def test_the_number_of_absent_peers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    instances: list[Presence] = []
    on_departure = Presence.on_departure

    def recorded(self: Presence, peer: Peer) -> None:
        instances.append(self)
        on_departure(self, peer)

    monkeypatch.setattr(Presence, "on_departure", recorded)

    async def test(server: ArticoServer) -> None:
        for name in ("bob", "dave", "erin"):
            async with RawPeer(server.url, "alice") as alice, RawPeer(server.url, name) as peer:
                await alice.enter()
                await peer.enter()
                await meet(alice, peer)
            await eventually(lambda: not server.peers, "all are away")
        assert len(instances[0]._away) == 2

    visit(ServerLimits(absence_timeout=1000.0, max_peers=2), test)
    assert not instances[0]._away
