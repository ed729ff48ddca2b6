"""The data pump of DTLS against hostile datagrams, and without the fast paths below it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiortc import RTCCertificate
from aiortc.rtcicetransport import RTCIceTransport
from aiortc.rtp import RtcpByePacket, RtpPacket
from pyee.asyncio import AsyncIOEventEmitter

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.dtls.transport import DtlsTransport
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.transport import SctpTransport
from tests.unit._webrtc.sctp.sctp_link import Collector

LIMIT = 20.0


class IceEnd(AsyncIOEventEmitter):
    """The part of an ICE transport that DTLS uses; with `fast`, with the additions for it."""

    def __init__(self, role: str, fast: bool) -> None:
        super().__init__()
        self.role = role
        self.other: IceEnd | None = None
        self.consumer: Callable[[bytes], bool] | None = None
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        if fast:
            self.send_batch = self._pass_batch_on
            self.consume = self._set_consumer

    def _set_consumer(self, consumer: Callable[[bytes], bool] | None) -> None:
        self.consumer = consumer

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        asyncio.get_running_loop().call_soon(self.other.arrived, data)

    def _pass_batch_on(self, data: bytes | memoryview, size: int) -> None:
        for begin in range(0, len(data), size):
            self._pass_on(bytes(data[begin : begin + size]))

    def arrived(self, data: bytes) -> None:
        if self.consumer is None or not self.consumer(data):
            self._inbox.put_nowait(data)

    async def _send(self, data: bytes) -> None:
        self._pass_on(data)

    async def _recv(self) -> bytes:
        data = await self._inbox.get()
        if data is None:
            raise ConnectionError
        return data

    def end(self) -> None:
        self._inbox.put_nowait(None)


class Ends:
    """Two DTLS transports with SCTP on them."""

    def __init__(self, fast: bool) -> None:
        self.ice = IceEnd("controlling", fast), IceEnd("controlled", fast)
        self.ice[0].other, self.ice[1].other = self.ice[1], self.ice[0]
        self.dtls = [
            DtlsTransport(_as_ice(ice), [RTCCertificate.generateCertificate()]) for ice in self.ice
        ]
        self.sctp = [SctpTransport(dtls, Settings()) for dtls in self.dtls]

    async def __aenter__(self) -> Ends:
        parameters = [dtls.getLocalParameters() for dtls in self.dtls]
        await asyncio.gather(self.dtls[0].start(parameters[1]), self.dtls[1].start(parameters[0]))
        for sctp in self.sctp:
            await sctp.start(sctp.max_message_size, 5000)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for sctp, dtls, ice in zip(self.sctp, self.dtls, self.ice, strict=True):
            await sctp.stop()
            await dtls.stop()
            ice.end()
        await asyncio.sleep(0)

    async def talk(self) -> None:
        """A message across, and its echo."""
        there = Collector()
        self.sctp[1].channels.on_messages = there.take_all
        channel = self.sctp[0].open_channel(ChannelParameters(label="talk"))
        self.sctp[0].send_message(channel, b"x" * 100_000)
        await self.sctp[0].drained()
        assert await there.wait(1) == [b"x" * 100_000]


def _as_ice(ice: Any) -> RTCIceTransport:
    transport: RTCIceTransport = ice
    return transport


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await test()

    asyncio.run(limited())


@pytest.mark.parametrize("fast", [True, False])
def test_data_passes(fast: bool) -> None:
    async def test() -> None:
        async with Ends(fast) as ends:
            assert ends.dtls[0].can_send_at_once is fast
            await ends.talk()

    run(test)


@pytest.mark.parametrize("fast", [True, False])
def test_the_first_packet_after_the_handshake_is_received(fast: bool) -> None:
    async def test() -> None:
        ends = Ends(fast)
        parameters = [dtls.getLocalParameters() for dtls in ends.dtls]
        await asyncio.gather(ends.dtls[0].start(parameters[1]), ends.dtls[1].start(parameters[0]))
        received: asyncio.Queue[bytes] = asyncio.Queue()
        for dtls in ends.dtls:
            dtls.set_packet_receiver(received.put_nowait)
        for dtls in ends.dtls:
            await dtls.send_packet(b"first")
        assert [await received.get() for _ in ends.dtls] == [b"first", b"first"]
        for dtls, ice in zip(ends.dtls, ends.ice, strict=True):
            await dtls.stop()
            ice.end()
        await asyncio.sleep(0)

    run(test)


class MediaEnd:
    """A receiver of RTP and RTCP packets."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[object] = asyncio.Queue()

    async def handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        self.received.put_nowait(packet.sequence_number)

    async def handle_rtcp_packet(self, packet: Any) -> None:
        self.received.put_nowait(packet.sources)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (RtpPacket(payload_type=96, sequence_number=5).serialize(), 5),
        (bytes(RtcpByePacket(sources=[7])), [7]),
    ],
    ids=["rtp", "rtcp"],
)
def test_media_right_after_the_handshake_is_received(
    data: bytes, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        ends = Ends(True)
        media = MediaEnd()
        for dtls in ends.dtls:
            monkeypatch.setattr(dtls.router, "route_rtp", lambda packet: media)
            monkeypatch.setattr(dtls.router, "route_rtcp", lambda packet: {media})
        parameters = [dtls.getLocalParameters() for dtls in ends.dtls]
        await asyncio.gather(ends.dtls[0].start(parameters[1]), ends.dtls[1].start(parameters[0]))
        for dtls in ends.dtls:
            await dtls.send_rtp(data)
        assert [await media.received.get() for _ in ends.dtls] == [expected, expected]
        for dtls, ice in zip(ends.dtls, ends.ice, strict=True):
            await dtls.stop()
            ice.end()
        await asyncio.sleep(0)

    run(test)


@pytest.mark.parametrize("fast", [True, False])
def test_a_packet_sent_before_the_other_end_is_connected_is_received(fast: bool) -> None:
    """One end is connected first, and sends while the other still completes its handshake."""

    async def test() -> None:
        ends = Ends(fast)
        received: list[list[bytes]] = [[], []]
        for dtls, packets in zip(ends.dtls, received, strict=True):
            dtls.set_packet_receiver(packets.append)

        async def start_and_send(number: int) -> None:
            await ends.dtls[number].start(ends.dtls[1 - number].getLocalParameters())
            await ends.dtls[number].send_packet(b"first")

        await asyncio.gather(start_and_send(0), start_and_send(1))
        while received != [[b"first"], [b"first"]]:
            await asyncio.sleep(0.001)
        for dtls, ice in zip(ends.dtls, ends.ice, strict=True):
            await dtls.stop()
            ice.end()
        await asyncio.sleep(0)

    run(test)


@pytest.mark.parametrize("fast", [True, False])
def test_no_datagram_stops_the_pump(fast: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        chance = random.Random(3)
        async with Ends(fast) as ends:
            for first in range(256):
                for size in (0, 1, 12, 13, 40, 1400):
                    ends.ice[0].arrived(bytes((first,)) + chance.randbytes(size))
                record = bytes((first, 0xFE, 0xFD, 0, 1)) + bytes(6) + b"\x00\x08" + bytes(8)
                ends.ice[0].arrived(record)
                ends.ice[0].arrived(record * 3)
            ends.ice[0].arrived(b"")
            ends.ice[0].arrived(b"\x17" + bytes(70_000))
            await ends.talk()

    with caplog.at_level(logging.ERROR):
        run(test)


@pytest.mark.parametrize("fast", [True, False])
def test_an_exception_of_who_takes_the_data_is_logged_and_over(
    fast: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with Ends(fast) as ends:
            await ends.talk()
            taken = ends.dtls[1]._take_data
            assert taken is not None

            def fail(data: bytes) -> None:
                ends.dtls[1]._take_data = taken
                raise RuntimeError("taker")

            ends.dtls[1]._take_data = fail
            await ends.talk()

    run(test)
    assert "taker" in caplog.text


def test_the_goodbye_of_the_peer_ends_it() -> None:
    async def test() -> None:
        async with Ends(True) as ends:
            await ends.talk()
            closed = asyncio.Event()
            ends.dtls[1].on("statechange", closed.set)
            await ends.dtls[0].stop()
            await closed.wait()
            assert ends.dtls[1].state == "closed"
            assert ends.sctp[1].state == "closed"
            with pytest.raises(ConnectionError):
                ends.dtls[1].send_packets([b"late"])

    run(test)
