"""Artico's protocol as the server speaks it, and its extensions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import socketio

from artico_sync import ArticoServer
from tests.unit.server.raw_peer import WAIT, RawPeer, eventually, two_peers


def test_welcome_and_handshake(server: ArticoServer) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "alice") as alice:
            assert alice.handshake["upgrades"] == []
            assert alice.handshake["pingInterval"] == 5000
            await alice.enter()
            assert alice.open["server"] == "artico_sync"
            assert alice.open["acknowledges"] is True

    asyncio.run(visit())


@pytest.mark.parametrize(
    "peer_id",
    [None, "", " ", " padded", "tab\there", "line\nend", "x" * 129, "\u202egro.live"],
)
def test_an_invalid_id_is_rejected(server: ArticoServer, peer_id: str | None) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, peer_id) as peer:
            assert await peer.refused() == "invalid-id"

    asyncio.run(visit())
    assert server.peers == ()


@pytest.mark.parametrize(
    "peer_id", ["a", "x" * 128, "Bob Smith", "Grüße-\U0001f600", "a&b=c?/#%", "%41", "a+b%2Bc"]
)
def test_every_printable_id_is_accepted(server: ArticoServer, peer_id: str) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, peer_id) as peer:
            await peer.enter()
            assert server.peers == (peer_id,)

    asyncio.run(visit())


def test_an_id_in_use_is_rejected_without_effect_on_its_holder(server: ArticoServer) -> None:
    async def visit() -> None:
        async with two_peers(server) as (alice, bob):
            async with RawPeer(server.url, "alice") as other:
                assert await other.refused() == "id-taken"
            await bob.signal("alice", {"type": "sdp"})
            assert (await alice.event())[0] == "signal"

    asyncio.run(visit())


def test_a_signal_is_relayed_with_the_true_source(server: ArticoServer) -> None:
    async def visit() -> None:
        async with two_peers(server) as (alice, bob):
            await alice.emit(
                "signal",
                {
                    "source": "the-president",
                    "target": "bob",
                    "session": "call:x",
                    "metadata": "hi \U0001f600 \x00",
                    "signal": {"type": "sdp", "data": {"type": "offer", "sdp": "v=0\r\n"}},
                    "extra": "not relayed",
                },
            )
            assert await bob.event() == (
                "signal",
                [
                    {
                        "source": "alice",
                        "target": "bob",
                        "session": "call:x",
                        "metadata": "hi \U0001f600 \x00",
                        "signal": {"type": "sdp", "data": {"type": "offer", "sdp": "v=0\r\n"}},
                    }
                ],
            )

    asyncio.run(visit())


def test_acknowledgements_report_delivery(server: ArticoServer) -> None:
    async def visit() -> None:
        async with two_peers(server) as (alice, bob):
            await alice.signal("bob", {"type": "sdp"}, request=0)
            assert await alice.acknowledged(0) == {"delivered": True}
            await alice.signal("nobody", {"type": "sdp"}, request=1)
            assert await alice.acknowledged(1) == {"delivered": False}
            # Without a request there is no acknowledgement, as with Artico's own server.
            await alice.signal("nobody", {"type": "sdp"})
            await alice.signal("alice", {"type": "sdp"})
            assert (await alice.event())[0] == "signal"

    asyncio.run(visit())


def test_signals_keep_their_order(server: ArticoServer) -> None:
    async def visit() -> list[int]:
        async with two_peers(server) as (alice, bob):
            for number in range(500):
                await alice.signal("bob", {"type": "candidate", "data": number})
            return [(await bob.event())[1][0]["signal"]["data"] for _ in range(500)]

    assert asyncio.run(visit()) == list(range(500))


def test_the_members_of_a_room_are_notified_of_a_join(server: ArticoServer) -> None:
    async def visit() -> None:
        async with (
            RawPeer(server.url, "alice") as alice,
            RawPeer(server.url, "bob") as bob,
            RawPeer(server.url, "carol") as carol,
        ):
            for peer in (alice, bob, carol):
                await peer.enter()
            await alice.emit("join", "room:a:b")
            await alice.signal("nobody", {}, request=1)
            await alice.acknowledged(1)
            await carol.emit("join", "room")
            await carol.signal("nobody", {}, request=1)
            await carol.acknowledged(1)
            await bob.emit("join", "room:a:b", "bob's metadata")
            assert await alice.event() == ("join", ["room:a:b", "bob", "bob's metadata"])
            # The name of carol's room is a prefix of the other's, but it is another room.
            await bob.emit("join", "room")
            assert await carol.event() == ("join", ["room", "bob"])

    asyncio.run(visit())


def test_a_peer_that_has_left_is_in_no_room(server: ArticoServer) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            await alice.emit("join", "r")
            async with RawPeer(server.url, "bob") as bob:
                await bob.enter()
                await bob.emit("join", "r")
                assert (await alice.event())[0] == "join"
            await eventually(lambda: server.peers == ("alice",), "bob has left")
            async with RawPeer(server.url, "bob") as bob:
                await bob.enter()
                await alice.emit("join", "r")
                await bob.signal("alice", {"type": "probe"})
                # Alice's first event is bob's signal, and bob is not notified of her join.
                assert (await alice.event())[0] == "signal"
                await alice.signal("bob", {"type": "probe"})
                assert (await bob.event())[0] == "signal"

    asyncio.run(visit())


def test_a_peer_that_closes_is_removed_at_once(server: ArticoServer) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            await alice.send_frame("41")
            await alice.gone()
            assert server.peers == ()

    asyncio.run(visit())


@pytest.mark.slow
def test_the_id_of_a_dead_connection_is_free_again() -> None:
    async def visit(server: ArticoServer) -> float:
        loop = asyncio.get_running_loop()
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            begun = loop.time()
            # The peer reads nothing, and so answers no ping.
            await eventually(lambda: server.peers == (), "alice is given up")
            return loop.time() - begun

    with ArticoServer(port=0, ping_interval=1, ping_timeout=1) as server:
        assert asyncio.run(visit(server)) < WAIT


@pytest.mark.slow
def test_a_living_connection_is_kept() -> None:
    async def visit(server: ArticoServer) -> None:
        async with two_peers(server) as (alice, bob):
            answered = 0
            while answered < 7:
                text = (await asyncio.wait_for(alice.socket.receive(), WAIT)).data
                assert text == "2"
                await alice.send_frame("3")
                answered += 1
            assert "alice" in server.peers

    with ArticoServer(port=0, ping_interval=1, ping_timeout=5) as server:
        asyncio.run(visit(server))


def test_the_resume_secret_takes_an_id_over(server: ArticoServer) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "alice") as old, RawPeer(server.url, "bob") as bob:
            await old.enter()
            await bob.enter()
            await old.emit("join", "r")
            secret = old.open["resume"]
            async with RawPeer(server.url, "alice", auth={"resume": secret}) as new:
                await new.enter()
                await old.gone()
                assert sorted(server.peers) == ["alice", "bob"]
                await bob.signal("alice", {"type": "sdp"}, request=1)
                assert await bob.acknowledged(1) == {"delivered": True}
                assert (await new.event())[0] == "signal"
                # Each secret is valid for one connection.
                assert new.open["resume"] != secret
                async with RawPeer(server.url, "alice", auth={"resume": secret}) as late:
                    assert await late.refused() == "id-taken"

    asyncio.run(visit())


@pytest.mark.parametrize("resume", ["", "guess", "\ud800", 5, None, ["x"], "é"])
def test_no_other_secret_does(server: ArticoServer, resume: object) -> None:
    async def visit() -> None:
        async with two_peers(server) as (alice, bob):
            for wrong in (resume, bob.open["resume"]):
                async with RawPeer(server.url, "alice", auth={"resume": wrong}) as thief:
                    assert await thief.refused() == "id-taken"
            assert sorted(server.peers) == ["alice", "bob"]

    asyncio.run(visit())


def test_a_plain_socketio_client_is_served(server: ArticoServer) -> None:
    async def visit() -> None:
        clients = {name: socketio.AsyncClient(reconnection=False) for name in ("alice", "bob")}
        events: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        for name, client in clients.items():
            client.on("open", lambda *a: events.put_nowait(("open", a[0])))
            client.on("signal", lambda *a, me=name: events.put_nowait((me, a[0]["source"])))
            url = f"{server.url}?id={name}"
            await client.connect(url, transports=["websocket"], wait_timeout=WAIT)
            assert await asyncio.wait_for(events.get(), WAIT) == ("open", name)
        message = {"target": "bob", "session": "call:1", "signal": {"type": "sdp"}}
        await clients["alice"].emit("signal", message)
        assert await asyncio.wait_for(events.get(), WAIT) == ("bob", "alice")
        assert await clients["alice"].call("signal", message) == {"delivered": True}
        for client in clients.values():
            await client.disconnect()

    asyncio.run(visit())
