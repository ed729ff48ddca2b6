"""UDP sockets read in batches, and the queue between them and DTLS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from artico_sync._speedups.gso import (
    BATCH_UNSUPPORTED_ERRORS,
    BatchSender,
    make_batch_sender,
)

logger = logging.getLogger(__name__)

#: Datagrams read at one wake-up before control returns to the event loop.
READ_BATCH_DATAGRAMS = 32
#: A datagram that follows a pause of this length is probably alone, so only one is read. If more
#: are waiting, the loop calls again at once.
IDLE_SECONDS = 0.0002
#: Largest datagram read; more than any path carries, and cheap to allocate.
DATAGRAM_MAX_BYTES = 65536
#: Socket buffer requested from the kernel for each direction; it grants what its limits allow.
SOCKET_BUFFER_BYTES = 1024 * 1024
#: Bytes queued while the kernel's send buffer is full; datagrams beyond that are dropped.
WRITE_BUFFER_BYTES = 1024 * 1024
#: Datagrams queued for a slow reader; bounded because any host may send to a UDP port.
INBOX_MAX_DATAGRAMS = 4096
#: Consecutive read errors after which a socket is closed.
READ_ERRORS_MAX = 64

Address = tuple[str, int]


class Inbox:
    """Datagrams received and not yet read, whichever connection they came over.

    It has one reader, and outlives the connections that fill it, so that the reader does not
    notice when one path replaces another.
    """

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        #: Handles a datagram without queueing it, unless it returns False. It is called while the
        #: socket is read, and only if the queue is empty, which preserves the order.
        self.consumer: Callable[[bytes], bool] | None = None

    def put(self, data: bytes) -> None:
        if self.consumer is not None and not self._items and self.consumer(data):
            return
        if len(self._items) >= INBOX_MAX_DATAGRAMS or self._closed:
            return
        self._items.append(data)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def get(self) -> bytes:
        """Wait for the next datagram and return it; raise ConnectionError after `close`."""
        while not self._items:
            if self._closed:
                raise ConnectionError("Connection lost while receiving data")
            waiter = self._waiter
            if waiter is None or waiter.done():
                waiter = self._waiter = asyncio.get_running_loop().create_future()
            await waiter
        return self._items.popleft()

    def get_nowait(self) -> bytes | None:
        """Return the next datagram, or None if the queue is empty."""
        return self._items.popleft() if self._items else None

    def close(self) -> None:
        self._closed = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class BatchedDatagramTransport(asyncio.DatagramTransport):
    """A datagram transport that reads many datagrams at one wake-up of the loop.

    asyncio's own transport reads one per loop pass, into a new buffer of 256 KiB.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.DatagramProtocol,
    ) -> None:
        super().__init__({"socket": sock, "sockname": sock.getsockname()})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._closing = False
        self._waiting: deque[tuple[bytes, Address | None]] = deque()
        self._waiting_size = 0
        self._read_errors = 0
        self._read_at = 0.0
        #: Created for the first batch; None if the system does not support batches.
        self._batch_sender: BatchSender | None = None
        self._can_send_batches = True
        # A descriptor rather than the socket: for an unregistered socket the selector would first
        # format its repr into a KeyError.
        loop.add_reader(sock.fileno(), self._on_readable)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self._waiting_size

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._closing or not data:
            return
        if not self._waiting:
            try:
                self._send(data, addr)
                return
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock, self._on_writable)
            except OSError as exc:
                self._protocol.error_received(exc)
                return
        if self._waiting_size + len(data) <= WRITE_BUFFER_BYTES:
            self._waiting.append((bytes(data), addr))
            self._waiting_size += len(data)

    def send_batch(self, data: bytes | memoryview, size: int, addr: Address | None) -> None:
        """Send adjacent datagrams, in one system call if the system supports it.

        Args:
            data: At most `BATCH_MAX_BYTES` bytes and `BATCH_MAX_DATAGRAMS` datagrams.
            size: Bytes of each; the last may be smaller.
        """
        if len(data) <= size:
            self.sendto(data, addr)
            return
        if self._can_send_batches and not self._waiting and not self._closing:
            try:
                if self._try_send_batch(data, size, addr):
                    return
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as exc:
                if exc.errno in BATCH_UNSUPPORTED_ERRORS:
                    self._can_send_batches = False
                    logger.info("datagrams are sent one by one: %s", exc)
        for begin in range(0, len(data), size):
            self.sendto(data[begin : begin + size], addr)

    def _try_send_batch(self, data: bytes | memoryview, size: int, address: Address | None) -> bool:
        sender = self._batch_sender
        if sender is None:
            # Created late: few calls ever send a batch, and its buffers are many objects.
            sender = self._batch_sender = make_batch_sender(self._sock)
            if sender is None:
                self._can_send_batches = False
                return False
        sender.send(data, size, address)
        return True

    def _send(self, data: bytes, address: Address | None) -> None:
        if address is None:
            self._sock.send(data)  # a connected socket
        else:
            self._sock.sendto(data, address)

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _end(self, exc: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._sock)
        if self._waiting:
            self._loop.remove_writer(self._sock)
            self._waiting.clear()
        self._loop.call_soon(self._connection_lost, exc)

    def _connection_lost(self, exc: Exception | None) -> None:
        self._sock.close()
        self._protocol.connection_lost(exc)

    def _on_readable(self) -> None:
        receive = self._sock.recvfrom
        deliver = self._protocol.datagram_received
        now = self._loop.time()
        batch = READ_BATCH_DATAGRAMS if now - self._read_at < IDLE_SECONDS else 1
        self._read_at = now
        for _ in range(batch):
            try:
                data, address = receive(DATAGRAM_MAX_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._read_errors += 1
                if self._read_errors >= READ_ERRORS_MAX:
                    self._end(exc)
                else:
                    self._protocol.error_received(exc)
                return
            self._read_errors = 0
            deliver(data, address)
            if self._closing:
                return

    def _on_writable(self) -> None:
        while self._waiting:
            data, address = self._waiting[0]
            try:
                self._send(data, address)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._protocol.error_received(exc)
            self._waiting.popleft()
            self._waiting_size -= len(data)
        self._loop.remove_writer(self._sock)


async def open_socket(
    protocol: asyncio.DatagramProtocol,
    host: str | None,
    *,
    accelerate: bool,
    remote: Address | None = None,
) -> asyncio.DatagramTransport:
    """Open a UDP socket for `protocol`, bound to any port of `host` or connected to `remote`.

    Raises OSError.
    """
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in (host or (remote or ("",))[0]) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if host is not None:
            sock.bind((host, 0))
        if remote is not None:
            sock.connect(remote)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        if accelerate:
            try:
                batched = BatchedDatagramTransport(loop, sock, protocol)
            except NotImplementedError:
                logger.info("%s cannot watch sockets: datagrams are read one by one", loop)
            else:
                protocol.connection_made(batched)
                return batched
    except BaseException:
        sock.close()
        raise
    opening = loop.create_task(_open_endpoint(protocol, sock))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        # uvloop leaves the endpoint open if its creation is cancelled.
        opening.add_done_callback(_close_opened)
        await asyncio.wait([opening])
        raise


async def _open_endpoint(
    protocol: asyncio.DatagramProtocol, sock: socket.socket
) -> asyncio.DatagramTransport:
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock)
    except BaseException:
        sock.close()
        raise
    return transport


def _close_opened(opening: asyncio.Task[asyncio.DatagramTransport]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
