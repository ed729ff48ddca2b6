"""Two associations joined by a simulated path, on a virtual clock: no event loop, no waiting."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from math import inf

from artico_sync._webrtc.sctp.association import Association
from artico_sync._webrtc.sctp.handshake import PeerParameters
from artico_sync._webrtc.sctp.packets import split_chunks
from artico_sync._webrtc.sctp.path_mtu import UNIVERSAL_MTU
from artico_sync._webrtc.sctp.receive_queue import Message
from artico_sync._webrtc.sctp.send_queue import OutboundMessage

BINARY = 53


class RecordingOwner:
    """Records the events of an association."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.messages: list[Message] = []
        self.acknowledgements = 0
        self.reset_streams: list[tuple[int, ...]] = []
        self.finished_streams: list[int] = []

    def on_established(self, peer: PeerParameters) -> None:
        self.events.append("established")

    def on_closed(self) -> None:
        self.events.append("closed")

    def on_peer_unresponsive(self) -> None:
        self.events.append("unresponsive")

    def on_messages_received(self, messages: list[Message]) -> None:
        self.messages += messages

    def on_acknowledged(self) -> None:
        self.acknowledgements += 1

    def on_streams_reset(self, streams: tuple[int, ...]) -> None:
        self.reset_streams.append(streams)

    def on_stream_finished(self, stream: int) -> None:
        self.finished_streams.append(stream)

    def is_same_host(self) -> bool:
        return False

    def receive_buffer(self) -> int:
        return 0


def make_association(
    owner: RecordingOwner,
    tag: int,
    initial_tsn: int,
    *,
    accelerate: bool = True,
    capacity: int = 1 << 20,
) -> Association:
    """Make an association with the tests' usual parameters."""
    return Association(
        owner,
        tag=tag,
        initial_tsn=initial_tsn,
        port=5000,
        capacity=capacity,
        maximum_message=1 << 18,
        packet_maximum=UNIVERSAL_MTU,
        accelerate=accelerate,
    )


class SimulatedLink:
    """Carries packets between two associations, late, lost, twice or out of order.

    Args:
        initial_tsns: The initial TSNs of both ends.
        accelerate: Whether the ends use the fast paths.
        seed: Of the random numbers that decide on each packet.
    """

    def __init__(
        self,
        *,
        initial_tsns: tuple[int, int] = (1, 1),
        accelerate: tuple[bool, bool] = (True, True),
        delay: float = 0.01,
        loss: float = 0.0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.now = 1000.0
        self.delay, self.loss, self.reorder, self.duplicate = delay, loss, reorder, duplicate
        self.is_cut = False
        #: Is called with each packet and the index of its sender; returning False drops it.
        self.filter: Callable[[bytes, int], bool] = lambda packet, sender: True
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])
        self.owners = RecordingOwner(), RecordingOwner()
        self.ends = (
            make_association(self.owners[0], 0x11111111, initial_tsns[0], accelerate=accelerate[0]),
            make_association(self.owners[1], 0x22222222, initial_tsns[1], accelerate=accelerate[1]),
        )
        self._random = random.Random(seed)
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._order = itertools.count()

    def connect(self) -> None:
        """Start both ends and run until both are established."""
        for end in self.ends:
            end.connect(self.now)
        self.run(lambda: all(end.is_established for end in self.ends))

    def send(self, sender: int, data: bytes, stream: int = 0, *, unordered: bool = False) -> None:
        """Queue a message at an end."""
        self.ends[sender].enqueue_message(OutboundMessage(stream, BINARY, data, unordered))

    def received(self, end: int) -> list[bytes]:
        """Return the content of the messages an end has received."""
        return [data for _, _, data in self.owners[end].messages]

    def run(self, done: Callable[[], bool], limit: float = 600.0) -> None:
        """Let time pass until `done`, at most `limit` virtual seconds."""
        end = self.now + limit
        while True:
            self._collect()
            if done():
                return
            arrival = self._queue[0][0] if self._queue else inf
            self.now = min(arrival, *[association.next_timeout() for association in self.ends])
            assert self.now <= end, f"not done after {limit} virtual seconds"
            while self._queue and self._queue[0][0] <= self.now:
                _, _, sender, packet = heapq.heappop(self._queue)
                self.ends[1 - sender].receive(packet, self.now)

    def _collect(self) -> None:
        """Poll the ends as an event loop does, until neither wants it again."""
        for sender, end in enumerate(self.ends):
            packets = end.packets_to_send()
            while end.poll_soon or end.poll_now or end.next_timeout() <= self.now:
                packets += end.poll(self.now)
            for packet in packets:
                self._carry(sender, packet)

    def _carry(self, sender: int, packet: bytes) -> None:
        self.sent[sender].append(packet)
        if self.is_cut or not self.filter(packet, sender):
            return
        for _ in range(2 if self._random.random() < self.duplicate else 1):
            if self._random.random() < self.loss:
                continue
            delay = self.delay * (1.6 if self._random.random() < self.reorder else 1.0)
            heapq.heappush(self._queue, (self.now + delay, next(self._order), sender, packet))


def chunk_types(packet: bytes) -> list[int]:
    """Return the types of the chunks in a packet."""
    return [kind for kind, *_ in split_chunks(packet)]
