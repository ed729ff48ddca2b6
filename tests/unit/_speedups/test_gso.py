"""Many datagrams in one call of the system's, and what happens where that cannot be had."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
import sys
from collections.abc import Iterator

import pytest

from artico_sync._speedups import gso
from artico_sync._speedups.gso import (
    BatchSender,
    GilHeldBatchSender,
    PlainBatchSender,
    make_batch_sender,
    socket_address,
)
from artico_sync._webrtc.net import udp as datagram
from artico_sync._webrtc.net.udp import BatchedDatagramTransport, open_socket

LIMIT = 10.0
SIZE = 1000
PIECES = [bytes([number]) * SIZE for number in range(5)] + [b"last"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has UDP_SEGMENT")


@pytest.fixture
def forget_library() -> Iterator[None]:
    gso._library.cache_clear()
    yield
    gso._library.cache_clear()


def bound(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.bind((host, 0))
    except OSError:
        sock.close()
        pytest.skip(f"this machine has no {host}")
    sock.settimeout(LIMIT)
    return sock


def send_batch(sender: BatchSender, kind: type, address: tuple[str, int] | None) -> None:
    data = b"".join(PIECES)
    sender.send(memoryview(bytearray(data)) if kind is memoryview else data, SIZE, address)


@linux
@pytest.mark.parametrize("kind", [bytes, memoryview])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("held", [True, False])
def test_a_batch_arrives_as_datagrams_at_each_address(host: str, held: bool, kind: type) -> None:
    with bound(host) as sock, bound(host) as one, bound(host) as other:
        sender = make_batch_sender(sock) if held else PlainBatchSender(sock)
        assert isinstance(sender, GilHeldBatchSender if held else PlainBatchSender)
        for receiver in (one, other, one):
            send_batch(sender, kind, receiver.getsockname()[:2])
            assert [receiver.recv(2 * SIZE) for _ in PIECES] == PIECES


@linux
def test_a_connected_socket_needs_no_address() -> None:
    with bound("127.0.0.1") as sock, bound("127.0.0.1") as receiver:
        sock.connect(receiver.getsockname())
        for sender in (make_batch_sender(sock), PlainBatchSender(sock)):
            assert sender is not None
            send_batch(sender, memoryview, None)
            assert [receiver.recv(2 * SIZE) for _ in PIECES] == PIECES


@linux
@pytest.mark.parametrize("held", [True, False])
def test_a_batch_the_system_refuses_raises_its_error(held: bool) -> None:
    with bound("127.0.0.1") as sock:
        sender = make_batch_sender(sock) if held else PlainBatchSender(sock)
        assert sender is not None
        with pytest.raises(OSError) as refused:
            # More pieces than it cuts.
            sender.send(memoryview(bytearray(20_000)), 1, sock.getsockname())
        assert refused.value.errno in gso.BATCH_UNSUPPORTED_ERRORS


def test_an_address_with_a_zone_is_left_to_python() -> None:
    assert socket_address(socket.AF_INET6, ("fe80::1%lo", 9)) is None
    assert socket_address(socket.AF_INET, None) is None
    packed = socket_address(socket.AF_INET, ("127.0.0.1", 258))
    assert packed is not None and packed[2:8] == b"\x01\x02\x7f\x00\x00\x01"


@linux
def test_without_the_c_library_pythons_sockets_send(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, forget_library: None
) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "PyDLL", missing)
    with caplog.at_level(logging.INFO, "artico_sync"):
        with bound("127.0.0.1") as sock:
            assert isinstance(make_batch_sender(sock), PlainBatchSender)
            assert isinstance(make_batch_sender(sock), PlainBatchSender)
    assert caplog.text.count("no such library") == 1


class Refusing:
    """A sender whose system refuses batches, always or at present."""

    def __init__(self, error: int) -> None:
        self._error = error
        self.asked = 0

    def send(self, data: bytes | memoryview, size: int, address: gso.Address | None) -> None:
        self.asked += 1
        raise OSError(self._error, "refused")


class Recorder(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.complete = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.append(data)
        if len(self.received) == 2 * len(PIECES):
            self.complete.set()


@pytest.mark.parametrize("error, asked", [(errno.EINVAL, 1), (errno.EAGAIN, 2)])
def test_a_batch_that_cannot_be_sent_leaves_as_single_datagrams(
    monkeypatch: pytest.MonkeyPatch, error: int, asked: int
) -> None:
    refusing = Refusing(error)
    monkeypatch.setattr(datagram, "make_batch_sender", lambda sock: refusing)

    async def main() -> None:
        recorder = Recorder()
        receiver = await open_socket(recorder, "127.0.0.1", accelerate=True)
        sender = await open_socket(asyncio.DatagramProtocol(), "127.0.0.1", accelerate=True)
        assert isinstance(sender, BatchedDatagramTransport)
        for _ in range(2):
            data = memoryview(b"".join(PIECES))
            sender.send_batch(data, SIZE, receiver.get_extra_info("sockname"))
        await asyncio.wait_for(recorder.complete.wait(), LIMIT)
        assert recorder.received == 2 * PIECES
        # A system that cannot is asked once, one that is busy again and again.
        assert refusing.asked == asked
        sender.close()
        receiver.close()
        await asyncio.sleep(0)

    asyncio.run(main())
