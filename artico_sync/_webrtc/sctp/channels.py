"""Data channels over the streams of an association (RFC 8831, RFC 8832)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from artico_sync._protocol.bounds import OVERHEAD, footprint
from artico_sync._webrtc.sctp import dcep
from artico_sync._webrtc.sctp.association import Association
from artico_sync._webrtc.sctp.dcep import ChannelParameters
from artico_sync._webrtc.sctp.receive_queue import Message
from artico_sync._webrtc.sctp.send_queue import OutboundMessage

logger = logging.getLogger(__name__)

#: A call has one channel; other uses may open a few.
CHANNELS_MAX = 256


class ChannelOwner(Protocol):
    """The data channels as one of them sees them."""

    def send_message(self, channel: Channel, data: str | bytes) -> None: ...

    def close_channel(self, channel: Channel) -> None: ...


class Channel:
    """A data channel, made by `DataChannels`.

    Attributes:
        parameters: Its label, protocol and reliability.
        negotiated: Both peers opened it under an id they agreed on otherwise.
        id: Its stream id, None until the association assigns one.
        ready_state: "connecting", "open", "closing" or "closed" (W3C RTCDataChannelState).
        on_open, on_close: Called when it enters that state.
        on_message: Called for each message, unless the transport has an `on_messages`.
    """

    def __init__(
        self,
        owner: ChannelOwner,
        parameters: ChannelParameters,
        id: int | None = None,
        *,
        negotiated: bool = False,
    ) -> None:
        self._owner = owner
        self.parameters = parameters
        self.negotiated = negotiated
        self.id = id
        self.ready_state = "connecting"
        self.on_open: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self.on_message: Callable[[str | bytes], None] | None = None

    @property
    def label(self) -> str:
        """The name given by the peer that opened it."""
        return self.parameters.label

    @property
    def protocol(self) -> str:
        """The subprotocol given by the peer that opened it."""
        return self.parameters.protocol

    @property
    def ordered(self) -> bool:
        """True if messages are delivered in order."""
        return self.parameters.ordered

    def send(self, data: str | bytes) -> None:
        """Queue a message.

        Raises:
            ValueError: It is larger than the peer accepts.
        """
        self._owner.send_message(self, data)

    def close(self) -> None:
        """Close it once its messages are sent; the peer's end closes too."""
        self._owner.close_channel(self)

    def set_ready_state(self, state: str) -> None:
        """Enter a state; called by the owner."""
        if state == self.ready_state:
            return
        logger.debug("data channel %s: %s -> %s", self.id, self.ready_state, state)
        self.ready_state = state
        handler = {"open": self.on_open, "closed": self.on_close}.get(state)
        if state == "closed":
            self.on_open = self.on_close = self.on_message = None
        if handler is not None:
            try:
                handler()
            except Exception:
                logger.exception("a handler of a data channel failed")


class DataChannels:
    """The channels of one association, by stream id.

    Args:
        association: Carries their messages.
        on_used: Called after a method of a channel, to send what that has queued.
    """

    def __init__(self, association: Association, on_used: Callable[[], None]) -> None:
        self._association = association
        self._on_used = on_used
        #: Receives the messages of all channels; without it each channel's `on_message` does.
        self.on_messages: Callable[[Channel, list[str | bytes]], None] | None = None
        #: Receives the channels that the peer opens.
        self.on_channel: Callable[[Channel], None] | None = None
        self.by_stream: dict[int, Channel] = {}
        self.messages_received = 0
        self.bytes_received = 0
        #: The parity of local stream ids, which depends on the DTLS role (RFC 8832 6).
        self.first_stream = 0
        #: The largest message the peer accepts, in bytes; 0 for any.
        self.remote_max_message_size = 0
        # Messages that wait for the association, which decides on the stream ids.
        self._early: deque[tuple[Channel, int, bytes]] = deque()
        self._early_footprint = 0

    @property
    def early_footprint(self) -> int:
        """Footprint of the messages that wait for the association."""
        return self._early_footprint

    # Opening

    def open_channel(self, parameters: ChannelParameters) -> Channel:
        """Open a channel; the request goes out with the first packet."""
        channel = Channel(self, parameters)
        self._send(channel, dcep.DCEP, dcep.encode_open(parameters))
        self._on_used()
        return channel

    def add_negotiated(self, parameters: ChannelParameters, id: int) -> Channel:
        """Add a channel that the peer adds as well, under the same id (0 to 65534).

        Raises:
            ValueError: The id is out of range or in use.
        """
        if not 0 <= id <= 65534:
            raise ValueError(f"the id of a data channel must be 0 to 65534, not {id}")
        if id in self.by_stream:
            raise ValueError(f"a data channel with the id {id} exists already")
        channel = self.by_stream[id] = Channel(self, parameters, id, negotiated=True)
        if self._association.is_established:
            channel.set_ready_state("open")
        return channel

    def on_established(self) -> None:
        """Send what has waited for the association."""
        for channel in list(self.by_stream.values()):
            if channel.negotiated:
                channel.set_ready_state("open")
        self._early_footprint = 0
        while self._early:
            self._send(*self._early.popleft())

    def _assign_stream(self, channel: Channel) -> int:
        """Give a channel the next free stream id of the local parity."""
        stream = self.first_stream
        while stream in self.by_stream:
            stream += 2
        self.by_stream[stream] = channel
        channel.id = stream
        return stream

    # Sending

    def send_message(self, channel: Channel, data: str | bytes) -> None:
        """Queue a message, checked against the size the peer accepts."""
        size = len(dcep.encode_message(data)[1])
        if 0 < self.remote_max_message_size < size:
            raise ValueError(
                f"the message has {size} bytes, but the peer accepts at most"
                f" {self.remote_max_message_size}"
            )
        self.enqueue_messages(channel, (data,))
        self._association.poll_soon = True
        self._on_used()

    def enqueue_messages(self, channel: Channel, messages: Iterable[str | bytes]) -> None:
        """Queue messages for the next poll of the association."""
        queue = self._association.retransmission_queue
        counters = queue.counters
        is_established = self._association.is_established
        stream = channel.id
        if stream is None and is_established:
            stream = self._assign_stream(channel)
        unordered = not channel.parameters.ordered
        for data in messages:
            protocol, payload = dcep.encode_message(data)
            counters.messages += 1
            counters.bytes += len(payload)
            if stream is None or not is_established:
                self._send(channel, protocol, payload)
            else:
                queue.enqueue_message(OutboundMessage(stream, protocol, payload, unordered))

    def _send(self, channel: Channel, protocol: int, payload: bytes) -> None:
        if not self._association.is_established:
            self._early.append((channel, protocol, payload))
            self._early_footprint += len(payload) + OVERHEAD
            return
        stream = self._assign_stream(channel) if channel.id is None else channel.id
        unordered = not channel.parameters.ordered and protocol != dcep.DCEP
        self._association.enqueue_message(OutboundMessage(stream, protocol, payload, unordered))

    # Receiving

    def on_messages_received(self, messages: list[Message]) -> None:
        """Decode messages and hand them on, in order."""
        receive_queue = self._association.receive_queue
        batch: list[str | bytes] = []
        current: Channel | None = None
        for stream, protocol, data in messages:
            channel = self.by_stream.get(stream)
            if channel is not current:
                self._deliver(current, batch)
                current, batch = channel, []
            message = None
            try:
                if protocol == dcep.DCEP:
                    # Keep the order: earlier messages are delivered before.
                    self._deliver(current, batch)
                    current, batch = None, []
                    self._on_control(stream, channel, data)
                else:
                    message = dcep.decode_message(protocol, data)
            except ValueError as exc:
                logger.warning("dropped a data channel message: %s", exc)
            if channel is None or message is None:
                if protocol != dcep.DCEP:
                    logger.debug("dropped a message of type %d for stream %d", protocol, stream)
                receive_queue.unread -= len(data) + OVERHEAD
                continue
            if not message:
                receive_queue.unread -= len(data)  # The placeholder of an empty message.
            self.bytes_received += len(data)
            batch.append(message)
        self._deliver(current, batch)
        self._association.stream_resets.perform_deferred()

    def release(self, size: int) -> None:
        """Open the receive window again: messages of this footprint were read."""
        receive_queue = self._association.receive_queue
        receive_queue.unread = max(receive_queue.unread - size, 0)
        if receive_queue.needs_window_update():
            self._association.announce_window()

    def _deliver(self, channel: Channel | None, messages: list[str | bytes]) -> None:
        if channel is None or not messages:
            return
        self.messages_received += len(messages)
        try:
            if self.on_messages is not None:
                self.on_messages(channel, messages)
                return
            self.release(sum(footprint(message) for message in messages))
            for message in messages:
                if channel.on_message is not None:
                    channel.on_message(message)
        except Exception:
            logger.exception("a handler of messages failed")

    def _on_control(self, stream: int, channel: Channel | None, data: bytes) -> None:
        parameters = dcep.decode_control(data)
        if parameters is None:
            if channel is not None and channel.ready_state == "connecting":
                channel.set_ready_state("open")
            return
        if channel is not None:
            raise ValueError("DATA_CHANNEL_OPEN for a channel that exists")
        if len(self.by_stream) >= CHANNELS_MAX:
            raise ValueError("too many data channels")
        channel = self.by_stream[stream] = Channel(self, parameters, stream)
        channel.set_ready_state("open")
        self._send(channel, dcep.DCEP, dcep.ACKNOWLEDGE)
        try:
            if self.on_channel is not None:
                self.on_channel(channel)
        except Exception:
            logger.exception("a handler of data channels failed")

    # Closing

    def close_channel(self, channel: Channel) -> None:
        """Close a channel by resetting its stream in both directions (RFC 8831 6.7)."""
        self._close(channel)
        self._on_used()

    def _close(self, channel: Channel) -> None:
        if channel.ready_state in ("closing", "closed"):
            return
        channel.set_ready_state("closing")
        association = self._association
        if association.is_established and channel.id is not None and association.peer is not None:
            if association.peer.resets_streams:
                association.stream_resets.reset_outbound(channel.id)
                return
        self._early = deque(item for item in self._early if item[0] is not channel)
        self._early_footprint = sum(len(item[2]) + OVERHEAD for item in self._early)
        if channel.id is not None:
            self.on_stream_finished(channel.id)
        else:
            channel.set_ready_state("closed")

    def on_streams_reset(self, streams: tuple[int, ...]) -> None:
        """Close the channels whose inbound streams the peer has reset; empty for all."""
        for stream in streams or tuple(self.by_stream):
            channel = self.by_stream.get(stream)
            if channel is not None:
                self._close(channel)
                self._association.stream_resets.on_inbound_reset(stream)

    def on_stream_finished(self, stream: int) -> None:
        """End a channel whose stream is reset in both directions."""
        self._association.stream_resets.forget(stream)
        channel = self.by_stream.pop(stream, None)
        if channel is not None:
            channel.set_ready_state("closed")

    def on_closed(self) -> None:
        """End all channels, because the association has ended."""
        waiting = {channel for channel, _, _ in self._early if channel.id is None}
        self._early.clear()
        for stream in list(self.by_stream):
            self.on_stream_finished(stream)
        for channel in waiting:
            channel.set_ready_state("closed")
