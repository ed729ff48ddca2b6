"""Two SCTP transports over in-memory DTLS stand-ins with a bad network between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

from aiortc import RTCSctpTransport
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities
from pyee.asyncio import AsyncIOEventEmitter

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.path_mtu import UNIVERSAL_MTU
from artico_sync._webrtc.sctp.transport import PacketTransport, SctpTransport

AnyTransport = SctpTransport | RTCSctpTransport
AnyChannel = Channel | RTCDataChannel
TransportFactory = Callable[[Any], AnyTransport]


class Network:
    """The path between two ends: delay, loss, reordering, duplication."""

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
        #: Is called with each packet; returning False drops it.
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
    """The part of a DTLS transport that SCTP uses, of artico_sync's and of aiortc's."""

    def __init__(self, network: Network, role: str) -> None:
        super().__init__()
        self.state = "connected"
        self.transport = None
        self._role = role
        self._network = network
        self.other: DtlsEnd | None = None
        self.receiver: Any = None
        self.receive: Callable[[bytes], None] | None = None
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._pump = asyncio.create_task(self._run())

    # The interface that artico_sync's SCTP transport uses.

    can_send_at_once = False
    packet_maximum = UNIVERSAL_MTU

    @property
    def is_client(self) -> bool:
        return self._role == "client"

    def set_packet_receiver(self, receive: Callable[[bytes], None] | None) -> None:
        self.receive = receive

    def send_packets(self, packets: Sequence[bytes]) -> None:
        raise AssertionError("it cannot send at once")

    async def send_packet(self, packet: bytes) -> None:
        assert self.other is not None
        self._network.carry(packet, self.other.arrived)

    # The interface that aiortc's SCTP transport uses.

    def _register_data_receiver(self, receiver: Any) -> None:
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self.receiver = None

    _send_data = send_packet

    def arrived(self, packet: bytes) -> None:
        self._queue.put_nowait(packet)

    async def _run(self) -> None:
        while True:
            packet = await self._queue.get()
            if self.receive is not None:
                self.receive(packet)
            elif self.receiver is not None:
                await self.receiver._handle_data(packet)

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.wait([self._pump])


class Pair:
    """Two transports, connected by a network."""

    def __init__(
        self,
        network: Network,
        make_a: TransportFactory | None = None,
        make_b: TransportFactory | None = None,
        settings: Settings | None = None,
    ) -> None:
        def make_ours(transport: PacketTransport) -> SctpTransport:
            return SctpTransport(transport, settings or Settings())

        self.network = network
        self._ends = (DtlsEnd(network, "client"), DtlsEnd(network, "server"))
        self._ends[0].other, self._ends[1].other = self._ends[1], self._ends[0]
        self.a = (make_a or make_ours)(self._ends[0])
        self.b = (make_b or make_ours)(self._ends[1])
        self.opened: asyncio.Queue[AnyChannel] = asyncio.Queue()
        if isinstance(self.b, SctpTransport):
            self.b.channels.on_channel = self.opened.put_nowait
        else:
            self.b.on("datachannel", self.opened.put_nowait)

    async def __aenter__(self) -> Pair:
        for transport in (self.a, self.b):
            if isinstance(transport, SctpTransport):
                await transport.start(0, 5000)
            else:
                await transport.start(RTCSctpCapabilities(maxMessageSize=0), 5000)
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

    async def channel(
        self,
        *,
        label: str = "",
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
    ) -> tuple[AnyChannel, AnyChannel]:
        """Open a channel at `a`; return it and the one that appears at `b`."""
        local: AnyChannel
        if isinstance(self.a, SctpTransport):
            local = self.a.open_channel(
                ChannelParameters(label, protocol, ordered, max_retransmits)
            )
        else:
            local = RTCDataChannel(
                self.a,
                RTCDataChannelParameters(
                    label=label, protocol=protocol, ordered=ordered, maxRetransmits=max_retransmits
                ),
            )
        remote = await self.opened.get()
        while state_of(local) != "open":
            await asyncio.sleep(0.001)
        return local, remote

    async def own_channel(self) -> tuple[Channel, Channel]:
        """Do the same between two transports of artico_sync."""
        local, remote = await self.channel()
        assert isinstance(local, Channel) and isinstance(remote, Channel)
        return local, remote


def state_of(channel: AnyChannel) -> str:
    """Return the state of a channel of either kind."""
    return channel.ready_state if isinstance(channel, Channel) else channel.readyState


def listen(channel: AnyChannel, event: str, handler: Callable[..., None]) -> None:
    """Handle "open", "close" or "message" of a channel of either kind."""
    if isinstance(channel, Channel):
        setattr(channel, f"on_{event}", handler)
    else:
        channel.on(event, handler)


class Collector:
    """Collects messages, and waits until a number of them has arrived."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self._arrived = asyncio.Event()

    def take(self, message: str | bytes) -> None:
        self.messages.append(message)
        self._arrived.set()

    def take_all(self, channel: AnyChannel, messages: list[str | bytes]) -> None:
        self.messages += messages
        self._arrived.set()

    async def wait(self, count: int) -> list[str | bytes]:
        while len(self.messages) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.messages
