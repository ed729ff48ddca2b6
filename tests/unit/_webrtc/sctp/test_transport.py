"""Data channels over SCTP on good and bad networks, with artico_sync and aiortc as peers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from struct import pack
from typing import Any

import pytest
from aiortc import RTCSctpTransport

from artico_sync._protocol.bounds import footprint
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.sctp import packets as wire
from artico_sync._webrtc.sctp.association import LATE_SECONDS
from artico_sync._webrtc.sctp.channels import CHANNELS_MAX
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.packets import build_packet, chunk
from artico_sync._webrtc.sctp.path_mtu import BASE_MTU, ETHERNET_MTU, TUNNEL_MTU
from artico_sync._webrtc.sctp.transport import SctpTransport
from tests.unit._webrtc.sctp.sctp_link import (
    Collector,
    Network,
    Pair,
    TransportFactory,
    listen,
    state_of,
)

LIMIT = 30.0


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await test()

    asyncio.run(limited(), debug=False)


def bare(transport: Any) -> RTCSctpTransport:
    return RTCSctpTransport(transport)


def plain(transport: Any) -> SctpTransport:
    return SctpTransport(transport, Settings(accelerate=False))


SIDES: list[tuple[TransportFactory | None, TransportFactory | None]] = [
    (None, None),
    (None, bare),
    (bare, None),
    (plain, plain),
    (plain, None),
    (None, plain),
]
IDS = ["ours", "to aiortc", "from aiortc", "plain", "plain to fast", "fast to plain"]

TEXTS: list[str | bytes] = [
    "",
    "null",
    "5",
    b"",
    b"\x00",
    "\U0001f600 ünï",
    b"\xff\xfe",
    "x" * 5000,
]


@pytest.mark.parametrize(("make_a", "make_b"), SIDES, ids=IDS)
def test_messages_of_every_kind_arrive_in_order(
    make_a: TransportFactory | None, make_b: TransportFactory | None
) -> None:
    async def test() -> None:
        async with Pair(Network(), make_a, make_b) as pair:
            label = "label" if make_a is bare else "ünï"
            local, remote = await pair.channel(label=label, protocol="p")
            assert (remote.label, remote.protocol, remote.ordered) == (label, "p", True)
            there, back = Collector(), Collector()
            listen(remote, "message", there.take)
            listen(local, "message", back.take)
            for text in TEXTS:
                local.send(text)
                remote.send(text)
            assert await there.wait(len(TEXTS)) == TEXTS
            assert await back.wait(len(TEXTS)) == TEXTS

    run(test)


EVERYTHING = {"loss": 0.03, "reorder": 0.1, "duplicate": 0.1, "delay": 0.002}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_a", "make_b", "network"),
    [
        (None, None, {"loss": 0.05, "delay": 0.002}),
        (None, None, {"reorder": 0.2, "delay": 0.004}),
        (None, None, {"duplicate": 0.3}),
        *[(make_a, make_b, EVERYTHING) for make_a, make_b in SIDES],
    ],
    ids=["loss", "reorder", "duplicate", *IDS],
)
def test_everything_arrives_over_a_bad_network(
    make_a: TransportFactory | None, make_b: TransportFactory | None, network: dict[str, float]
) -> None:
    async def test() -> None:
        async with Pair(Network(**network), make_a, make_b) as pair:  # type: ignore[arg-type]
            local, remote = await pair.channel()
            chance = random.Random(5)
            sizes = [chance.choice((1, 10, 300, 1200, 5000, 20000)) for _ in range(60)]
            messages = [bytes((i,)) * size for i, size in enumerate(sizes)]
            there, back = Collector(), Collector()
            listen(remote, "message", there.take)
            listen(local, "message", back.take)
            for message in messages:
                local.send(message)
                remote.send(message)
            assert await there.wait(len(messages)) == messages
            assert await back.wait(len(messages)) == messages

    run(test)


@pytest.mark.slow
@pytest.mark.parametrize(("make_a", "make_b"), SIDES, ids=IDS)
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_closing_a_channel_reaches_the_other_side(
    make_a: TransportFactory | None, make_b: TransportFactory | None, loss: float
) -> None:
    async def test() -> None:
        async with Pair(Network(loss=loss), make_a, make_b) as pair:
            for closer in (0, 1):
                channels = await pair.channel()
                there = Collector()
                closed = [asyncio.Event(), asyncio.Event()]
                for channel, event in zip(channels, closed, strict=True):
                    listen(channel, "close", event.set)
                listen(channels[1 - closer], "message", there.take)
                for number in range(30):
                    channels[closer].send(f"{number}" * 1000)
                channels[closer].close()
                for event in closed:
                    await event.wait()
                assert len(there.messages) == 30
                assert state_of(channels[0]) == state_of(channels[1]) == "closed"

    run(test)


@pytest.mark.slow
def test_drained_tells_when_everything_was_acknowledged() -> None:
    async def test() -> None:
        network = Network(loss=0.05, delay=0.001)
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            progress: list[int] = []
            pair.ours.on_progress = lambda: progress.append(pair.ours.pending)
            for _ in range(50):
                pair.ours.send_message(local, b"x" * 20000)
            assert pair.ours.pending == 50 * footprint(b"x" * 20000)
            await pair.ours.drained()
            assert pair.ours.pending == 0
            assert len(there.messages) == 50
            assert progress == sorted(progress, reverse=True)
            assert progress[-1] == 0
            assert pair.ours.stats()["retransmissions"]

    run(test)


@pytest.mark.parametrize("accelerate", [True, False])
def test_what_arrived_before_the_peer_went_was_delivered(accelerate: bool) -> None:
    """The acknowledgement sent with the closing chunk counts, even if no other one arrives."""

    async def test() -> None:
        network = Network()
        async with Pair(network, settings=Settings(accelerate=accelerate)) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            await pair.ours.drained()

            def ends_it(packet: bytes) -> bool:
                kinds = [kind for kind, *_ in wire.split_chunks(packet, wire.COMMON_HEADER_LENGTH)]
                return wire.SACK not in kinds or wire.ABORT in kinds

            network.filter = ends_it
            pair.ours.send_message(local, "here")
            await there.wait(1)
            waiting = asyncio.ensure_future(pair.ours.drained())
            await asyncio.sleep(0)
            assert pair.ours.pending
            await pair.b.stop()
            await waiting
            assert local.ready_state == "closed"

    run(test)


def test_drained_ends_with_the_association() -> None:
    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            local, _ = await pair.own_channel()
            network.is_cut = True
            pair.ours.send_message(local, "lost")
            waiting = asyncio.ensure_future(pair.ours.drained())
            await asyncio.sleep(0)
            await pair.ours.stop()
            with pytest.raises(ConnectionError):
                await waiting
            assert local.ready_state == "closed"
            assert pair.ours.state == "closed"

    run(test)


def test_a_receiver_that_does_not_read_holds_the_sender() -> None:
    async def test() -> None:
        settings = Settings(receive_buffer=300_000, maximum_message=65536)
        async with Pair(Network(), settings=settings) as pair:
            local, _ = await pair.own_channel()
            there = Collector()
            pair.peer.channels.on_messages = there.take_all
            messages: list[str | bytes] = [bytes((i,)) * 50_000 for i in range(40)]
            for message in messages:
                pair.ours.send_message(local, message)
            while pair.peer.unread <= 200_000:
                await asyncio.sleep(0.01)
            still = -1
            while still != pair.ours.pending:
                still = pair.ours.pending
                await asyncio.sleep(0.25)
            assert pair.ours.pending > 1_000_000
            assert 200_000 < pair.peer.unread < 400_000
            read = 0
            while read < len(messages):
                await there.wait(read + 1)
                pair.peer.release(footprint(there.messages[read]))
                read += 1
            await pair.ours.drained()
            assert there.messages == messages
            assert pair.peer.unread == 0

    run(test)


@pytest.mark.slow
def test_a_closed_window_is_probed_without_limit() -> None:
    async def test() -> None:
        settings = Settings(receive_buffer=200_000, maximum_message=65536)
        network = Network()
        async with Pair(network, settings=settings) as pair:
            local, _ = await pair.own_channel()
            there = Collector()
            pair.peer.channels.on_messages = there.take_all
            for _ in range(20):
                pair.ours.send_message(local, b"x" * 20_000)
            while pair.peer.unread < 190_000:
                await asyncio.sleep(0.01)
            # The window update is lost: the next zero-window probe discovers the open window.
            await asyncio.sleep(0.1)
            network.is_cut = True
            for message in there.messages:
                pair.peer.release(footprint(message))
            there.messages.clear()
            await asyncio.sleep(0.05)
            network.is_cut = False
            while pair.ours.pending:
                for message in there.messages:
                    pair.peer.release(footprint(message))
                there.messages.clear()
                await asyncio.sleep(0.01)

    run(test)


@pytest.mark.slow
def test_a_link_that_comes_back_goes_on() -> None:
    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            network.is_cut = True
            for number in range(100):
                pair.ours.send_message(local, f"{number}" * 500)
            await asyncio.sleep(1.0)
            network.is_cut = False
            await pair.ours.drained()
            assert len(there.messages) == 100

    run(test)


@pytest.mark.slow
def test_what_the_old_path_lost_is_sent_again_as_soon_as_there_is_another() -> None:
    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            await pair.ours.drained()
            network.is_cut = True
            pair.ours.send_message(local, "x")
            while pair.ours.stats()["timeouts"] != 2:
                await asyncio.sleep(0.001)
            postpone_t3(pair, LIMIT * 2)
            network.is_cut = False
            pair.ours.on_path_change()
            await there.wait(1)
            await pair.ours.drained()
            assert pair.ours.stats()["timeouts"] == 2

    run(test)


def test_another_path_may_carry_less_than_the_one_before() -> None:
    async def test() -> None:
        network = Network(delay=0.002)
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            for _ in range(40):
                pair.ours.send_message(local, b"x" * 16_000)
            await pair.ours.drained()
            assert pair.ours.stats()["packet_size"] == ETHERNET_MTU
            pair.ours.on_path_change()
            assert pair.ours.stats()["packet_size"] == BASE_MTU
            for _ in range(40):
                pair.ours.send_message(local, b"x" * 16_000)
            await pair.ours.drained()
            assert pair.ours.stats()["packet_size"] == ETHERNET_MTU

    run(test)


@pytest.mark.slow
def test_a_loop_that_is_late_each_time_still_retransmits() -> None:
    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            await pair.ours.drained()
            loop = asyncio.get_running_loop()

            def hold_up() -> None:
                # Like a thread that holds the interpreter lock.
                time.sleep(2 * LATE_SECONDS)
                if pair.ours.pending:
                    loop.call_soon(hold_up)

            def lose_one(packet: bytes) -> bool:
                network.filter = lambda packet: True
                return False

            network.filter = lose_one
            pair.ours.send_message(local, "x")
            loop.call_soon(hold_up)
            await there.wait(1)
            await pair.ours.drained()

    run(test)


@pytest.mark.slow
def test_a_path_that_comes_to_carry_less_carries_what_is_in_flight_as_well() -> None:
    async def test() -> None:
        network = Network(delay=0.002)
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            messages = [bytes((i,)) * 16_000 for i in range(80)]
            for message in messages[:40]:
                pair.ours.send_message(local, message)
            await there.wait(40)
            assert pair.ours.stats()["packet_size"] == ETHERNET_MTU
            # The path drops large packets silently.
            network.filter = lambda packet: len(packet) < TUNNEL_MTU
            for message in messages[40:]:
                pair.ours.send_message(local, message)
            assert await there.wait(80) == messages
            assert pair.ours.stats()["packet_size"] == BASE_MTU

    run(test)


def test_small_messages_share_packets() -> None:
    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            local, remote = await pair.own_channel()
            there = Collector()
            listen(remote, "message", there.take)
            await pair.ours.drained()
            before = network.packets
            for _ in range(1000):
                pair.ours.send_message(local, "x" * 20)
            await there.wait(1000)
            assert network.packets - before < 100

    run(test)


@pytest.mark.slow
def test_the_peer_that_stops_answering_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artico_sync._webrtc.sctp.retransmission_queue.ASSOCIATION_MAX_RETRANS", 2)

    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            local, _ = await pair.own_channel()
            closed = asyncio.Event()
            reported: list[str] = []

            def on_close() -> None:
                reported.append("closed")
                closed.set()

            listen(local, "close", on_close)
            pair.ours.on_lost = lambda: reported.append("lost")
            network.is_cut = True
            pair.ours.send_message(local, "x")
            await closed.wait()
            assert reported == ["lost", "closed"]
            with pytest.raises(ConnectionError):
                await pair.ours.drained()

    run(test)


# Hostile peers: genuine DTLS, anything inside


def packet(pair: Pair, *chunks: bytes, tag: int | None = None) -> bytes:
    """Return a packet to `a` with the verification tag and ports of `b`."""
    own = pair.ours._association._tag
    return build_packet(5000, 5000, own if tag is None else tag, list(chunks))


def data(tsn: int, stream: int, protocol: int, payload: bytes, flags: int = 3) -> bytes:
    return chunk(wire.DATA, pack("!LHHL", tsn & 0xFFFFFFFF, stream, 0, protocol) + payload, flags)


def postpone_t3(pair: Pair, seconds: float) -> None:
    """Set T3-rtx of `a` to expire after a delay."""
    pair.ours._association._timers.t3.start(asyncio.get_running_loop().time() + seconds)


def next_tsn(pair: Pair) -> int:
    """Return the TSN that `a` expects next."""
    return pair.ours._association.receive_queue.cumulative_tsn + 1


def hostile_chunks(pair: Pair) -> list[bytes]:
    sends = pair.ours._association.retransmission_queue
    base = (sends.next_tsn - 1) % 2**32
    wide = [pack("!HH", 1, 65535)] * 280
    return [
        chunk(wire.SACK, b""),
        chunk(wire.SACK, pack("!LLHH", base, 1000, 400, 400)),
        chunk(wire.SACK, pack("!LLHH", base, 1000, len(wide), 0) + b"".join(wide)),
        chunk(wire.SACK, pack("!LLHH", base, 1000, 1, 0) + pack("!HH", 9, 3)),
        chunk(wire.SACK, pack("!LLHH", base, 1000, 1, 0) + pack("!HH", 0, 0)),
        chunk(wire.SACK, pack("!LLHH", base, 1000, 1, 0) + pack("!HH", 1, 65535)),
        chunk(wire.SACK, pack("!LLHH", (base + 10_000) % 2**32, 1000, 0, 0)),
        chunk(wire.SACK, pack("!LLHH", (base - 10_000) % 2**32, 0, 0, 0)),
        chunk(wire.DATA, b""),
        chunk(wire.DATA, bytes(12)),
        chunk(wire.RECONFIG, pack("!HH", 13, 0)),
        chunk(wire.RECONFIG, pack("!HH", 13, 7) + b"abc"),
        chunk(wire.RECONFIG, pack("!HH", 13, 17) + bytes(13)),
        chunk(wire.RECONFIG, pack("!HH", 16, 6) + bytes(2)),
        chunk(wire.RECONFIG, pack("!HH", 17, 65535)),
        chunk(wire.RECONFIG, pack("!HHLLL", 13, 16, 7, 7, 7)),
        chunk(wire.FORWARD_TSN, b"\x01"),
        chunk(wire.FORWARD_TSN, pack("!L", (next_tsn(pair) + 2**30) % 2**32)),
        chunk(wire.COOKIE_ECHO, b""),
        chunk(wire.COOKIE_ECHO, bytes(60)),
        chunk(wire.COOKIE_ACK),
        chunk(wire.INIT_ACK, b""),
        chunk(wire.INIT_ACK, bytes(16)),
        chunk(wire.ERROR, pack("!HH", 3, 0)),
        chunk(wire.ERROR, pack("!HH", 3, 8) + bytes(4)),
        chunk(wire.HEARTBEAT, b""),
        chunk(wire.HEARTBEAT, pack("!HH", 1, 0)),
        chunk(wire.HEARTBEAT_ACK, pack("!HH", 1, 0)),
        chunk(wire.SHUTDOWN_COMPLETE),
        chunk(99, b"what"),
        chunk(255, b"is this"),
    ]


def test_no_chunk_raises_or_ends_the_association() -> None:
    async def test() -> None:
        async with Pair(Network()) as pair:
            local, remote = await pair.channel()
            for hostile in hostile_chunks(pair):
                pair.ours.receive_packet(packet(pair, hostile))
                pair.ours.receive_packet(packet(pair, hostile, tag=0))
            init = chunk(wire.INIT, pack("!LLHHL", 1, 1000, 5, 5, 1))
            for tag in (0, None):
                pair.ours.receive_packet(packet(pair, init, tag=tag))
                pair.ours.receive_packet(packet(pair, init, init, tag=tag))
                pair.ours.receive_packet(packet(pair, chunk(wire.INIT, b"x"), tag=tag))
            for raw in (b"", b"\x00", bytes(12), bytes(100), b"\xff" * 1000):
                pair.ours.receive_packet(raw)
            there = Collector()
            listen(remote, "message", there.take)
            local.send("still here")
            await there.wait(1)

    run(test)


def test_no_data_channel_message_raises() -> None:
    async def test() -> None:
        async with Pair(Network()) as pair:
            local, _ = await pair.own_channel()
            stream = local.id
            assert stream is not None
            back = Collector()
            listen(local, "message", back.take)
            for protocol, payload in [
                (50, b"\x03"),
                (50, pack("!BBHLHH", 3, 0, 0, 0, 0, 0)),  # the channel exists
                (50, b"\x02"),
                (50, b"\x09junk"),
                (51, b"\xff\xfe"),
                (99, b"unknown"),
                (52, b"partial"),
            ]:
                pair.ours.receive_packet(
                    packet(pair, data(next_tsn(pair), stream, protocol, payload))
                )
            for payload in (
                pack("!BBHLHH", 3, 0, 0, 0, 500, 0),
                pack("!BBHLHH", 3, 0, 0, 0, 2, 0) + b"\xff\xfe",
                b"\x02",
            ):
                pair.ours.receive_packet(packet(pair, data(next_tsn(pair), 777, 50, payload)))
            pair.ours.receive_packet(packet(pair, data(next_tsn(pair), 999, 51, b"nobody")))
            pair.ours.receive_packet(packet(pair, data(next_tsn(pair), stream, 51, b"fine")))
            assert await back.wait(1) == ["fine"]

    run(test)


def test_a_flood_of_channels_is_bounded() -> None:
    async def test() -> None:
        async with Pair(Network()) as pair:
            await pair.channel()
            for stream in range(1001, 1001 + 4 * CHANNELS_MAX, 2):
                opening = pack("!BBHLHH", 3, 0, 0, 0, 1, 0) + b"x"
                pair.ours.receive_packet(packet(pair, data(next_tsn(pair), stream, 50, opening)))
            await asyncio.sleep(0)  # a flood is handled once per loop pass
            assert len(pair.ours.channels.by_stream) == CHANNELS_MAX

    run(test)


def test_a_listener_that_raises_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        def fail(*args: object) -> None:
            raise RuntimeError("listener")

        async with Pair(Network()) as pair:
            local, remote = await pair.channel()
            pair.peer.channels.on_messages = fail
            pair.ours.on_progress = fail
            local.send("first")
            await pair.ours.drained()
            there = Collector()
            pair.peer.channels.on_messages = there.take_all
            local.send("second")
            assert await there.wait(1) == ["second"]

    run(test)
    assert "failed" in caplog.text


test_a_listener_that_raises_harms_nothing = pytest.mark.logs_errors(
    test_a_listener_that_raises_harms_nothing
)


def test_a_flood_of_heartbeats_is_not_answered_in_full() -> None:
    async def test() -> None:
        network = Network()
        async with Pair(network) as pair:
            await pair.channel()
            await pair.ours.drained()
            before = network.packets
            beat = packet(pair, chunk(wire.HEARTBEAT, pack("!HH", 1, 8) + b"beat"))
            for _ in range(1000):
                pair.ours.receive_packet(beat)
            assert network.packets - before <= 40

    run(test)


def test_a_repeated_init_does_not_disturb() -> None:
    async def test() -> None:
        seen: list[bytes] = []

        def remember(item: bytes) -> bool:
            seen.append(item)
            return True

        network = Network()
        network.filter = remember
        async with Pair(network) as pair:
            local, remote = await pair.channel()
            there = Collector()
            listen(remote, "message", there.take)
            for _ in range(3):
                for item in seen[:8]:  # the whole set-up, both ways, once more
                    pair.ours.receive_packet(item)
                    pair.peer.receive_packet(item)
                local.send("x")
            await there.wait(3)

    run(test)


def test_fuzzed_packets_neither_raise_nor_stop_it() -> None:
    async def test() -> None:
        chance = random.Random(11)
        async with Pair(Network()) as pair:
            await pair.channel()
            for _ in range(3000):
                chunks = []
                for _ in range(chance.randrange(1, 4)):
                    kind = chance.choice([*range(15), 130, 132, 192, chance.randrange(256)])
                    if kind in (wire.ABORT, wire.SHUTDOWN_ACK, wire.SHUTDOWN):
                        continue
                    body = chance.randbytes(chance.choice((0, 1, 3, 4, 8, 12, 16, 40)))
                    chunks.append(chunk(kind, body, chance.randrange(256)))
                if chunks:
                    pair.ours.receive_packet(packet(pair, *chunks))
            assert pair.ours.state == "connected"

    run(test)


def test_unordered_channels_work() -> None:
    async def test() -> None:
        async with Pair(Network(reorder=0.3, delay=0.002)) as pair:
            local, remote = await pair.channel(ordered=False, max_retransmits=3)
            assert not remote.ordered
            there = Collector()
            listen(remote, "message", there.take)
            for number in range(50):
                local.send(str(number))
            assert {int(item) for item in await there.wait(50)} == set(range(50))

    run(test)


@pytest.mark.slow
def test_forward_tsn_of_an_unreliable_sender() -> None:
    async def test() -> None:
        async with Pair(Network(loss=0.1, delay=0.001), bare) as pair:
            local, remote = await pair.channel(ordered=False, max_retransmits=0)
            there = Collector()
            listen(remote, "message", there.take)
            for number in range(300):
                local.send(f"{number:03d}" * 200)
                await asyncio.sleep(0.001)
            while "299" * 200 not in there.messages and len(there.messages) < 200:
                await asyncio.sleep(0.01)
            assert len(there.messages) <= 300

    run(test)


def test_a_negotiated_channel() -> None:
    async def test() -> None:
        async with Pair(Network()) as pair:
            local, remote = (
                side.channels.add_negotiated(ChannelParameters(), 4)
                for side in (pair.ours, pair.peer)
            )
            there = Collector()
            listen(remote, "message", there.take)
            while local.ready_state != "open":
                await asyncio.sleep(0.001)
            local.send("hello")
            assert await there.wait(1) == ["hello"]

    run(test)
