"""The connected part of a call: its peer connection, negotiation, data channel and remote media."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from artico_sync._engine.data_channel import DataChannel
from artico_sync._engine.negotiation import Negotiation
from artico_sync._engine.remote_media import RemoteStreamListener, RemoteStreams
from artico_sync._engine.signal_queues import SignalInbox
from artico_sync._protocol import messages
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sdp.media_sections import RemoteChange
from artico_sync._webrtc.stats import connection_stats

logger = logging.getLogger(__name__)


class CallConnectionListener(Protocol):
    """Receives the messages and media of a call."""

    @property
    def received_streams(self) -> RemoteStreamListener: ...
    def on_messages(self, messages: list[str | bytes]) -> None: ...
    def on_delivered(self, delivered: int) -> None: ...


class CallConnectionOwner(Protocol):
    """The session that a connection reports its state to."""

    def on_channel_open(self) -> None:
        """The data channel is open."""

    def on_connection_closed(self, *, lost: bool) -> None:
        """The data channel or the connection has closed.

        Args:
            lost: The connection was lost rather than closed by the peer.
        """

    def on_connection_failed(self) -> None:
        """No network path to the peer works."""

    def on_negotiation_error(self, error: Exception) -> None:
        """A change could not be negotiated; the call goes on."""

    def on_path_suspect(self) -> None:
        """The network path to the peer may not work any more."""


class CallConnection:
    """The peer connection of one call with everything that runs over it.

    Args:
        connection: Closed by `close`.
        inbox: The peer's descriptions and candidates, applied in order by one task: two at a time
            would let a candidate overtake its offer.
        send_signal: Sends a signal to the peer.
        initiator: True for the caller, which creates the data channel.
    """

    def __init__(
        self,
        connection: PeerConnection,
        inbox: SignalInbox,
        owner: CallConnectionOwner,
        listener: CallConnectionListener,
        *,
        send_signal: Callable[[dict[str, Any]], None],
        initiator: bool,
        settings: Settings,
    ) -> None:
        self.connection = connection
        self.channel: DataChannel | None = None
        #: Set when the data channel or the connection has closed.
        self.channel_closed = asyncio.Event()
        self._inbox = inbox
        self._owner = owner
        self._listener = listener
        self._initiator = initiator
        self._remote_streams = RemoteStreams(listener.received_streams)
        self._events_stopped = False
        self.negotiation = Negotiation(
            connection,
            polite=not initiator,
            send=send_signal,
            on_remote_change=self._on_remote_change,
            on_error=owner.on_negotiation_error,
            settings=settings,
        )
        connection.on_restart_needed = self._restart_ice
        connection.on_state_change = self._on_connection_state
        connection.on_channel = self._on_data_channel
        self._consumer = asyncio.get_running_loop().create_task(self._apply_signals())

    def offer(self) -> None:
        """Create the data channel and offer the connection to the peer."""
        token = messages.random_token(11).lower()
        self._attach(self.connection.open_channel(f"dc_{token}"))
        self.negotiation.request_offer()

    async def _apply_signals(self) -> None:
        while True:
            await self.negotiation.receive(await self._inbox.get())

    # The connection

    def _on_connection_state(self) -> None:
        state = self.connection.connection_state
        logger.debug("%r: connection %s", self._owner, state)
        if state == "failed":
            self._owner.on_connection_failed()
        elif state == "closed":
            self.on_channel_closed()

    def _restart_ice(self) -> None:
        """Restart ICE (RFC 8445 section 9): the network may have changed during the call."""
        self._owner.on_path_suspect()
        self.negotiation.restart_ice()

    # The data channel

    def _on_data_channel(self, channel: Channel) -> None:
        if self.channel is not None or self._initiator:
            logger.warning("%r: ignoring another data channel %r", self._owner, channel.label)
            return
        self._attach(channel)

    def _attach(self, channel: Channel) -> None:
        self.channel = DataChannel(channel, self.connection.sctp_transport, self)
        self.channel.start()

    def on_channel_open(self) -> None:
        self._owner.on_channel_open()

    def on_channel_closed(self) -> None:
        self.channel_closed.set()
        self._owner.on_connection_closed(lost=self.connection.lost)

    def on_channel_messages(self, messages: list[str | bytes]) -> None:
        self._listener.on_messages(messages)

    def on_channel_control(self, command: dict[str, Any]) -> None:
        if command.get("cmd") == "stream-meta":
            self._remote_streams.on_metadata(command)
            return
        logger.info("%r: ignoring the control command %r", self._owner, command.get("cmd"))

    def on_channel_progress(self, delivered: int) -> None:
        self._listener.on_delivered(delivered)

    # Media

    def _on_remote_change(self, changes: list[RemoteChange]) -> None:
        # A description may still be being applied when the call ends.
        if not self._events_stopped:
            self._remote_streams.on_change(changes)

    # Statistics and end

    async def stats(self) -> dict[str, Any]:
        """Return the statistics of the data channel and the connection as plain values."""
        numbers: dict[str, Any] = {} if self.channel is None else dict(self.channel.stats())
        numbers.update(await connection_stats(self.connection))
        return numbers

    def stop_events(self) -> None:
        """Report no more changes of streams and tracks: the call is over."""
        self._events_stopped = True
        self._remote_streams.close()

    async def stop_signals(self) -> None:
        """Stop applying the peer's signals."""
        self._consumer.cancel()
        await asyncio.gather(self._consumer, return_exceptions=True)

    async def close(self) -> None:
        """Close the negotiation, the connection and the data channel."""
        await self.negotiation.close()
        await self.connection.close()
        if self.channel is not None:
            self.channel.detach()
