"""Sockets read in batches, the queue behind them, and what hostile datagrams do."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
from typing import Any, cast

import pytest
from aioice import stun
from hypothesis import given, settings
from hypothesis import strategies as st

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice import stun as binding
from artico_sync._webrtc.ice.agent import IceAgent
from artico_sync._webrtc.ice.gatherer import make_candidate
from artico_sync._webrtc.ice.servers import IceServers
from artico_sync._webrtc.ice.socket import IceSocket
from artico_sync._webrtc.net import udp as datagram
from artico_sync._webrtc.net.udp import BatchedDatagramTransport, Inbox, open_socket

LOOPBACK = "127.0.0.1"
LIMIT = 10.0


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.errors: list[Exception] = []
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.received.append(data)
        self.arrived.set()

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    async def wait_for(self, number: int) -> None:
        while len(self.received) < number:
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), LIMIT)


async def close(transport: asyncio.DatagramTransport, recorder: Recorder) -> None:
    transport.close()
    transport.close()
    transport.sendto(b"late", (LOOPBACK, 9))
    await asyncio.wait_for(recorder.ended.wait(), LIMIT)


@pytest.mark.parametrize(
    "idle_seconds, read", [(math.inf, datagram.READ_BATCH_DATAGRAMS), (-1.0, 1)]
)
def test_a_batch_is_read_at_one_wake_up(
    monkeypatch: pytest.MonkeyPatch, idle_seconds: float, read: int
) -> None:
    monkeypatch.setattr(datagram, "IDLE_SECONDS", idle_seconds)

    async def main() -> None:
        one, other = Recorder(), Recorder()
        sender = await open_socket(one, LOOPBACK, accelerate=True)
        receiver = await open_socket(other, LOOPBACK, accelerate=True)
        assert isinstance(receiver, BatchedDatagramTransport)
        for number in range(datagram.READ_BATCH_DATAGRAMS + 3):
            sender.sendto(b"%d" % number, receiver.get_extra_info("sockname"))
        while not other.received:
            await asyncio.sleep(0)
        assert len(other.received) == read
        await other.wait_for(datagram.READ_BATCH_DATAGRAMS + 3)
        assert other.received == [
            b"%d" % number for number in range(datagram.READ_BATCH_DATAGRAMS + 3)
        ]
        await close(sender, one)
        await close(receiver, other)

    asyncio.run(main())


class FullSocket:
    """A socket whose send buffer is full until the test clears it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.full = True
        self.broken = False
        self.sent: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendto(self, data: bytes, address: object) -> int:
        if self.full:
            raise BlockingIOError
        if self.broken:
            raise OSError(errno.ENETUNREACH, "no network")
        self.sent.append(data)
        return len(data)

    def recvfrom(self, size: int) -> tuple[bytes, object]:
        raise OSError(errno.ENETDOWN, "down")


def make_full(recorder: Recorder) -> tuple[BatchedDatagramTransport, FullSocket]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((LOOPBACK, 0))
    full = FullSocket(sock)
    stand_in = cast(socket.socket, full)
    return BatchedDatagramTransport(asyncio.get_running_loop(), stand_in, recorder), full


def test_a_full_kernel_buffer_delays_and_bounds() -> None:
    async def main() -> None:
        recorder = Recorder()
        transport, sock = make_full(recorder)
        sent = [bytes([number % 256]) * 60000 for number in range(40)]
        for data in sent:
            transport.sendto(data, (LOOPBACK, 9))
        assert 0 < transport.get_write_buffer_size() <= datagram.WRITE_BUFFER_BYTES
        sock.full = False
        while transport.get_write_buffer_size():
            await asyncio.sleep(0)
        kept = datagram.WRITE_BUFFER_BYTES // 60000
        assert sock.sent == sent[:kept]
        sock.broken = True
        transport.sendto(b"x", (LOOPBACK, 9))
        assert [error.errno for error in recorder.errors if isinstance(error, OSError)] == [
            errno.ENETUNREACH
        ]
        sock.full = True
        transport.sendto(b"never sent", (LOOPBACK, 9))
        await close(transport, recorder)
        assert len(sock.sent) == kept

    asyncio.run(main())


def test_a_socket_that_only_fails_is_given_up() -> None:
    async def main() -> None:
        recorder = Recorder()
        transport, sock = make_full(recorder)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b"wake", sock.getsockname())
            await asyncio.wait_for(recorder.ended.wait(), LIMIT)
        assert len(recorder.errors) == datagram.READ_ERRORS_MAX - 1
        assert transport.is_closing()

    asyncio.run(main())


def test_a_loop_that_cannot_watch_sockets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def add_reader(*_: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr(loop, "add_reader", add_reader)
        one = Recorder()
        transport = await open_socket(one, LOOPBACK, accelerate=True)
        assert not isinstance(transport, BatchedDatagramTransport)
        transport.sendto(b"self", transport.get_extra_info("sockname"))
        await one.wait_for(1)
        await close(transport, one)

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert "one by one" in caplog.text


def test_an_address_that_is_not_local_is_refused() -> None:
    async def main() -> None:
        for host in ("203.0.113.1", "2001:db8::1"):
            with pytest.raises(OSError):
                await open_socket(Recorder(), host, accelerate=True)

    asyncio.run(main())


# The queue


def test_inbox_keeps_the_order_and_its_bound() -> None:
    async def main() -> None:
        inbox = Inbox()
        assert inbox.get_nowait() is None
        reading = asyncio.ensure_future(inbox.get())
        await asyncio.sleep(0)
        for number in range(datagram.INBOX_MAX_DATAGRAMS + 10):
            inbox.put(b"%d" % number)
        assert await reading == b"0"
        assert inbox.get_nowait() == b"1"
        count = 2
        while inbox.get_nowait() is not None:
            count += 1
        assert count == datagram.INBOX_MAX_DATAGRAMS
        reading = asyncio.ensure_future(inbox.get())
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        inbox.put(b"after")
        assert await inbox.get() == b"after"
        inbox.close()
        inbox.put(b"late")
        with pytest.raises(ConnectionError):
            await inbox.get()

    asyncio.run(main())


def test_inbox_consumer_takes_only_what_is_in_order() -> None:
    inbox = Inbox()
    taken: list[bytes] = []

    def consumer(data: bytes) -> bool:
        if data == b"no":
            return False
        taken.append(data)
        return True

    inbox.consumer = consumer
    for data in (b"a", b"no", b"b"):
        inbox.put(data)
    assert taken == [b"a"]
    assert [inbox.get_nowait(), inbox.get_nowait()] == [b"no", b"b"]
    inbox.put(b"c")
    assert taken == [b"a", b"c"]


# STUN as bytes


@pytest.mark.parametrize("address", [("192.0.2.1", 1234), ("2001:db8::5", 65535)])
def test_binding_messages_are_aioices(address: tuple[str, int]) -> None:
    key, transaction_id = b"secret" * 4, bytes(range(12))
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, transaction_id)
    request.attributes.update({"USERNAME": "abcde:fg", "PRIORITY": 77, "ICE-CONTROLLED": 2**63})
    attributes = binding.attributes_of(request)
    ours = binding.BindingRequest(
        request.message_method, request.message_class, transaction_id, dict(request.attributes)
    )
    assert bytes(ours) == bytes(request)
    for message in (request, ours):
        message.add_message_integrity(key)
    assert binding.make_request(transaction_id, attributes, key) == bytes(request) == bytes(ours)
    response = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id)
    response.attributes["XOR-MAPPED-ADDRESS"] = address
    response.add_message_integrity(key)
    assert binding.make_response(transaction_id, address, key) == bytes(response)
    for message, kind in ((request, binding.REQUEST), (response, binding.RESPONSE)):
        data = bytes(message)
        parts = binding.split(data)
        assert parts is not None and parts[:2] == (kind, transaction_id)
        assert binding.is_authentic(data, key)
        assert not binding.is_authentic(data, b"another key")


@given(st.binary(max_size=200))
def test_binding_split_takes_anything(data: bytes) -> None:
    binding.split(data)


# Datagrams from any address reach a UDP port


def _hostile() -> st.SearchStrategy[bytes]:
    header = st.sampled_from([b"\x00\x01", b"\x01\x01", b"\x01\x11", b"\x00\x11", b"\x00\x03"])
    attribute = st.builds(
        lambda kind, value: (
            kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        ),
        st.sampled_from([number for number, *_ in stun.ATTRIBUTES]) | st.integers(0, 65535),
        st.binary(max_size=24),
    )
    body = st.lists(attribute, max_size=6).map(b"".join) | st.binary(max_size=60)
    message = st.builds(
        lambda kind, rest: kind + len(rest).to_bytes(2, "big") + binding.COOKIE + bytes(12) + rest,
        header,
        body,
    )
    return message | st.binary(max_size=120)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(_hostile(), max_size=10), st.booleans())
def test_hostile_datagrams_are_survived(datagrams: list[bytes], authentic: bool) -> None:
    async def main() -> None:
        connection = IceAgent(
            settings=Settings(maximum_candidates=4),
            inbox=Inbox(),
            servers=IceServers(),
            relay_only=False,
            on_candidate=lambda candidate: None,
            on_gathered=lambda: None,
        )
        connection.remote_username, connection.remote_password = "abcd", "p" * 22
        protocol = IceSocket(connection)
        await open_socket(protocol, LOOPBACK, accelerate=True)
        sockname = protocol.transport.get_extra_info("sockname")
        protocol.local_candidate = make_candidate("host", sockname)
        connection.add_local_candidate(protocol, protocol.local_candidate)
        connecting = asyncio.ensure_future(connection.connect())
        await asyncio.sleep(0)
        for port, data in enumerate(datagrams, 40000):
            if authentic:
                data = _sign(data, connection)
            protocol.datagram_received(data, (LOOPBACK, port))
        await asyncio.sleep(0)
        assert len(connection.remote_candidates) <= 4
        await connection.close()
        with pytest.raises(ConnectionError):
            await connecting

    asyncio.run(main())


def _sign(data: bytes, connection: IceAgent) -> bytes:
    """Return the message as the peer, which knows the password, would send it."""
    name = f"{connection.local_username}:abcd".encode()
    username = b"\x00\x06" + len(name).to_bytes(2, "big") + name + bytes(-len(name) % 4)
    return binding.make_request(bytes(12), username + data[20:], connection.local_password.encode())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("passes", [0, 1, 2])
def test_opening_that_is_cancelled_leaves_no_socket(loop: str, passes: int) -> None:
    """uvloop leaves a socket open if its opening is cancelled; `open_socket` closes it."""
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None

    async def main() -> None:
        recorder = Recorder()
        opening = asyncio.ensure_future(open_socket(recorder, LOOPBACK, accelerate=False))
        await asyncio.sleep(0)
        for _ in range(passes):
            await asyncio.sleep(0)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:
            opening.result().close()
        await asyncio.wait_for(recorder.ended.wait(), LIMIT)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
