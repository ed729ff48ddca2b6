"""The one data channel of a call: user messages, control messages, and what is still under way;
loop thread."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Protocol

from artico_sync._protocol.messages import parse_control
from artico_sync._protocol.sizes import OVERHEAD, message_size
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sctp.transport import SctpTransport

logger = logging.getLogger("artico_sync._engine.data_channel")

# How often in a row what was lost on the way may be lost again.
RETRANSMISSIONS = 2


class DataChannelListener(Protocol):
    """Told what happens on the channel; loop thread."""

    def on_channel_open(self) -> None: ...
    def on_channel_closed(self) -> None: ...
    def on_channel_messages(self, messages: list[str | bytes]) -> None: ...
    def on_channel_control(self, command: dict[str, Any]) -> None: ...
    def on_channel_progress(self, delivered: int) -> None: ...


class DataChannel:
    """Wraps the SCTP transport's channel.

    What is delivered and consumed is counted in footprints: a message's bytes and `OVERHEAD`.
    """

    def __init__(
        self, channel: Channel, transport: SctpTransport, listener: DataChannelListener
    ) -> None:
        self._channel = channel
        self._transport = transport
        self._listener = listener
        self._accepted = 0
        # The DCEP open message and our control messages are in `pending`, but not in what users
        # count.
        self._delivered = 0
        self._reported_open = False
        transport.channels.on_messages = self._on_messages
        transport.on_progress = self._on_progress
        channel.on_open, channel.on_close = self._on_open, self._on_close
        self.messages_sent = self.messages_received = 0
        self.bytes_sent = self.bytes_received = 0
        self._early: deque[str] = deque()

    def start(self) -> None:
        """Report an `open` that came before there was a listener."""
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
        """Whether the peer's transport has acknowledged all that the user sent."""
        return self._delivered >= self._accepted or self._transport.pending == 0

    @property
    def received(self) -> int:
        """Grows with everything that comes from the peer."""
        return self._transport.received_chunks

    @property
    def is_held(self) -> bool:
        """Whether the peer cannot send, because what came is not read."""
        return self._transport.is_window_closed

    def patience(self, least: float) -> float:
        """Seconds, at least so many, in which something lost on the way would come again."""
        return max(least, RETRANSMISSIONS * self._transport.rto)

    async def wait_drained(self) -> None:
        """Wait until the peer's transport has acknowledged everything, our own messages included.

        Raises:
            ConnectionError: The association ended first.
        """
        await self._transport.drained()

    def send(self, messages: list[str | bytes], size: int) -> None:
        """Send user messages of `size` bytes together, as far as the peer and the path allow."""
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
        """Queue a control message; before the channel is open it waits for it."""
        if self.is_open:
            self._transport.send_message(self._channel, text)
        elif self._channel.ready_state == "connecting":
            self._early.append(text)

    def release(self, footprint: int) -> None:
        """The user has consumed messages of that footprint."""
        self._transport.release(footprint)

    def stats(self) -> dict[str, int]:
        """Messages and bytes of the user's, each way."""
        return {
            "messages_sent": self.messages_sent,
            "messages_received": self.messages_received,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
        }

    def close(self) -> None:
        """Close the channel; the peer sees it."""
        self._channel.close()

    def detach(self) -> None:
        """Hear nothing more from the transport."""
        self._transport.channels.on_messages = None
        self._transport.on_progress = None
        self._channel.on_open = self._channel.on_close = None

    def _on_open(self) -> None:
        if self._reported_open:
            return
        self._reported_open = True
        self._listener.on_channel_open()
        while self._early:
            self._transport.send_message(self._channel, self._early.popleft())

    def _on_close(self) -> None:
        self._listener.on_channel_closed()

    def _on_progress(self) -> None:
        delivered = max(self._delivered, self._accepted - self._transport.pending)
        if delivered > self._delivered:
            self._delivered = delivered
            self._listener.on_channel_progress(delivered)

    def _on_messages(self, channel: Channel, messages: list[str | bytes]) -> None:
        if channel is not self._channel:
            # JavaScript's peer would take another channel for a replacement; ours has exactly one.
            logger.warning("dropping messages on a second data channel %r", channel.label)
            self._transport.release(sum(message_size(data) + OVERHEAD for data in messages))
            return
        users: list[str | bytes] = []
        for data in messages:
            if isinstance(data, str) and (command := parse_control(data)) is not None:
                # What came before it comes before it.
                self._pass_on(users)
                users = []
                self._transport.release(message_size(data) + OVERHEAD)
                self._listener.on_channel_control(command)
            else:
                users.append(data)
        self._pass_on(users)

    def _pass_on(self, messages: list[str | bytes]) -> None:
        if messages:
            self.messages_received += len(messages)
            self.bytes_received += sum([message_size(data) for data in messages])
            self._listener.on_channel_messages(messages)
