"""The one data channel of a call, which carries user messages and control messages."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Protocol

from artico_sync._protocol.bounds import OVERHEAD, footprint, message_size
from artico_sync._protocol.messages import parse_control
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sctp.transport import SctpTransport

logger = logging.getLogger(__name__)

# Number of times in a row that a packet may be lost.
RETRANSMISSIONS = 2
# Seconds to wait for the peer to confirm the close of the data channel, restarted whenever data
# arrives. An artico_sync peer always confirms while it is connected, a browser may not.
CONFIRMATION_SECONDS = 0.5
ARTICO_SYNC_CONFIRMATION_SECONDS = 2.0
# Seconds a page in a browser may need to set up handlers for a channel that has opened.
PAGE_START_SECONDS = 0.5


class DataChannelListener(Protocol):
    """Receives the events of the channel."""

    def on_channel_open(self) -> None: ...
    def on_channel_closed(self) -> None: ...
    def on_channel_messages(self, messages: list[str | bytes]) -> None: ...
    def on_channel_control(self, command: dict[str, Any]) -> None: ...
    def on_channel_progress(self, delivered: int) -> None: ...


class DataChannel:
    """Wraps the SCTP transport's channel.

    Delivered and read messages are counted by their footprints: a message's bytes and `OVERHEAD`.
    """

    def __init__(
        self, channel: Channel, transport: SctpTransport, listener: DataChannelListener
    ) -> None:
        self._channel = channel
        self._transport = transport
        self._listener = listener
        self._accepted = 0
        # Of user messages only; the transport's `pending` includes DCEP and control messages.
        self._delivered = 0
        self._reported_open = False
        #: Loop time at which the channel opened.
        self.opened_at = 0.0
        transport.channels.on_messages = self._on_messages
        transport.on_progress = self._on_progress
        channel.on_open, channel.on_close = self._on_open, self._on_close
        self.messages_sent = self.messages_received = 0
        self.bytes_sent = self.bytes_received = 0
        self._queued_controls: deque[str] = deque()

    def start(self) -> None:
        """Report the channel as open if it is so already."""
        if self._channel.ready_state == "open":
            self._on_open()

    @property
    def is_open(self) -> bool:
        return self._channel.ready_state == "open"

    @property
    def maximum_message(self) -> int:
        """Largest message the peer accepts, in bytes; 0 for any."""
        return self._transport.channels.remote_max_message_size

    @property
    def drained(self) -> bool:
        """True if the peer's transport has acknowledged all messages of the user."""
        return self._delivered >= self._accepted or self._transport.pending == 0

    @property
    def received(self) -> int:
        """A count that grows with all data from the peer."""
        return self._transport.received_chunks

    @property
    def is_receive_window_closed(self) -> bool:
        """True if the peer cannot send because its messages are not read."""
        return self._transport.is_window_closed

    def retransmission_wait(self, minimum: float) -> float:
        """Return the seconds, at least `minimum`, in which a lost packet is retransmitted."""
        return max(minimum, RETRANSMISSIONS * self._transport.rto)

    async def wait_drained(self) -> None:
        """Wait until the peer's transport has acknowledged everything, control messages included.

        Raises:
            ConnectionError: The association ended first.
        """
        await self._transport.drained()

    def send(self, messages: list[str | bytes], size: int) -> None:
        """Queue user messages of `size` bytes in total, and send as much as the window allows."""
        if not self.is_open:
            logger.debug(
                "dropping %d messages: the channel is %s", len(messages), self._channel.ready_state
            )
            return
        self._accepted += size + len(messages) * OVERHEAD
        self.messages_sent += len(messages)
        self.bytes_sent += size
        self._transport.enqueue_messages(self._channel, messages)
        self._transport.flush_packets()

    def send_control(self, text: str) -> None:
        """Send a control message, once the channel is open."""
        if self.is_open:
            self._transport.send_message(self._channel, text)
        elif self._channel.ready_state == "connecting":
            self._queued_controls.append(text)

    def release(self, footprint: int) -> None:
        """Open the receive window by the footprint of messages the user has read."""
        self._transport.release(footprint)

    def stats(self) -> dict[str, int]:
        """Return the numbers of user messages and of their bytes in each direction."""
        return {
            "messages_sent": self.messages_sent,
            "messages_received": self.messages_received,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
        }

    def close(self) -> None:
        """Close the channel on both sides."""
        self._channel.close()

    def detach(self) -> None:
        """Stop receiving events of the transport."""
        self._transport.channels.on_messages = None
        self._transport.on_progress = None
        self._channel.on_open = self._channel.on_close = None

    def _on_open(self) -> None:
        if self._reported_open:
            return
        self._reported_open = True
        self.opened_at = asyncio.get_running_loop().time()
        self._listener.on_channel_open()
        while self._queued_controls:
            self._transport.send_message(self._channel, self._queued_controls.popleft())

    def _on_close(self) -> None:
        self._listener.on_channel_closed()

    def _on_progress(self) -> None:
        delivered = max(self._delivered, self._accepted - self._transport.pending)
        if delivered > self._delivered:
            self._delivered = delivered
            self._listener.on_channel_progress(delivered)

    def _on_messages(self, channel: Channel, messages: list[str | bytes]) -> None:
        if channel is not self._channel:
            # Artico's JavaScript replaces its channel by a second one; this side ignores it.
            logger.warning("dropping messages on a second data channel %r", channel.label)
            self._transport.release(sum(footprint(data) for data in messages))
            return
        user_messages: list[str | bytes] = []
        for data in messages:
            if isinstance(data, str) and (command := parse_control(data)) is not None:
                # In order: the user messages before it are delivered first.
                self._deliver_messages(user_messages)
                user_messages = []
                self._transport.release(footprint(data))
                self._listener.on_channel_control(command)
            else:
                user_messages.append(data)
        self._deliver_messages(user_messages)

    def _deliver_messages(self, messages: list[str | bytes]) -> None:
        if messages:
            self.messages_received += len(messages)
            self.bytes_received += sum([message_size(data) for data in messages])
            self._listener.on_channel_messages(messages)


async def deliver_and_close(
    channel: DataChannel, closed: asyncio.Event, *, peer_is_artico_sync: bool
) -> None:
    """Wait until the peer has acknowledged everything sent, and close the channel.

    Args:
        channel: The call's channel.
        closed: Set when the channel or its connection has closed.
        peer_is_artico_sync: True if the peer is artico_sync, False if it is a page in a browser.
    """
    try:
        if not channel.drained:
            await channel.wait_drained()
    except ConnectionError:
        logger.debug("%r: the association ended while delivering", channel)
        return
    if not peer_is_artico_sync and channel.messages_sent:
        await _wait_for_page(channel, closed)
    channel.close()
    # The peer may be hanging up as well: it confirms after delivering everything it has sent.
    timeout = ARTICO_SYNC_CONFIRMATION_SECONDS if peer_is_artico_sync else CONFIRMATION_SECONDS
    received = -1
    while not closed.is_set() and received != channel.received:
        received = channel.received
        if channel.is_receive_window_closed:
            timeout = CONFIRMATION_SECONDS  # the peer cannot go on: no thread reads its messages
        await _wait(closed, channel.retransmission_wait(timeout))


async def _wait_for_page(channel: DataChannel, closed: asyncio.Event) -> None:
    """Give a page time to receive messages on a channel that has only just opened.

    If the channel closes before the page has set up its handlers, the messages are lost, although
    the browser's transport has acknowledged them.
    """
    age = asyncio.get_running_loop().time() - channel.opened_at
    if age < PAGE_START_SECONDS:
        await _wait(closed, PAGE_START_SECONDS - age)


async def _wait(closed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await closed.wait()
    except TimeoutError:
        logger.debug("the channel has not closed within %g s", seconds)
