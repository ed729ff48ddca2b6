"""The candidate pair in use: sending over it, and hearing from the peer over it; loop thread."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aioice import Candidate
from aioice.ice import CandidatePair, StunProtocol

from artico_sync._protocol.lru import LruDict
from artico_sync._webrtc.ice import stun_binding as binding
from artico_sync._webrtc.net.udp import BatchedDatagramTransport

if TYPE_CHECKING:
    from artico_sync._webrtc.ice.agent import IceAgent

#: Questions without an answer that are remembered.
QUESTIONS_MAXIMUM = 64


class SelectedPair:
    """The pair a connection uses at present, with what is known of the peer behind it."""

    def __init__(self, connection: IceAgent) -> None:
        self._connection = connection
        self.now = asyncio.get_running_loop().time
        self.pair: CandidatePair | None = None
        self.address: tuple[str, int] | None = None
        #: Called when another pair has taken the place of the one in use.
        self.on_change: Callable[[], None] | None = None
        self._transport: asyncio.DatagramTransport | None = None
        #: When anything of the peer was last heard over this path (the loop's time).
        self.heard_at = 0.0
        #: When the peer was last asked whether it is there, and when it last said yes.
        self.asked_at = 0.0
        self.consent_at = 0.0
        #: Seconds from question to answer, the last time; None before the first.
        self.round_trip_time: float | None = None
        self._questions: LruDict[bytes, float] = LruDict(QUESTIONS_MAXIMUM)
        self._request: bytes | None = None
        self._remote_key = b""
        self._local_key = connection.local_password.encode()
        #: The peer's question as it was last found to be in order, and the one being looked at.
        self._known_request: bytes | None = None
        self._looked_at: bytes | None = None

    def select(self, pair: CandidatePair | None) -> None:
        """Use `pair` from now on."""
        if pair is self.pair:
            return
        changes = self.pair is not None and pair is not None
        self.pair = pair
        self.refresh()
        if pair is None:
            self.address = self._transport = None
        else:
            self.address = pair.remote_addr
            self._transport = pair.protocol.transport
            self.heard_at = self.now()
        if changes and self.on_change is not None:
            self.on_change()

    def refresh(self) -> None:
        """Forget the prepared messages: they depend on the role and on the pair."""
        self._request = self._known_request = self._looked_at = None
        self._questions.clear()

    def send(self, data: bytes) -> None:
        if self._transport is None:
            raise ConnectionError("Cannot send data, not connected")
        self._transport.sendto(data, self.address)

    def send_batch(self, data: bytes | memoryview, size: int) -> None:
        """Send datagrams of `size` bytes that stand one after another, of which the last may be
        smaller. Raises ConnectionError without a path."""
        transport = self._transport
        if isinstance(transport, BatchedDatagramTransport):
            transport.send_batch(data, size, self.address)
            return
        # Others may keep what they are given.
        for begin in range(0, len(data), size):
            self.send(bytes(data[begin : begin + size]))

    @property
    def receive_buffer(self) -> int:
        """What the kernel counts for the socket's unread datagrams at most, in bytes."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is None:
            return 0
        return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))

    def ask(self) -> None:
        """Ask the peer whether it is there; its answer is noted when it comes."""
        if self.pair is None or self._transport is None:
            return
        if self._request is None:
            connection = self._connection
            self._remote_key = (connection.remote_password or "").encode()
            self._request = binding.attributes_of(
                connection.build_request(self.pair, nominate=False)
            )
        transaction_id = os.urandom(12)
        self.asked_at = self.now()
        # The loop's clock may be a coarse one.
        self._questions[transaction_id] = time.perf_counter()
        self._transport.sendto(
            binding.make_request(transaction_id, self._request, self._remote_key), self.address
        )

    def take(self, data: bytes, address: tuple[str, int], protocol: StunProtocol) -> bool:
        """Whether a STUN message was an answer to `ask`, or the peer's usual question."""
        self._looked_at = None
        if address != self.address:
            return False
        parts = binding.split(data)
        if parts is None:
            return False
        kind, transaction_id, attributes = parts
        if kind == binding.RESPONSE:
            asked_at = self._questions.get(transaction_id)
            if asked_at is None:
                return False
            if binding.is_authentic(data, self._remote_key):
                del self._questions[transaction_id]
                self.heard_at = self.consent_at = self.now()
                self.round_trip_time = time.perf_counter() - asked_at
            return True
        if kind != binding.REQUEST or self.pair is None or protocol is not self.pair.protocol:
            return False
        if attributes != self._known_request:
            self._looked_at = attributes
            return False
        if not binding.is_authentic(data, self._local_key):
            return False
        self.heard_at = self.now()
        protocol.transport.sendto(
            binding.make_response(transaction_id, address, self._local_key), address
        )
        return True

    def accepted(self, address: tuple[str, int]) -> None:
        """The request just looked at is authentic, and so is any with the same attributes."""
        if address == self.address:
            self.heard_at = self.now()
            self._known_request, self._looked_at = self._looked_at, None

    def stats(self) -> dict[str, object]:
        """The pair and its round-trip time in seconds; empty before there is a pair."""
        if self.pair is None:
            return {}
        return {
            "local": _describe(self.pair.local_candidate),
            "remote": _describe(self.pair.remote_candidate),
            "round_trip_time": self.round_trip_time,
        }


def _describe(candidate: Candidate) -> dict[str, object]:
    # An mDNS name is shown as the name: its address is the peer's secret.
    return {
        "type": candidate.type,
        "address": candidate.host,
        "port": candidate.port,
        "protocol": candidate.transport.lower(),
    }
