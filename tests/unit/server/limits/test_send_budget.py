"""Packets queued for peers that do not read: bounded in bytes, per peer and in total."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from artico_sync import ArticoServer
from artico_sync.server.server import ServerLimits
from tests.unit.server.deaf_peer import deaf_peer, websocket_frame
from tests.unit.server.raw_peer import RawPeer, eventually

MB = 1_000_000
# More than the kernel buffers for a peer that does not read.
KERNEL = 8 * MB


def byte_limits(max_unsent: int = 100 * MB, max_unsent_total: int = 100 * MB) -> ServerLimits:
    """Return limits that drop a peer for unread bytes, but not for the time they are unread."""
    return ServerLimits(
        max_unsent=max_unsent,
        max_unsent_total=max_unsent_total,
        send_timeout=60.0,
        signals_per_second=1e6,
        signals_burst=MB,
        address_signals_per_second=1e6,
        address_signals_burst=MB,
    )


def visit(limits: ServerLimits, test: Callable[[ArticoServer], Awaitable[None]]) -> None:
    async def run(server: ArticoServer) -> None:
        await test(server)

    with ArticoServer(port=0, limits=limits) as server:
        asyncio.run(run(server))


async def fill(sender: RawPeer, target: str, size: int, text: str = "x" * 400_000) -> int:
    """Signal `target` until it is dropped or was sent `size` bytes, and return how many."""
    sent = 0
    while sent < size:
        message = {"target": target, "session": "s", "signal": {"type": text}}
        await sender.send_frame("421" + json.dumps(["signal", message], ensure_ascii=False))
        if await sender.acknowledged(1) == {"delivered": False}:
            break
        sent += len(text.encode())
    return sent


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_acknowledgements_count() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, deaf_peer(server, "deaf") as deaf:
            await alice.enter()
            # These fill the buffers of the kernel.
            await fill(alice, "deaf", KERNEL)
            assert "deaf" in server.peers
            request = "42" + "9" * 99 + '["signal",{"target":"x","session":"s","signal":{}}]'
            batch = 100 * websocket_frame(request)
            deaf.settimeout(50.0)
            # Far more than the kernel buffers for data that the server has not read.
            with pytest.raises(ConnectionError):
                for _ in range(6000):
                    deaf.sendall(batch)
            await eventually(lambda: "deaf" not in server.peers, "deaf is dropped")

    visit(byte_limits(max_unsent=10 * MB), test)


def test_text_that_is_not_ascii_counts_as_it_is_encoded() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, deaf_peer(server, "deaf"):
            await alice.enter()
            # Four bytes here are twelve in the escapes of JSON.
            text = "\N{GRINNING FACE}" * 100_000
            assert await fill(alice, "deaf", 2 * KERNEL, text) < KERNEL

    visit(byte_limits(max_unsent=4 * MB), test)


def test_unread_bytes_of_all_peers_together_are_bounded() -> None:
    async def test(server: ArticoServer) -> None:
        async with AsyncExitStack() as stack:
            alice = await stack.enter_async_context(RawPeer(server.url, "alice"))
            await alice.enter()
            for id in ("most", "less"):
                await stack.enter_async_context(deaf_peer(server, id))
            await fill(alice, "less", 5 * MB)
            assert await fill(alice, "most", 10 * KERNEL) < 3 * KERNEL
            # The peer with most unread bytes is dropped, and its part of the budget is free.
            assert server.peers == ("alice", "less")
            assert await fill(alice, "less", MB) >= MB

    visit(byte_limits(max_unsent_total=12 * MB), test)


def test_a_peer_that_does_not_read_is_cut() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, deaf_peer(server, "deaf") as deaf:
            await alice.enter()
            await fill(alice, "deaf", 2 * KERNEL)
            # It is cut before it has received everything that was sent to it.
            deaf.settimeout(5.0)
            with pytest.raises(ConnectionError):
                while True:
                    deaf.sendall(websocket_frame("3"))

    visit(byte_limits(max_unsent=2 * MB), test)


@pytest.mark.slow
def test_joining_a_large_room_counts_its_recipients() -> None:
    async def test(server: ArticoServer) -> None:
        async with AsyncExitStack() as stack:
            for number in range(21):
                member = await stack.enter_async_context(RawPeer(server.url, f"peer{number}"))
                await member.enter()
                await member.emit("join", "room")
            started = time.monotonic()
            for _ in range(20):
                await member.emit("join", "room")
            await member.signal("nobody", {}, request=1)
            await member.acknowledged(1)
            # 20 messages, and 2 more for each one's 20 recipients.
            assert 0.8 < time.monotonic() - started < 15

    visit(ServerLimits(signals_per_second=40, signals_burst=25), test)


def test_the_largest_rooms_are_entered_at_once() -> None:
    limits = ServerLimits()
    # A peer that reconnects may enter the maximum number of rooms.
    rooms, others = limits.max_rooms_per_peer, limits.max_peers_per_room - 1
    assert rooms * (1 + others / 10) <= limits.signals_burst
    # All members of a room may reconnect from one address.
    assert others * (1 + others / 2 / 10) <= limits.address_signals_burst
