"""Hostile bytes inside a call: control messages, SCTP packets, RTP and datagrams; and nonsense
from strangers at the door."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artico_sync import Call
from artico_sync._webrtc.sctp.packets import build_packet, chunk
from tests.fuzz.profile import fuzzed
from tests.fuzz.strategies import JSON
from tests.fuzz.victim import LIMIT, Victim

pytestmark = pytest.mark.slow


@pytest.fixture
def victim() -> Any:
    with Victim() as made:
        yield made


def on_loop(call: Call, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function on the loop thread, where the transports of a call live."""

    async def run() -> Any:
        return function(*arguments)

    return call._bridge.portal.run(run, timeout=LIMIT)


def dtls_of(call: Call) -> Any:
    session = call._bridge.engine
    assert session is not None and session.connection is not None
    return session.connection.sctp_transport.transport


def association_of(call: Call) -> Any:
    session = call._bridge.engine
    assert session is not None and session.connection is not None
    return session.connection.sctp_transport._association


@pytest.mark.timeout(180)
def test_control_messages(victim: Victim) -> None:
    @fuzzed(150)
    @given(
        data=JSON,
        kind=st.sampled_from(["[artico]", "[artico]", "artico"]),
        extra=st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    )
    def attack(data: object, kind: str, extra: dict[str, int]) -> None:
        victim.call.send(json.dumps({**extra, "type": kind, "data": data}))
        payload = {"cmd": "stream-meta", "payload": data}
        victim.call.send(json.dumps({"type": "[artico]", "data": payload}))
        victim.check()

    attack()
    victim.call.send("after")
    victim.call.flush(LIMIT)
    assert victim.call.open and victim.victims_call.open


@pytest.mark.timeout(60)
def test_metadata_of_streams_that_never_come(victim: Victim) -> None:
    """It is remembered for a bounded number of them."""
    for number in range(3000):
        payload = {"streamId": f"{number}", "metadata": "x" * 1000}
        victim.call.send(
            json.dumps({"type": "[artico]", "data": {"cmd": "stream-meta", "payload": payload}})
        )
    victim.call.flush(LIMIT)
    session = victim.victims_call._bridge.engine
    assert session is not None and session._connection is not None
    assert len(session._connection._remote_streams._metadata) <= 256


# Those that end an association are sent by themselves: nothing comes through after them.
ENDINGS = (7, 8, 9, 14)
KINDS = (0, 1, 2, 3, 4, 5, 10, 11, 130, 132, 192, 64, 128, 255)


def chunks_of(kinds: tuple[int, ...]) -> st.SearchStrategy[list[bytes]]:
    one = st.builds(
        lambda kind, flags, body: chunk(kind, body, flags),
        st.sampled_from(kinds),
        st.integers(0, 255),
        st.binary(max_size=80),
    )
    return st.lists(one, min_size=1, max_size=4)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kinds", [KINDS, ENDINGS], ids=["kinds", "endings"])
def test_packets_of_the_association(victim: Victim, kinds: tuple[int, ...]) -> None:
    """With the right ports, tag and checksum, so that they are looked at."""
    dtls, association = dtls_of(victim.call), association_of(victim.call)
    tag = association.peer.tag
    sent = 0

    def send(packet: bytes) -> None:
        nonlocal sent
        if association.is_established:
            sent += 1
            dtls.send_packets([packet])

    @fuzzed(150 if kinds is KINDS else 15)
    @given(chunks=chunks_of(kinds), garbage=st.binary(max_size=60), cut=st.integers(0, 30))
    def attack(chunks: list[bytes], garbage: bytes, cut: int) -> None:
        whole = build_packet(5000, 5000, tag, list(chunks))
        for packet in (whole, whole[: len(whole) - cut], whole + garbage, garbage):
            if packet:
                on_loop(victim.call, send, packet)
        victim.check()

    attack()
    assert sent > (200 if kinds is KINDS else 0)


DATA_HEADER = struct.Struct("!LHHL")


@pytest.mark.timeout(180)
def test_messages_of_the_association(victim: Victim) -> None:
    """DATA chunks of any stream, order and kind, channel set-up included."""
    dtls, association = dtls_of(victim.call), association_of(victim.call)
    tag = association.peer.tag

    @fuzzed(200)
    @given(
        offset=st.integers(-5, 5) | st.integers(-(2**31), 2**31),
        flags=st.integers(0, 15),
        stream=st.sampled_from([0, 1, 2, 65535]),
        protocol=st.sampled_from([50, 51, 53, 54, 56, 57, 0, 2**32 - 1]),
        payload=st.binary(max_size=60)
        | st.builds(lambda rest: b"\x03" + rest, st.binary(min_size=11, max_size=40)),
    )
    def attack(offset: int, flags: int, stream: int, protocol: int, payload: bytes) -> None:
        def send() -> None:
            if not association.is_established:
                return
            tsn = (association.retransmission_queue.next_tsn + offset) % 2**32
            body = DATA_HEADER.pack(tsn, stream, 0, protocol) + payload
            dtls.send_packets([build_packet(5000, 5000, tag, [chunk(0, body, flags)])])

        on_loop(victim.call, send)
        victim.check()

    attack()


@pytest.mark.timeout(180)
def test_rtp_and_rtcp(victim: Victim) -> None:
    """Encrypted with the right keys, so that they are looked at."""
    dtls = dtls_of(victim.call)
    header = st.builds(
        lambda first, second, rest: bytes([first, second]) + rest,
        st.sampled_from([0x80, 0x90, 0xA0, 0xB0, 0x8F, 0x81, 0xBF]),
        st.integers(0, 255),
        st.binary(min_size=10, max_size=200),
    )
    sent = 0

    def send(packet: bytes) -> None:
        nonlocal sent
        if dtls._tx_srtp is None:
            return
        is_rtcp = 64 <= packet[1] & 0x7F < 96
        protect = dtls._tx_srtp.protect_rtcp if is_rtcp else dtls._tx_srtp.protect
        try:
            data = protect(packet)
        except Exception:
            # The library that encrypts refuses some of them itself.
            return
        sent += 1
        dtls.transport.send_batch(data, max(len(data), 1))

    @fuzzed(200)
    @given(packets=st.lists(header, min_size=1, max_size=5))
    def attack(packets: list[bytes]) -> None:
        for packet in packets:
            on_loop(victim.call, send, packet)
        victim.check()

    attack()
    assert sent > 50


@pytest.mark.timeout(180)
def test_datagrams_of_strangers(victim: Victim) -> None:
    """Datagrams from unknown addresses to the ports of a call have no effect on it."""
    stats = victim.victims_call.stats()
    address = stats["local"]["address"], stats["local"]["port"]
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    chance = random.Random(1)
    with socket.socket(family, socket.SOCK_DGRAM) as stranger:

        @fuzzed(200)
        @given(
            head=st.sampled_from(
                [
                    b"",
                    b"\x00\x01\x00\x00\x21\x12\xa4\x42",
                    b"\x01\x01\x00\x08\x21\x12\xa4\x42",
                    b"\x16\xfe\xff",
                    b"\x15\xfe\xfd",
                    b"\x17\xfe\xfd\x00\x01",
                    b"\x80\x60",
                    b"\x80\xc8",
                    b"\x40\x00",
                ]
            ),
            body=st.binary(max_size=300),
        )
        def attack(head: bytes, body: bytes) -> None:
            for _ in range(3):
                stranger.sendto(head + body + chance.randbytes(chance.randint(0, 40)), address)
            victim.check()

        attack()
    # None of them took the call away.
    victim.call.send("still ours")
    victim.call.flush(LIMIT)
