"""Peers that send malformed or too many messages, or do not read, and do not affect others."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artico_sync import ArticoServer
from artico_sync.server.server import ServerLimits
from tests.unit.server.deaf_peer import PING, PONG, deaf_peer, websocket_frame
from tests.unit.server.raw_peer import WAIT, RawPeer, two_peers

NESTED = "[" * 5_000 + "]" * 5_000

MALFORMED_FRAMES = [
    "",
    "4",
    "9",
    "x",
    "\x00",
    "2probe",
    "2",
    "5",
    "6",
    "0{}",
    "bAAAA",
    "b!",
    "3" + "x" * 1000,
    "4" + NESTED,
    "40/other,{}",
    "40",
    "40[]",
    "41/other,",
    "42",
    "42null",
    "42{}",
    "42[]",
    "42[5]",
    "42[null]",
    '42["signal"',
    '42["connect",{"asgi.scope":{}},{}]',
    '42["disconnect","x"]',
    '42["message","x"]',
    '42["open","alice"]',
    '42["signal",NaN]',
    '42["signal",{"target":"bob","session":"s","signal":{"x":NaN}}]',
    '42["signal",{"target":"bob","session":"s","signal":{"x":-Infinity}}]',
    '42["signal",{"target":"bob","session":"s","signal":{"x":1e400}}]',
    '42["signal",{"target":"bob","session":"s","metadata":[-1e999],"signal":{}}]',
    '42["signal",{"target":"bob","session":"s","signal":{"x":' + "9" * 5000 + "}}]",
    '42["signal",{"target":"bob","session":"s","signal":' + NESTED + "}]",
    "42" + NESTED,
    "42" + "9" * 99 + '["signal"]',
    "42" + "9" * 200 + '["signal"]',
    '43["x"]',
    '4312["x"]',
    "44",
    '44{"message":"x"}',
    '451-["signal",{"_placeholder":true,"num":0}]',
    '459999999999-["signal",{"_placeholder":true,"num":0}]',
    "461-[]",
    "47",
    "4é",
    "42\ud7ff",
]

MALFORMED_ARGUMENTS: list[list[object]] = [
    [],
    [None],
    [5],
    ["text"],
    [[]],
    [{}],
    [{"target": "bob"}],
    [{"target": "bob", "session": "s"}],
    [{"target": "bob", "session": "s", "signal": None}],
    [{"target": "bob", "session": "s", "signal": "text"}],
    [{"target": "bob", "session": "s", "signal": []}],
    [{"target": "bob", "session": 5, "signal": {}}],
    [{"target": "bob", "session": "", "signal": {}}],
    [{"target": "bob", "session": "s" * 1000, "signal": {}}],
    [{"target": ["bob"], "session": "s", "signal": {}}],
    [{"target": {"bob": 1}, "session": "s", "signal": {}}],
    [{"target": "", "session": "s", "signal": {}}],
    [{"target": "b" * 1000, "session": "s", "signal": {}}],
    [{"target": "bob", "session": "s", "signal": {}, "metadata": "m" * 100_000}],
    [{"target": "bob", "session": "s", "signal": {"x": [[]] * 30_000}}],
    [{"target": "bob", "session": "s", "signal": {"x": [[[[[]]]]] * 10_000}}],
]


@asynccontextmanager
async def bystanders(server: ArticoServer) -> AsyncIterator[tuple[RawPeer, RawPeer]]:
    """Two honest peers that can reach each other at the end, and have received nothing else."""
    async with two_peers(server) as (alice, bob):
        yield alice, bob
        await alice.signal("bob", {"type": "still there?"}, request=7)
        assert await alice.acknowledged(7) == {"delivered": True}
        assert (await bob.event())[1][0]["signal"] == {"type": "still there?"}


@pytest.mark.parametrize("frame", MALFORMED_FRAMES, ids=lambda frame: repr(frame[:30]))
def test_a_malformed_frame_has_no_effect_on_others(server: ArticoServer, frame: str) -> None:
    async def visit() -> None:
        async with bystanders(server), RawPeer(server.url, "mallory") as mallory:
            # Before the Socket.IO connection, and after it.
            await mallory.send_frame(frame)
            if frame != "40":
                await mallory.enter()
            await mallory.send_frame(frame)

    asyncio.run(visit())


@pytest.mark.parametrize("arguments", MALFORMED_ARGUMENTS, ids=lambda value: repr(value)[:40])
def test_a_malformed_signal_is_dropped_and_its_sender_kept(
    server: ArticoServer, arguments: list[object]
) -> None:
    async def visit() -> None:
        async with bystanders(server), RawPeer(server.url, "mallory") as mallory:
            await mallory.enter()
            await mallory.emit("signal", *arguments, request=1)
            assert await mallory.acknowledged(1) == {"delivered": False}
            await mallory.emit("join", *arguments)
            await mallory.signal("nobody", {}, request=2)
            assert await mallory.acknowledged(2) == {"delivered": False}

    asyncio.run(visit())


@pytest.mark.parametrize(
    "arguments",
    [[], [None], [5], [""], ["r" * 1000], [{}], ["r", "m" * 100_000], ["r", [[[]]] * 9999]],
)
def test_a_malformed_join_enters_nothing(server: ArticoServer, arguments: list[object]) -> None:
    async def visit() -> None:
        async with bystanders(server), RawPeer(server.url, "mallory") as mallory:
            await mallory.enter()
            await mallory.emit("join", *arguments)
            await mallory.signal("nobody", {}, request=2)
            assert await mallory.acknowledged(2) == {"delivered": False}

    asyncio.run(visit())


def test_other_namespaces_are_not_answered(server: ArticoServer) -> None:
    async def visit() -> None:
        async with bystanders(server), RawPeer(server.url, "mallory") as mallory:
            await mallory.send_frame("40/before,{}")
            # The `open` event is the first one.
            await mallory.enter()
            await mallory.send_frame("40/after,{}")
            await mallory.signal("nobody", {}, request=1)
            assert await mallory.acknowledged(1) == {"delivered": False}

    asyncio.run(visit())


def test_binary_frames_are_dropped(server: ArticoServer) -> None:
    async def visit() -> None:
        async with bystanders(server), RawPeer(server.url, "mallory") as mallory:
            await mallory.enter()
            await mallory.socket.send_bytes(b'42["signal",{}]')
            await mallory.socket.send_bytes(b"")
            await mallory.signal("nobody", {}, request=1)
            assert await mallory.acknowledged(1) == {"delivered": False}

    asyncio.run(visit())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["target", "session", "signal", "metadata", "source", "type", "x"]),
            inner | st.sampled_from(["bob", "alice", "mallory", "call:1"]),
            max_size=6,
        )
    ),
    max_leaves=15,
)
EVENT_FRAMES = st.builds(
    lambda name, arguments, request: f"42{request}{json.dumps([name, *arguments])}",
    st.sampled_from(["signal", "join", "open", "error", "connect", "disconnect"]),
    st.lists(JSON, max_size=3),
    st.sampled_from(["", "0", "1", "99999999999"]),
)
RAW_FRAMES = st.builds(
    lambda head, tail: head + tail,
    st.text(alphabet='0123456789b/-,[]{}"', max_size=6),
    st.text(max_size=40),
)


@pytest.mark.slow
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=st.lists(RAW_FRAMES, max_size=3), after=st.lists(RAW_FRAMES | EVENT_FRAMES))
def test_arbitrary_frames(server: ArticoServer, before: list[str], after: list[str]) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "carol") as carol:
            await carol.enter()
            async with RawPeer(server.url, "mallory") as mallory:
                try:
                    for frame in [*before, "40", *after]:
                        await mallory.send_frame(frame)
                except ConnectionError:
                    # One of the frames closed the connection.
                    pass
            await carol.signal("carol", {"type": "still there?"})
            assert (await carol.event())[1][0]["signal"] == {"type": "still there?"}

    asyncio.run(visit())


def test_a_message_beyond_the_limit_ends_its_sender(server: ArticoServer) -> None:
    async def visit() -> None:
        async with bystanders(server), RawPeer(server.url, "mallory") as mallory:
            await mallory.enter()
            await mallory.signal("bob", {"type": "x" * 600_000})
            await mallory.gone()

    asyncio.run(visit())


def test_a_description_of_a_large_call_passes(server: ArticoServer) -> None:
    async def visit() -> None:
        async with two_peers(server) as (alice, bob):
            sdp = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n" * 6_000
            await alice.signal("bob", {"type": "sdp", "data": {"type": "offer", "sdp": sdp}})
            assert (await bob.event())[1][0]["signal"]["data"]["sdp"] == sdp

    asyncio.run(visit())


@pytest.mark.slow
def test_a_silent_connection_is_dropped() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "mute") as mute:
            await mute.gone()

    with ArticoServer(port=0, limits=ServerLimits(handshake_timeout=2.0)) as server:
        asyncio.run(visit(server))


@pytest.mark.slow
def test_a_fast_sender_is_slowed_down_and_loses_nothing() -> None:
    async def visit(server: ArticoServer) -> float:
        async with two_peers(server) as (alice, bob):
            begun = time.monotonic()
            for number in range(60):
                await alice.signal("bob", {"number": number})
            numbers = [(await bob.event())[1][0]["signal"]["number"] for _ in range(60)]
            assert numbers == list(range(60))
            return time.monotonic() - begun

    limits = ServerLimits(signals_per_second=50, signals_burst=10)
    with ArticoServer(port=0, limits=limits) as server:
        assert 0.8 < asyncio.run(visit(server)) < 15


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_a_flood_of_pings_is_slowed_down(opcode: int) -> None:
    async def visit(server: ArticoServer) -> None:
        loop = asyncio.get_running_loop()
        async with RawPeer(server.url, "alice") as alice, deaf_peer(server, "mallory") as mallory:
            await alice.enter()
            mallory.setblocking(False)
            flood = asyncio.ensure_future(
                loop.sock_sendall(mallory, 2_000_000 * websocket_frame("", opcode))
            )
            for number in range(5):
                await alice.signal("nobody", {}, request=number)
                await alice.acknowledged(number)
            # TCP holds it back.
            assert not flood.done()
            flood.cancel()
            await asyncio.wait({flood})

    with ArticoServer(port=0) as server:
        asyncio.run(visit(server))


def test_a_ping_is_answered(server: ArticoServer) -> None:
    async def visit() -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            await asyncio.wait_for(answer_to_ping(alice.socket), WAIT)

    async def answer_to_ping(client: aiohttp.ClientWebSocketResponse) -> None:
        client._autoping = False
        await client.ping(b"are you there?")
        message = await client.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"are you there?")

    asyncio.run(visit())


@pytest.mark.slow
def test_the_peers_of_one_address_share_a_rate() -> None:
    async def visit(server: ArticoServer) -> float:
        async with two_peers(server) as (alice, bob):
            begun = time.monotonic()
            for _ in range(30):
                await alice.signal("nobody", {})
                await bob.signal("nobody", {})
            for peer in (alice, bob):
                await peer.signal("nobody", {}, request=1)
                await peer.acknowledged(1)
            return time.monotonic() - begun

    limits = ServerLimits(address_signals_per_second=50, address_signals_burst=10)
    with ArticoServer(port=0, limits=limits) as server:
        assert 0.8 < asyncio.run(visit(server)) < 15


def test_new_connections_are_limited_per_address() -> None:
    async def visit(server: ArticoServer) -> None:
        for number in range(5):
            async with RawPeer(server.url, f"peer{number}") as peer:
                await peer.enter()
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            async with RawPeer(server.url, "one-too-many"):
                pass

    limits = ServerLimits(connections_per_second=0.01, connections_burst=5)
    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(visit(server))


def test_peers_are_limited_per_address() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
                async with RawPeer(server.url, "bob"):
                    pass

    with ArticoServer(port=0, limits=ServerLimits(max_peers_per_address=1)) as server:
        asyncio.run(visit(server))


def test_peers_are_limited_in_all() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice:
            await alice.enter()
            async with RawPeer(server.url, "bob") as bob:
                assert await bob.refused() == "server-full"
            async with RawPeer(server.url, "carol"), RawPeer(server.url, "dave") as dave:
                pass
            assert dave.id not in server.peers

    with ArticoServer(port=0, limits=ServerLimits(max_peers=1)) as server:
        # Alice and one that is not admitted yet are two connections; a third is refused.
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            asyncio.run(visit(server))


def test_rooms_are_limited() -> None:
    async def visit(server: ArticoServer) -> None:
        async with (
            RawPeer(server.url, "alice") as alice,
            RawPeer(server.url, "bob") as bob,
            RawPeer(server.url, "carol") as carol,
        ):
            for peer in (alice, bob, carol):
                await peer.enter()
                for room in ("one", "two", "three"):
                    await peer.emit("join", room)
                await peer.signal("nobody", {}, request=1)
                frames = []
                while not (frame := await peer.frame()).startswith("431"):
                    frames.append(frame)
            # Each has two rooms, each room two peers: bob was announced to alice in both.
            assert [(await alice.event())[1] for _ in range(2)] == [["one", "bob"], ["two", "bob"]]
            await bob.signal("alice", {"type": "last"})
            assert (await alice.event())[0] == "signal"

    limits = ServerLimits(max_rooms_per_peer=2, max_peers_per_room=2)
    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(visit(server))


def test_a_peer_that_does_not_read_is_dropped_before_it_fills_the_memory() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, RawPeer(server.url, "deaf") as deaf:
            await alice.enter()
            await deaf.enter()
            # The buffers of the kernel and of aiohttp take a few megabytes; then it must stop.
            for number in range(400):
                await alice.signal("deaf", {"type": "x" * 100_000}, request=number)
                if await alice.acknowledged(number) == {"delivered": False}:
                    return
            pytest.fail("the server queued 40 MB for a peer that does not read")

    limits = ServerLimits(max_unsent=1_000_000)
    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(visit(server))
        assert "deaf" not in server.peers


def test_a_peer_that_stops_reading_for_long_is_dropped() -> None:
    async def visit(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, RawPeer(server.url, "deaf") as deaf:
            await alice.enter()
            await deaf.enter()
            sent = 0
            async with asyncio.timeout(WAIT):
                while "deaf" in server.peers:
                    await alice.signal("deaf", {"type": "x" * 400_000}, request=sent)
                    await alice.acknowledged(sent)
                    sent += 1

    limits = ServerLimits(
        send_timeout=0.1,
        max_unsent=1_000_000_000,
        signals_per_second=1e6,
        signals_burst=1_000_000,
    )
    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(visit(server))
