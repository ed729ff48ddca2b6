"""A UDP relay that behaves like a network: delay, jitter, loss, reordering, a bottleneck.

It stands between two peers whose candidates the test's signaling rewrites. For each real address
`forward_to` opens a port on the same host: datagrams that arrive there are sent to that address,
from the port that represents their sender, so that both sides only see the relay.
"""

from __future__ import annotations

import heapq
import itertools
import random
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

Address = tuple[str, int]

READ_BATCH = 64
SOCKET_BUFFER = 4 * 1024 * 1024
#: IP and UDP headers, which count on the wire.
HEADERS = 28


@dataclass
class Direction:
    """The bottleneck that everything towards one side passes."""

    free_at: float = 0.0
    latest: float = 0.0
    forwarded: int = 0
    lost: int = 0
    overflowed: int = 0


@dataclass(order=True)
class Waiting:
    due: float
    number: int
    data: bytes = field(compare=False)
    sender: socket.socket = field(compare=False)
    destination: Address = field(compare=False)


class Relay:
    """Use as a context manager; every method may be called from any thread.

    Args:
        delay: Seconds one way.
        jitter: Largest additional delay in seconds, at random, without reordering.
        loss: Share of datagrams lost.
        reorder: Share of datagrams that are held back and overtaken.
        duplicate: Share of datagrams that arrive twice.
        rate: Bits a second each way, headers included; None for no limit.
        queue: Bytes that wait at the bottleneck before it drops; by default what it carries in
            one round trip.
        mtu: Largest IP packet carried.
    """

    def __init__(
        self,
        *,
        delay: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        rate: float | None = None,
        queue: int | None = None,
        mtu: int = 1500,
        seed: int = 1,
    ) -> None:
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.reorder = reorder
        self.duplicate = duplicate
        self.rate = rate
        self.queue = queue
        self.mtu = mtu
        self.directions: dict[str, Direction] = {}
        self._random = random.Random(seed)
        self._lock = threading.Lock()  # guards the tables below
        self._by_destination: dict[Address, socket.socket] = {}
        self._routes: dict[socket.socket, tuple[Address, Direction]] = {}
        self._heap: list[Waiting] = []
        self._numbers = itertools.count()
        self._is_cut = False
        self._closing = False
        self._waker, self._wakee = socket.socketpair()
        self._wakee.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="datagram-relay", daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def forward_to(self, destination: Address, side: str = "a") -> int:
        """A port, on the destination's own host, behind which the destination stands.

        Args:
            destination: Host and port of a real peer.
            side: "a" or "b": what goes to the same side passes the same bottleneck.
        """
        with self._lock:
            port = self._open(destination, side).getsockname()[1]
        self._wake()
        return int(port)

    def cut(self) -> None:
        """Drop everything, until `restore`."""
        self._is_cut = True

    def restore(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        """End the thread and close the ports; a second call has no effect."""
        if self._closing:
            return
        self._closing = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        for sock in self._routes:
            sock.close()
        self._waker.close()
        self._wakee.close()

    def _wake(self) -> None:
        self._waker.send(b"\x00")

    def _open(self, destination: Address, side: str) -> socket.socket:
        sock = self._by_destination.get(destination)
        if sock is None:
            host = destination[0]
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
            sock.setblocking(False)
            sock.bind((host, 0))
            self._by_destination[destination] = sock
            direction = self.directions.setdefault(side, Direction())
            self._routes[sock] = (destination, direction)
        return sock

    def _run(self) -> None:
        while not self._closing:
            timeout = max(self._heap[0].due - time.monotonic(), 0.0) if self._heap else None
            with self._lock:
                watched = [*self._routes, self._wakee]
            readable, _, _ = select.select(watched, [], [], timeout)
            for sock in readable:
                if sock is self._wakee:
                    self._wakee.recv(4096)
                else:
                    self._read(sock)
            now = time.monotonic()
            while self._heap and self._heap[0].due <= now:
                item = heapq.heappop(self._heap)
                try:
                    item.sender.sendto(item.data, item.destination)
                except OSError:
                    continue  # no socket is bound there, as on any network

    def _read(self, sock: socket.socket) -> None:
        destination, direction = self._routes[sock]
        for _ in range(READ_BATCH):
            try:
                data, source = sock.recvfrom(65536)
            except OSError:
                return
            with self._lock:
                # An unannounced sender is on the other side of the network.
                opposite = "b" if direction is self.directions.get("a") else "a"
                sender = self._open((source[0], source[1]), opposite)
            self._pass_on(data, sender, destination, direction)

    def _pass_on(
        self, data: bytes, sender: socket.socket, destination: Address, direction: Direction
    ) -> None:
        now = time.monotonic()
        size = len(data) + HEADERS
        chance = self._random.random
        if self._is_cut or size > self.mtu or chance() < self.loss:
            direction.lost += 1
            return
        due = now
        if self.rate is not None:
            queue = self.queue
            if queue is None:
                queue = int(self.rate / 8 * 2 * self.delay)
            waiting = max(direction.free_at - now, 0.0) * self.rate / 8
            if waiting + size > queue:
                direction.overflowed += 1
                return
            due = direction.free_at = max(direction.free_at, now) + size * 8 / self.rate
        due += self.delay + self.jitter * chance()
        if chance() < self.reorder:
            due += max(self.jitter, self.delay / 4, 0.001)
        else:
            due = direction.latest = max(due, direction.latest)
        direction.forwarded += 1
        for _ in range(2 if chance() < self.duplicate else 1):
            item = Waiting(due, next(self._numbers), data, sender, destination)
            heapq.heappush(self._heap, item)
