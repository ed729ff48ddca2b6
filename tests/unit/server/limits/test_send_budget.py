"""What waits for peers that do not read: counted in bytes, whatever it is, and in all."""

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
# More than the kernel takes for a peer that does not read.
KERNEL = 8 * MB


def patient(max_unsent: int = 100 * MB, max_unsent_total: int = 100 * MB) -> ServerLimits:
    """Limits under which a peer is dropped for what it leaves unread, not for how long."""
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
    """Signal `target` until it is dropped or got `size` bytes; how many it got."""
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
            # No room is left in the kernel after these.
            await fill(alice, "deaf", KERNEL)
            assert "deaf" in server.peers
            request = "42" + "9" * 99 + '["signal",{"target":"x","session":"s","signal":{}}]'
            batch = 100 * websocket_frame(request)
            deaf.settimeout(50.0)
            # Far more than the kernel takes of what the server has not come to yet.
            with pytest.raises(ConnectionError):
                for _ in range(6000):
                    deaf.sendall(batch)
            await eventually(lambda: "deaf" not in server.peers, "deaf is dropped")

    visit(patient(max_unsent=10 * MB), test)


def test_what_is_not_ascii_counts_as_it_is_sent() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, deaf_peer(server, "deaf"):
            await alice.enter()
            # Four bytes here are twelve in the escapes of JSON.
            text = "\N{GRINNING FACE}" * 100_000
            assert await fill(alice, "deaf", 2 * KERNEL, text) < KERNEL

    visit(patient(max_unsent=4 * MB), test)


def test_all_peers_together_leave_only_so_much_unread() -> None:
    async def test(server: ArticoServer) -> None:
        async with AsyncExitStack() as stack:
            alice = await stack.enter_async_context(RawPeer(server.url, "alice"))
            await alice.enter()
            for id in ("most", "less"):
                await stack.enter_async_context(deaf_peer(server, id))
            await fill(alice, "less", 5 * MB)
            assert await fill(alice, "most", 10 * KERNEL) < 3 * KERNEL
            # Who leaves most unread has to go, and its part is free again.
            assert server.peers == ("alice", "less")
            assert await fill(alice, "less", MB) >= MB

    visit(patient(max_unsent_total=12 * MB), test)


def test_who_does_not_read_is_cut_off() -> None:
    async def test(server: ArticoServer) -> None:
        async with RawPeer(server.url, "alice") as alice, deaf_peer(server, "deaf") as deaf:
            await alice.enter()
            await fill(alice, "deaf", 2 * KERNEL)
            # What it still has is not the end of all that was sent to it.
            deaf.settimeout(5.0)
            with pytest.raises(ConnectionError):
                while True:
                    deaf.sendall(websocket_frame("3"))

    visit(patient(max_unsent=2 * MB), test)


def test_an_announcement_to_many_takes_its_time() -> None:
    async def test(server: ArticoServer) -> None:
        async with AsyncExitStack() as stack:
            for number in range(21):
                member = await stack.enter_async_context(RawPeer(server.url, f"peer{number}"))
                await member.enter()
                await member.emit("join", "room")
            begun = time.monotonic()
            for _ in range(20):
                await member.emit("join", "room")
            await member.signal("nobody", {}, request=1)
            await member.acknowledged(1)
            # 20 messages, and 2 more for each one's 20 recipients.
            assert 0.8 < time.monotonic() - begun < 15

    visit(ServerLimits(signals_per_second=40, signals_burst=25), test)


def test_the_largest_rooms_are_entered_at_once() -> None:
    limits = ServerLimits()
    # As a peer does that comes back, in as many rooms as it may.
    rooms, others = limits.max_rooms_per_peer, limits.max_peers_per_room - 1
    assert rooms * (1 + others / 10) <= limits.signals_burst
    # As all members of a room do, from behind one address.
    assert others * (1 + others / 2 / 10) <= limits.address_signals_burst
