"""The candidate pair in use: sending over it, and its consent checks (RFC 7675)."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

from aioice import Candidate
from aioice.ice import CandidatePair, StunProtocol

from artico_sync._protocol.bounds import LruDict
from artico_sync._webrtc._aiortc.ice import AioiceConnection
from artico_sync._webrtc.ice import stun
from artico_sync._webrtc.net.udp import BatchedDatagramTransport

#: Binding requests without a response that are remembered.
PENDING_REQUESTS_MAXIMUM = 64


class SelectedPair:
    """The pair a connection uses, and when the peer was last received over it."""

    def __init__(self, connection: AioiceConnection) -> None:
        self._connection = connection
        self.now = asyncio.get_running_loop().time
        self.pair: CandidatePair | None = None
        self.address: tuple[str, int] | None = None
        #: Called when another pair has replaced the one in use.
        self.on_change: Callable[[], None] | None = None
        self._transport: asyncio.DatagramTransport | None = None
        #: When any datagram of the peer was last received over this pair (the loop's time).
        self.last_received_at = 0.0
        #: When the last Binding request was sent, and when one was last answered.
        self.last_request_at = 0.0
        self.consent_at = 0.0
        #: The latest time from request to response, in seconds; None before the first.
        self.round_trip_time: float | None = None
        self._pending_requests: LruDict[bytes, float] = LruDict(PENDING_REQUESTS_MAXIMUM)
        self._request: bytes | None = None
        self._remote_key = b""
        self._local_key = connection.local_password.encode()
        #: Attributes of the peer's last verified request, and of the one being verified.
        self._verified_request: bytes | None = None
        self._unverified_request: bytes | None = None

    def select(self, pair: CandidatePair | None) -> None:
        """Use `pair` from now on; None ends the use of any."""
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
            self.last_received_at = self.now()
        if changes and self.on_change is not None:
            self.on_change()

    def refresh(self) -> None:
        """Discard the prepared messages, which depend on the role and on the pair."""
        self._request = self._verified_request = self._unverified_request = None
        self._pending_requests.clear()

    def send(self, data: bytes) -> None:
        """Send a datagram. Raises ConnectionError without a pair."""
        if self._transport is None:
            raise ConnectionError("Cannot send data, not connected")
        self._transport.sendto(data, self.address)

    def send_batch(self, data: bytes | memoryview, size: int) -> None:
        """Send concatenated datagrams of `size` bytes each, the last of which may be smaller.

        Raises:
            ConnectionError: There is no pair in use.
        """
        transport = self._transport
        if isinstance(transport, BatchedDatagramTransport):
            transport.send_batch(data, size, self.address)
            return
        # Other transports may keep a reference to the data.
        for begin in range(0, len(data), size):
            self.send(bytes(data[begin : begin + size]))

    @property
    def receive_buffer(self) -> int:
        """Bytes of unread datagrams that the kernel keeps for the socket at most."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is None:
            return 0
        return int(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))

    def send_binding_request(self) -> None:
        """Send a consent check (RFC 7675 5.1); `handle_stun` receives its response."""
        if self.pair is None or self._transport is None:
            return
        if self._request is None:
            connection = self._connection
            self._remote_key = (connection.remote_password or "").encode()
            self._request = stun.attributes_of(connection.build_request(self.pair, nominate=False))
        transaction_id = os.urandom(12)
        self.last_request_at = self.now()
        # The loop's clock may have a coarse resolution.
        self._pending_requests[transaction_id] = time.perf_counter()
        self._transport.sendto(
            stun.make_request(transaction_id, self._request, self._remote_key), self.address
        )

    def handle_stun(self, data: bytes, address: tuple[str, int], protocol: StunProtocol) -> bool:
        """Handle a response to a consent check, or a consent check of the peer.

        Returns:
            False if the message is another one, which aioice must process.
        """
        self._unverified_request = None
        if address != self.address:
            return False
        parts = stun.split(data)
        if parts is None:
            return False
        kind, transaction_id, attributes = parts
        if kind == stun.RESPONSE:
            sent_at = self._pending_requests.get(transaction_id)
            if sent_at is None:
                return False
            if stun.is_authentic(data, self._remote_key):
                del self._pending_requests[transaction_id]
                self.last_received_at = self.consent_at = self.now()
                self.round_trip_time = time.perf_counter() - sent_at
            return True
        if kind != stun.REQUEST or self.pair is None or protocol is not self.pair.protocol:
            return False
        if attributes != self._verified_request:
            self._unverified_request = attributes
            return False
        if not stun.is_authentic(data, self._local_key):
            return False
        self.last_received_at = self.now()
        protocol.transport.sendto(
            stun.make_response(transaction_id, address, self._local_key), address
        )
        return True

    def on_request_verified(self, address: tuple[str, int]) -> None:
        """Record that the last request is authentic, and so are others with its attributes."""
        if address == self.address:
            self.last_received_at = self.now()
            self._verified_request, self._unverified_request = self._unverified_request, None

    def stats(self) -> dict[str, object]:
        """Return the pair and its round-trip time in seconds; empty before there is a pair."""
        if self.pair is None:
            return {}
        return {
            "local": _describe(self.pair.local_candidate),
            "remote": _describe(self.pair.remote_candidate),
            "round_trip_time": self.round_trip_time,
        }


def _describe(candidate: Candidate) -> dict[str, object]:
    # An mDNS name is shown as such: it conceals the address of the peer.
    return {
        "type": candidate.type,
        "address": candidate.host,
        "port": candidate.port,
        "protocol": candidate.transport.lower(),
    }
