"""An in-memory stand-in for two DTLS transports with a bad network between them; loop thread."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, cast

from aiortc import RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities
from pyee.asyncio import AsyncIOEventEmitter

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.sctp.transport import SctpTransport

TransportFactory = Callable[[RTCDtlsTransport], RTCSctpTransport]


class Network:
    """What happens to the packets between two ends."""

    def __init__(
        self,
        *,
        delay: float = 0.0,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.delay = delay
        self.loss = loss
        self.reorder = reorder
        self.duplicate = duplicate
        self.random = random.Random(seed)
        self.is_cut = False
        #: Sees each packet first; returning False drops it.
        self.filter: Callable[[bytes], bool] = lambda packet: True
        self.packets = 0

    def carry(self, packet: bytes, deliver: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.packets += 1
        if self.is_cut or not self.filter(packet) or self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.duplicate else 1):
            delay = self.delay
            if self.random.random() < self.reorder:
                delay += max(self.delay / 2, 0.002)
            if delay:
                loop.call_later(delay, deliver, packet)
            else:
                loop.call_soon(deliver, packet)


class DtlsEnd(AsyncIOEventEmitter):
    """As much of an RTCDtlsTransport as SCTP sees."""

    def __init__(self, network: Network, role: str) -> None:
        super().__init__()
        self.state = "connected"
        self.transport = None
        self._role = role
        self._network = network
        self.other: DtlsEnd | None = None
        self.receiver: Any = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._pump = asyncio.create_task(self._run())

    def _register_data_receiver(self, receiver: Any) -> None:
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self.receiver = None

    async def _send_data(self, data: bytes) -> None:
        assert self.other is not None
        self._network.carry(data, self.other.arrived)

    def arrived(self, packet: bytes) -> None:
        self._queue.put_nowait(packet)

    async def _run(self) -> None:
        while True:
            packet = await self._queue.get()
            if self.receiver is not None:
                await self.receiver._handle_data(packet)

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.wait([self._pump])


class Pair:
    """Two transports over a network; each channel `a` opens reaches `b` as well."""

    def __init__(
        self,
        network: Network,
        make_a: TransportFactory | None = None,
        make_b: TransportFactory | None = None,
        settings: Settings | None = None,
    ) -> None:
        def make_ours(transport: RTCDtlsTransport) -> RTCSctpTransport:
            return SctpTransport(transport, settings or Settings())

        self.network = network
        self._ends = (DtlsEnd(network, "client"), DtlsEnd(network, "server"))
        self._ends[0].other, self._ends[1].other = self._ends[1], self._ends[0]
        self.a = (make_a or make_ours)(cast(RTCDtlsTransport, self._ends[0]))
        self.b = (make_b or make_ours)(cast(RTCDtlsTransport, self._ends[1]))
        self.opened: asyncio.Queue[RTCDataChannel] = asyncio.Queue()
        self.b.on("datachannel", self.opened.put_nowait)

    async def __aenter__(self) -> Pair:
        capabilities = RTCSctpCapabilities(maxMessageSize=0)
        await self.a.start(capabilities, 5000)
        await self.b.start(capabilities, 5000)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.a.stop()
        await self.b.stop()
        for end in self._ends:
            await end.close()

    @property
    def ours(self) -> SctpTransport:
        assert isinstance(self.a, SctpTransport)
        return self.a

    @property
    def peer(self) -> SctpTransport:
        assert isinstance(self.b, SctpTransport)
        return self.b

    async def channel(self, **parameters: Any) -> tuple[RTCDataChannel, RTCDataChannel]:
        """A channel opened by `a`, and how `b` sees it."""
        local = RTCDataChannel(self.a, RTCDataChannelParameters(**parameters))
        remote = await self.opened.get()
        while local.readyState != "open":
            await asyncio.sleep(0.001)
        return local, remote


class Collector:
    """Takes messages, and tells when enough have come."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self._arrived = asyncio.Event()

    def take(self, message: str | bytes) -> None:
        self.messages.append(message)
        self._arrived.set()

    def take_all(self, channel: RTCDataChannel, messages: list[str | bytes]) -> None:
        self.messages += messages
        self._arrived.set()

    async def wait(self, count: int) -> list[str | bytes]:
        while len(self.messages) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.messages
