"""The SCTP transport of a connection: an association driven by the event loop, over DTLS.

This is the only file here that knows asyncio. It polls the association at most once per pass of
the loop, so that chunks share packets and SACKs are bundled with data, and it keeps one timer for
all timers of the association.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, Protocol

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.sctp.association import Association
from artico_sync._webrtc.sctp.channels import Channel, DataChannels
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.handshake import PeerParameters
from artico_sync._webrtc.sctp.receive_queue import Message

logger = logging.getLogger(__name__)

DEFAULT_PORT = 5000
#: The largest message of a peer that announces none (RFC 8841 6.1).
DEFAULT_MAX_MESSAGE_SIZE = 65536
#: Packets queued for a DTLS transport that cannot send without awaiting.
OUTPUT_MAX_PACKETS = 4096


class PacketTransport(Protocol):
    """The DTLS transport as SCTP sees it."""

    @property
    def state(self) -> str:
        """ "new", "connecting", "connected", "closed" or "failed"."""

    @property
    def is_client(self) -> bool:
        """True if it has the DTLS role of the client."""

    @property
    def packet_maximum(self) -> int:
        """The largest SCTP packet it can receive, in bytes."""

    @property
    def can_send_at_once(self) -> bool:
        """True if `send_packets` works."""

    @property
    def transport(self) -> Any:
        """The ICE transport below."""

    def send_packets(self, packets: Sequence[bytes]) -> None:
        """Send packets without awaiting; raise ConnectionError if that is not possible."""

    async def send_packet(self, packet: bytes) -> None:
        """Send a packet; raise ConnectionError if that is not possible."""

    def set_packet_receiver(self, receive: Callable[[bytes], None] | None) -> None:
        """Hand each received packet to this function."""

    def on(self, event: str, f: Callable[[], None]) -> Any: ...

    def remove_listener(self, event: str, f: Callable[[], None]) -> None: ...


class SctpTransport:
    """Data channels over an SCTP association over DTLS; owned by the connection.

    Large because it has two sides: the methods of the connection, and the events of the
    association.

    Attributes:
        transport: The DTLS transport.
        port: The local SCTP port.
        max_message_size: The largest message received, in bytes.
        channels: The data channels.
        on_progress: Called at most once per pass of the loop, after `pending` fell or the
            association ended.
        on_lost: Called when the peer is given up, before the channels close.
    """

    def __init__(
        self, transport: PacketTransport, settings: Settings, port: int = DEFAULT_PORT
    ) -> None:
        self.transport = transport
        self.port = port
        self.max_message_size = settings.maximum_message
        self.on_progress: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._association = Association(
            self,
            tag=secrets.randbelow((1 << 32) - 1) + 1,
            initial_tsn=secrets.randbits(32),
            port=port,
            capacity=settings.receive_buffer,
            maximum_message=settings.maximum_message,
            packet_maximum=transport.packet_maximum,
            accelerate=settings.accelerate,
        )
        self.channels = DataChannels(self._association, self._after_input)
        self._started = False
        self._poll_scheduled = False
        # The loop's timer, and the time it fires. It is moved only if it must fire earlier.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_fires_at = inf
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._output: deque[bytes] = deque()
        self._output_task: asyncio.Task[None] | None = None
        self._send_at_once = transport.send_packets if transport.can_send_at_once else None

    # State

    @property
    def state(self) -> str:
        """ "new", "connecting", "connected" or "closed" (W3C RTCSctpTransportState)."""
        if self._association.is_closed():
            return "closed"
        if self._association.is_established:
            return "connected"
        return "connecting" if self._started else "new"

    @property
    def pending(self) -> int:
        """Footprint of the messages accepted and not acknowledged by the peer's transport."""
        return self._association.retransmission_queue.pending + self.channels.early_footprint

    @property
    def unread(self) -> int:
        """Footprint of the messages delivered to `on_messages` and not released."""
        return self._association.receive_queue.unread

    @property
    def received_chunks(self) -> int:
        """A number that grows with every chunk of data from the peer."""
        receive_queue = self._association.receive_queue
        return receive_queue.cumulative_tsn + receive_queue.out_of_order_chunks

    @property
    def is_window_closed(self) -> bool:
        """True if the peer may send nothing, because received messages are not read."""
        return self._association.receive_queue.a_rwnd == 0

    @property
    def rto(self) -> float:
        """Seconds after which unacknowledged data is retransmitted."""
        return self._association.rto

    def stats(self) -> dict[str, int | float | None]:
        """Return totals since the start and current estimates, in bytes and seconds."""
        queue = self._association.retransmission_queue
        return {
            "messages_sent": queue.counters.messages,
            "bytes_sent": queue.counters.bytes,
            "messages_received": self.channels.messages_received,
            "bytes_received": self.channels.bytes_received,
            "retransmissions": queue.counters.retransmissions,
            "timeouts": queue.counters.timeouts,
            "round_trip_time": queue.timeout.srtt,
            "retransmission_timeout": queue.timeout.rto,
            "congestion_window": queue.window.cwnd,
            "packet_size": self._association.packet_size,
            "pending": self.pending,
            "unread": self.unread,
        }

    # Messages

    def open_channel(self, parameters: ChannelParameters) -> Channel:
        """Open a data channel."""
        return self.channels.open_channel(parameters)

    def send_message(self, channel: Channel, data: str | bytes) -> None:
        """Queue a message. It is sent at the end of this pass of the loop, or when it may be."""
        self.channels.enqueue_messages(channel, (data,))
        self._schedule_poll()

    def enqueue_messages(self, channel: Channel, messages: Iterable[str | bytes]) -> None:
        """Queue messages for `flush_packets`, which saves a pass of the loop."""
        self.channels.enqueue_messages(channel, messages)

    def flush_packets(self) -> None:
        """Send what may be sent, unless that is about to happen anyway."""
        if not self._poll_scheduled:
            self._poll()

    def release(self, size: int) -> None:
        """Let the peer send more: the user has read messages of this footprint."""
        self.channels.release(size)
        if self._association.poll_soon:
            self._schedule_poll()

    async def drained(self) -> None:
        """Wait until everything accepted is acknowledged.

        Raises:
            ConnectionError: The association ended first.
        """
        while self.pending:
            if self.state == "closed":
                raise ConnectionError("the association ended before everything was delivered")
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drain_waiters.append(waiter)
            self._association.sack_immediately = True
            try:
                await waiter
            finally:
                if waiter in self._drain_waiters:
                    self._drain_waiters.remove(waiter)
                self._association.sack_immediately = bool(self._drain_waiters)

    # Life

    async def start(self, remote_max_message_size: int, remote_port: int) -> None:
        """Begin the handshake, with the values of the peer's description; again has no effect.

        Args:
            remote_max_message_size: In bytes, 0 for any; negative if the peer announced none.
            remote_port: Out of range stands for the default, as descriptions hold anything.
        """
        if self._started:
            return
        self._started = True
        if remote_max_message_size < 0:
            remote_max_message_size = DEFAULT_MAX_MESSAGE_SIZE
        self.channels.remote_max_message_size = remote_max_message_size
        self.channels.first_stream = 0 if self.transport.is_client else 1
        valid = 0 < remote_port < 65536
        self._association.remote_port = remote_port if valid else DEFAULT_PORT
        self.transport.on("statechange", self._on_dtls_state)
        self.transport.set_packet_receiver(self.receive_packet)
        self._association.connect(self._loop.time())
        self._after_input()

    async def stop(self) -> None:
        """End the association; the peer gets an ABORT."""
        self._association.abort()
        self._after_input()
        self.transport.set_packet_receiver(None)
        if self._output_task is not None:
            await self._output_task

    def on_path_change(self) -> None:
        """React to a new network path."""
        self._association.on_path_change(self._loop.time())
        self._after_input()

    def _on_dtls_state(self) -> None:
        if self.transport.state in ("closed", "failed"):
            self._association.close()
            self._after_input()

    # Events of the association

    def on_established(self, peer: PeerParameters) -> None:
        """Let the channels send what waits."""
        self.channels.on_established()

    def on_peer_unresponsive(self) -> None:
        """Report that the peer was given up."""
        if self.on_lost is not None:
            self.on_lost()

    def on_closed(self) -> None:
        """Close the channels and end every wait."""
        self.channels.on_closed()
        self._wake_drain_waiters()
        self._report_progress()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._started:
            self.transport.remove_listener("statechange", self._on_dtls_state)
        # Handlers would only keep their owners in memory.
        self.channels.on_channel = None

    def on_messages_received(self, messages: list[Message]) -> None:
        """Deliver messages to their channels."""
        self.channels.on_messages_received(messages)

    def on_acknowledged(self) -> None:
        """Report progress, and end the waits for delivery if everything is delivered."""
        if not self.pending:
            self._wake_drain_waiters()
        self._report_progress()

    def on_streams_reset(self, streams: tuple[int, ...]) -> None:
        """Close the channels that the peer has closed."""
        self.channels.on_streams_reset(streams)

    def on_stream_finished(self, stream: int) -> None:
        """Close a channel for good."""
        self.channels.on_stream_finished(stream)

    def is_same_host(self) -> bool:
        """Return True if both ends of the path are host candidates with the same address."""
        path: dict[str, Any] = getattr(self.transport.transport, "path_stats", dict)()
        if "local" not in path:
            return False
        # Two addresses on the same TURN server are equal as well.
        local, remote = path["local"], path["remote"]
        return bool(local["type"] == "host" and local["address"] == remote["address"])

    def receive_buffer(self) -> int:
        """Return the size of the UDP socket's receive buffer in bytes, 0 if unknown."""
        return int(getattr(self.transport.transport, "receive_buffer", 0))

    def _wake_drain_waiters(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)  # `drained` finds out what happened.

    def _report_progress(self) -> None:
        if self.on_progress is not None:
            try:
                self.on_progress()
            except Exception:
                logger.exception("a handler of progress failed")

    # Packets

    def receive_packet(self, packet: bytes) -> None:
        """Process a packet that DTLS has decrypted."""
        self._association.receive(packet, self._loop.time())
        self._after_input()

    def _after_input(self) -> None:
        """Send, poll and set the timer as the association wants after it was called."""
        association = self._association
        if association.poll_now and not self._poll_scheduled:
            self._poll()
            return
        if packets := association.packets_to_send():
            self._send_packets(packets)
        if association.poll_soon or association.poll_now:
            self._schedule_poll()
        if association.earliest_timeout < self._timer_fires_at:
            self._set_timer()

    def _schedule_poll(self) -> None:
        if not self._poll_scheduled:
            self._poll_scheduled = True
            self._loop.call_soon(self._poll)

    def _poll(self) -> None:
        self._poll_scheduled = False
        association = self._association
        if packets := association.poll(self._loop.time()):
            self._send_packets(packets)
        if association.poll_soon:
            self._schedule_poll()
        if association.earliest_timeout < self._timer_fires_at:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_fires_at = deadline = self._association.next_timeout()
        if deadline != inf:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_fires_at = inf
        # Timers are moved often, and the loop's timer only if it must fire earlier.
        if self._association.next_timeout() <= self._loop.time():
            self._poll()
        else:
            self._set_timer()

    def _send_packets(self, packets: list[bytes]) -> None:
        if self._send_at_once is not None:
            try:
                self._send_at_once(packets)
            except ConnectionError as exc:
                logger.debug("%d SCTP packets not sent: %s", len(packets), exc)
            return
        self._output += packets[: OUTPUT_MAX_PACKETS - len(self._output)]
        if self._output and (self._output_task is None or self._output_task.done()):
            self._output_task = self._loop.create_task(self._send_output())

    async def _send_output(self) -> None:
        while self._output:
            try:
                await self.transport.send_packet(self._output.popleft())
            except ConnectionError as exc:
                logger.debug("SCTP packet not sent: %s", exc)
