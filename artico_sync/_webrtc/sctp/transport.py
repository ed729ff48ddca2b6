"""The SCTP transport of a call: aiortc's face on an engine of our own; loop thread.

aiortc's peer connection and data channels know `RTCSctpTransport`, so this is one. What lies behind
it is ours: congestion control, the peer's window is obeyed, our own window follows what the
application has read, chunks share packets, and nothing the peer sends raises or runs away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aiortc import RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcsctptransport import RTCSctpCapabilities

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.dtls.transport import DtlsTransport
from artico_sync._webrtc.sctp import dcep
from artico_sync._webrtc.sctp.association import Association
from artico_sync._webrtc.sctp.cookie import Peer
from artico_sync._webrtc.sctp.outbound_queue import OutboundMessage
from artico_sync._webrtc.sctp.packets import COMMON_HEADER_LENGTH
from artico_sync._webrtc.sctp.path_mtu import ANYBODY, RECORD
from artico_sync._webrtc.sctp.receive_queue import OVERHEAD, Message
from artico_sync._webrtc.sctp.stream_reset_procedure import StreamResetManager

logger = logging.getLogger(__name__)

DEFAULT_PORT = 5000
#: What a peer takes that announces nothing (RFC 8841 6).
DEFAULT_MESSAGE_SIZE = 65536
#: A call has one channel; other uses may open a few.
CHANNELS_MAXIMUM = 256
#: Packets kept for a DTLS transport that cannot send without awaiting.
OUTPUT_MAXIMUM = 4096


def footprint(data: str | bytes) -> int:
    """What a message counts for in `pending` and `unread`, in bytes: its own and an overhead."""
    if isinstance(data, str) and not data.isascii():
        return len(data.encode()) + OVERHEAD
    return len(data) + OVERHEAD


class SctpTransport(RTCSctpTransport):
    """Data channels over an SCTP association over DTLS. The peer connection owns it."""

    def __init__(
        self, transport: RTCDtlsTransport, settings: Settings, port: int = DEFAULT_PORT
    ) -> None:
        super().__init__(transport, port)
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._settings = settings
        #: Called at most once a pass of the loop, after `pending` fell or the association ended.
        self.on_progress: Callable[[], None] | None = None
        #: Takes messages, as many as have come; without it they go to the channel's "message"
        #: listeners.
        self.on_messages: Callable[[RTCDataChannel, list[str | bytes]], None] | None = None
        #: Called when the peer's transport is given up, before the channels close.
        self.on_lost: Callable[[], None] | None = None
        self._association = Association(
            self,
            self._send_packets,
            tag=self._local_verification_tag,
            initial_tsn=self._local_tsn,
            port=port,
            capacity=settings.receive_buffer,
            maximum_message=settings.maximum_message,
            # aiortc's own DTLS transport cuts off what is longer than 1 500 bytes.
            packet_maximum=RECORD if isinstance(transport, DtlsTransport) else ANYBODY,
            accelerate=settings.accelerate,
        )
        self._closer = StreamResetManager(
            self._association,
            self._loop,
            self._local_tsn,
            peer_closed=self._on_peer_closed,
            finished=self._finish_channel,
        )
        #: Messages that wait for the association, which decides the numbers of the streams.
        self._early: deque[tuple[RTCDataChannel, int, bytes]] = deque()
        self._early_cost = 0
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._output: deque[bytes] = deque()
        self._output_task: asyncio.Task[None] | None = None
        self._send_at_once: Callable[[list[bytes]], None] | None = None
        if isinstance(transport, DtlsTransport) and transport.can_send_at_once:
            self._send_at_once = transport.send_packets
        self._received_messages = 0
        self._received_bytes = 0

    @property
    def pending(self) -> int:
        """Footprint of what was accepted and is not acknowledged by the peer's transport."""
        return self._association.sends.pending + self._early_cost

    @property
    def unread(self) -> int:
        """Footprint of what went to `on_messages` and was not released."""
        return self._association.receives.taken

    @property
    def progress(self) -> int:
        """Grows with all data that comes from the peer."""
        receives = self._association.receives
        return receives.cumulative + receives.held

    @property
    def is_shut(self) -> bool:
        """Whether the peer may send nothing, because what came is not read."""
        return self._association.receives.window == 0

    @property
    def retransmission_timeout(self) -> float:
        """Seconds after which what was not acknowledged is sent again."""
        return self._association.sends.timeout.value

    @property
    def remote_max_message_size(self) -> int:
        """Largest message the peer takes, in bytes; 0 for any."""
        return self._remote_max_message_size

    def getCapabilities(self) -> RTCSctpCapabilities:  # type: ignore[override]
        return RTCSctpCapabilities(maxMessageSize=self._settings.maximum_message)

    def send_message(self, channel: RTCDataChannel, data: str | bytes) -> None:
        """Queue a message. It leaves in the next pass of the loop, or when the peer allows."""
        self.queue_messages(channel, (data,))
        self._association.flush_soon()

    def queue_messages(self, channel: RTCDataChannel, messages: Iterable[str | bytes]) -> None:
        """Queue messages for a call of `send_now`, which saves a pass of the loop."""
        sends = self._association.sends
        counters = sends.counters
        is_up = self._association.is_up
        stream = channel.id
        if stream is None and is_up:
            stream = self._number(channel)
        unordered = not channel.ordered
        for data in messages:
            protocol, payload = dcep.encode_message(data)
            counters.messages += 1
            counters.bytes += len(payload)
            if stream is None or not is_up:
                self._queue(channel, protocol, payload)
            else:
                sends.put(OutboundMessage(stream, protocol, payload, unordered))

    def send_now(self) -> None:
        """Send what waits and may be sent."""
        self._association.flush_now()

    def release(self, size: int) -> None:
        """The application has read messages of that footprint: the peer may send as much."""
        receives = self._association.receives
        receives.taken = max(receives.taken - size, 0)
        if receives.should_announce():
            self._association.acknowledge_soon()

    def path_changed(self) -> None:
        """ICE has moved to another path to the peer."""
        self._association.path_changed()

    async def drained(self) -> None:
        """Wait until everything accepted is acknowledged.

        Raises ConnectionError when the association ends first.
        """
        while self.pending:
            if self.state == "closed":
                raise ConnectionError("the association ended before everything was delivered")
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drain_waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._drain_waiters:
                    self._drain_waiters.remove(waiter)

    def stats(self) -> dict[str, int | float | None]:
        """Counters since the start and estimates of now, in bytes and seconds."""
        sends = self._association.sends
        return {
            "messages_sent": sends.counters.messages,
            "bytes_sent": sends.counters.bytes,
            "messages_received": self._received_messages,
            "bytes_received": self._received_bytes,
            "retransmissions": sends.counters.retransmissions,
            "timeouts": sends.counters.timeouts,
            "round_trip_time": sends.timeout.smoothed,
            "retransmission_timeout": sends.timeout.value,
            "congestion_window": sends.window.size,
            "packet_size": self._association.room + COMMON_HEADER_LENGTH,
            "pending": self.pending,
            "unread": self.unread,
        }

    # Life

    async def start(self, remoteCaps: RTCSctpCapabilities | None, remotePort: int) -> None:
        if self.state == "new":
            self.transport.on("statechange", self._on_dtls_state)
        if remoteCaps is not None and remoteCaps.maxMessageSize < 0:
            remoteCaps = RTCSctpCapabilities(maxMessageSize=DEFAULT_MESSAGE_SIZE)
        # From the peer's description, where anything may stand, or nothing.
        if not remotePort or not 0 < remotePort < 65536:
            remotePort = DEFAULT_PORT
        await super().start(remoteCaps, remotePort)

    async def _init(self) -> None:
        self._association.remote_port = self._remote_port or DEFAULT_PORT
        self._association.connect()

    async def stop(self) -> None:
        self._association.abort()
        self.transport._unregister_data_receiver(self)
        if self._output_task is not None:
            await self._output_task

    async def _handle_data(self, data: bytes) -> None:
        self._association.handle(data)

    def handle_data(self, data: bytes) -> None:
        """A packet came out of DTLS."""
        self._association.handle(data)

    def _on_dtls_state(self) -> None:
        if self.transport.state in ("closed", "failed"):
            self._association.close()

    def on_established(self, peer: Peer) -> None:
        self._association_state = self.State.ESTABLISHED
        self._RTCSctpTransport__state = "connected"
        self._inbound_streams_count = min(peer.outbound_streams, self._inbound_streams_max)
        self._outbound_streams_count = min(self._outbound_streams_count, peer.inbound_streams)
        self._closer.start(peer.initial_tsn)
        for channel in list(self._data_channels.values()):
            if channel.negotiated:
                self._set_channel_state(channel, "open")
        self._early_cost = 0
        while self._early:
            self._queue(*self._early.popleft())

    def on_given_up(self) -> None:
        if self.on_lost is not None:
            self.on_lost()

    def on_ended(self) -> None:
        self._association_state = self.State.CLOSED
        self._RTCSctpTransport__state = "closed"
        self._closer.end()
        unnumbered = {channel for channel, _, _ in self._early if channel.id is None}
        self._early.clear()
        for stream in list(self._data_channels):
            self._finish_channel(stream)
        for channel in unnumbered:
            self._set_channel_state(channel, "closed")
        self._wake_drained()
        self._report_progress()
        # Nothing comes any more; listeners would only keep their owners in memory.
        # One that never started has not been listening.
        if self._on_dtls_state in self.transport.listeners("statechange"):
            self.transport.remove_listener("statechange", self._on_dtls_state)
        self.remove_all_listeners()

    def is_same_host(self) -> bool:
        path: dict[str, Any] = getattr(self.transport.transport, "path_stats", dict)()
        if "local" not in path:
            return False
        # Two addresses on the same TURN server are equal as well.
        local, remote = path["local"], path["remote"]
        return bool(local["type"] == "host" and local["address"] == remote["address"])

    def receive_buffer(self) -> int:
        return int(getattr(self.transport.transport, "receive_buffer", 0))

    def on_pass(self, progressed: bool) -> None:
        self._closer.request()
        association = self._association
        association.sends.outbound.hurry = bool(self._drain_waiters) or not association.patient
        if progressed:
            if not self.pending:
                self._wake_drained()
            self._report_progress()

    def _wake_drained(self) -> None:
        waiters, self._drain_waiters = self._drain_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)  # `drained` looks for itself what happened

    def _report_progress(self) -> None:
        if self.on_progress is not None:
            try:
                self.on_progress()
            except Exception:
                logger.exception("on_progress failed")

    # Packets out

    def _send_packets(self, packets: list[bytes]) -> None:
        if self._send_at_once is not None:
            try:
                self._send_at_once(packets)
            except ConnectionError as exc:
                logger.debug("%d SCTP packets not sent: %s", len(packets), exc)
            return
        self._output += packets[: OUTPUT_MAXIMUM - len(self._output)]
        if self._output and (self._output_task is None or self._output_task.done()):
            self._output_task = self._loop.create_task(self._send_output())

    async def _send_output(self) -> None:
        while self._output:
            try:
                await self.transport._send_data(self._output.popleft())
            except ConnectionError as exc:
                logger.debug("SCTP packet not sent: %s", exc)

    # Messages

    def _queue(self, channel: RTCDataChannel, protocol: int, payload: bytes) -> None:
        if not self._association.is_up:
            self._early.append((channel, protocol, payload))
            self._early_cost += len(payload) + OVERHEAD
            return
        stream = self._number(channel) if channel.id is None else channel.id
        unordered = not channel.ordered and protocol != dcep.DCEP
        self._association.put(OutboundMessage(stream, protocol, payload, unordered))

    def _number(self, channel: RTCDataChannel) -> int:
        """Give a channel the next stream of our parity (RFC 8832 6)."""
        stream = self._data_channel_id or 0
        while stream in self._data_channels:
            stream += 2
        self._data_channels[stream] = channel
        channel._setId(stream)
        return stream

    def on_delivered(self, messages: list[Message]) -> None:
        receives = self._association.receives
        batch: list[str | bytes] = []
        current: RTCDataChannel | None = None
        for stream, protocol, data in messages:
            channel = self._data_channels.get(stream)
            if channel is not current:
                self._hand_over(current, batch)
                current, batch = channel, []
            message = None
            try:
                if protocol == dcep.DCEP:
                    # What came before it comes before it.
                    self._hand_over(current, batch)
                    current, batch = None, []
                    self._on_control(stream, channel, data)
                else:
                    message = dcep.decode_message(protocol, data)
            except ValueError as exc:
                logger.warning("a data channel message was dropped: %s", exc)
            if channel is None or message is None:
                if protocol != dcep.DCEP:
                    logger.debug("a message of kind %d for stream %d dropped", protocol, stream)
                receives.taken -= len(data) + OVERHEAD
                continue
            if not message:
                receives.taken -= len(data)  # what stands for nothing
            self._received_bytes += len(data)
            batch.append(message)
        self._hand_over(current, batch)
        self._closer.perform()

    def _hand_over(self, channel: RTCDataChannel | None, messages: list[str | bytes]) -> None:
        if channel is None or not messages:
            return
        self._received_messages += len(messages)
        try:
            if self.on_messages is not None:
                self.on_messages(channel, messages)
                return
            self.release(sum(footprint(message) for message in messages))
            for message in messages:
                channel.emit("message", message)
        except Exception:
            logger.exception("taking a message failed")

    # Data channels

    def _on_control(self, stream: int, channel: RTCDataChannel | None, data: bytes) -> None:
        request = dcep.decode_control(data)
        if request is None:
            if channel is not None and channel.readyState == "connecting":
                self._set_channel_state(channel, "open")
            return
        if channel is not None:
            raise ValueError("DATA_CHANNEL_OPEN for a channel that exists")
        if len(self._data_channels) >= CHANNELS_MAXIMUM:
            raise ValueError("too many data channels")
        channel = RTCDataChannel(self, request.parameters(stream), False)
        self._data_channels[stream] = channel
        self._set_channel_state(channel, "open")
        self._queue(channel, dcep.DCEP, dcep.ACKNOWLEDGE)
        try:
            self.emit("datachannel", channel)
        except Exception:
            logger.exception("taking a data channel failed")

    def _set_channel_state(self, channel: RTCDataChannel, state: str) -> None:
        try:
            channel._setReadyState(state)
        except Exception:
            logger.exception("a listener of a data channel failed")

    def _data_channel_open(self, channel: RTCDataChannel) -> None:
        if channel.id is not None:
            self._data_channel_add(channel, channel.id)
        self._queue(channel, dcep.DCEP, dcep.encode_open(channel))

    def _data_channel_add(self, channel: RTCDataChannel, stream: int) -> None:
        if stream in self._data_channels:
            raise ValueError(f"Data channel with ID {stream} already registered")
        self._data_channels[stream] = channel

    def _data_channel_add_negotiated(self, channel: RTCDataChannel) -> None:
        assert channel.id is not None
        self._data_channel_add(channel, channel.id)
        if self._association.is_up:
            self._set_channel_state(channel, "open")

    def _data_channel_send(self, channel: RTCDataChannel, data: bytes | str) -> None:
        size = len(dcep.encode_message(data)[1])
        if 0 < self._remote_max_message_size < size:
            raise ValueError(
                f"Cannot send message of {size} bytes, the remote party only supports "
                f"messages up to {self._remote_max_message_size} bytes"
            )
        self.send_message(channel, data)

    def _data_channel_close(self, channel: RTCDataChannel) -> None:
        if channel.readyState in ("closing", "closed"):
            return
        self._set_channel_state(channel, "closing")
        peer = self._association.peer
        if self._association.is_up and channel.id is not None and peer is not None:
            if peer.resets_streams:
                self._closer.close(channel.id)
                return
        self._early = deque(item for item in self._early if item[0] is not channel)
        self._early_cost = sum(len(item[2]) + OVERHEAD for item in self._early)
        if channel.id is not None:
            self._finish_channel(channel.id)
        else:
            self._set_channel_state(channel, "closed")

    def _finish_channel(self, stream: int) -> None:
        self._closer.forget(stream)
        channel = self._data_channels.pop(stream, None)
        if channel is not None:
            self._set_channel_state(channel, "closed")

    def on_parameter(self, kind: int, body: bytes) -> None:
        self._closer.take(kind, body)

    def _on_peer_closed(self, streams: tuple[int, ...]) -> None:
        for stream in streams or tuple(self._data_channels):
            channel = self._data_channels.get(stream)
            if channel is not None:
                self._data_channel_close(channel)
                self._closer.inbound_reset(stream)
