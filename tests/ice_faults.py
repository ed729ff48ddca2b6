"""STUN and TURN servers that may stay silent, and a path that can be cut, for tests of ICE."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from aioice import stun

LOOPBACK = "127.0.0.1"
Address = tuple[str, int]


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a UDP server that never responds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((LOOPBACK, 0))
        yield sock.getsockname()[1]


class _Endpoint(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received
        self.transport: asyncio.DatagramTransport
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._received(data, (addr[0], addr[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)

    @property
    def address(self) -> Address:
        name: Address = self.transport.get_extra_info("sockname")
        return name

    async def close(self) -> None:
        self.transport.close()
        await self.ended


async def open_endpoint(received: Callable[[bytes, Address], None]) -> _Endpoint:
    _, endpoint = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Endpoint(received), local_addr=(LOOPBACK, 0)
    )
    return endpoint


class StunServer:
    """Answers every request with the same mapped address."""

    def __init__(self, mapped: Address) -> None:
        self._mapped = mapped
        self.asked = 0

    async def __aenter__(self) -> StunServer:
        self._endpoint = await open_endpoint(self._answer)
        self.port = self._endpoint.address[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.close()

    def _answer(self, data: bytes, address: Address) -> None:
        request = stun.parse_message(data)
        self.asked += 1
        answer = stun.Message(
            request.message_method,
            stun.Class.RESPONSE,
            request.transaction_id,
            {"XOR-MAPPED-ADDRESS": self._mapped},
        )
        self._endpoint.transport.sendto(bytes(answer), address)


class TurnServer:
    """A minimal TURN server over UDP: allocations without passwords, channels, refreshes."""

    def __init__(self) -> None:
        self.allocations: dict[Address, _Endpoint] = {}
        self._channels: dict[Address, dict[int, Address]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transactions: set[bytes] = set()
        #: Number of indications received.
        self.indications = 0
        #: True to stop answering.
        self.dead = False

    async def __aenter__(self) -> TurnServer:
        self._endpoint = await open_endpoint(self._received)
        self.port = self._endpoint.address[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            await task
        for endpoint in self.allocations.values():
            await endpoint.close()
        await self._endpoint.close()

    def send(self, data: bytes, client: Address) -> None:
        self._endpoint.transport.sendto(data, client)

    def _received(self, data: bytes, client: Address) -> None:
        if self.dead:
            return
        if data[0] & 0xC0 == 0x40:
            peer = self._channels[client][int.from_bytes(data[:2], "big")]
            length = int.from_bytes(data[2:4], "big")
            self.allocations[client].transport.sendto(data[4 : 4 + length], peer)
            return
        message = stun.parse_message(data)
        if message.message_class == stun.Class.INDICATION:
            self.indications += 1
            return
        if message.transaction_id in self._transactions:
            # Asked again, because we were slow.
            return
        self._transactions.add(message.transaction_id)
        task = asyncio.ensure_future(self._handle(message, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, request: stun.Message, client: Address) -> None:
        attributes: dict[str, Any] = {}
        if request.message_method == stun.Method.ALLOCATE:
            channels = self._channels[client] = {}

            def relayed(data: bytes, peer: Address) -> None:
                for number, known in channels.items():
                    if known == peer:
                        header = number.to_bytes(2, "big") + len(data).to_bytes(2, "big")
                        self._endpoint.transport.sendto(header + data, client)

            self.allocations[client] = await open_endpoint(relayed)
            attributes = {
                "LIFETIME": 600,
                "XOR-MAPPED-ADDRESS": client,
                "XOR-RELAYED-ADDRESS": self.allocations[client].address,
            }
        elif request.message_method == stun.Method.CHANNEL_BIND:
            number = request.attributes["CHANNEL-NUMBER"]
            self._channels[client][number] = request.attributes["XOR-PEER-ADDRESS"]
        elif request.message_method == stun.Method.REFRESH:
            attributes = {"LIFETIME": request.attributes["LIFETIME"]}
            if not attributes["LIFETIME"]:
                await self.allocations.pop(client).close()
        answer = stun.Message(
            request.message_method, stun.Class.RESPONSE, request.transaction_id, attributes
        )
        self._endpoint.transport.sendto(bytes(answer), client)


class Path:
    """A UDP relay between one peer, which sends to `port`, and the other, at `target`."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._backs: dict[Address, _Endpoint] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = False
        self.carried = 0

    async def __aenter__(self) -> Path:
        self._front = await open_endpoint(self._forward)
        self.port = self._front.address[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in list(self._tasks):
            await task
        for back in self._backs.values():
            await back.close()
        await self._front.close()

    def _forward(self, data: bytes, source: Address) -> None:
        if self.cut:
            return
        self.carried += 1
        back = self._backs.get(source)
        if back is not None:
            back.transport.sendto(data, self._target)
            return
        task = asyncio.ensure_future(self._open(data, source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, data: bytes, source: Address) -> None:
        def back(answer: bytes, _: Address) -> None:
            if not self.cut:
                self._front.transport.sendto(answer, source)

        endpoint = await open_endpoint(back)
        self._backs[source] = endpoint
        endpoint.transport.sendto(data, self._target)
