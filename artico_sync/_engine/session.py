"""One call's life, from the first signal to the last; loop thread.

A session is a state machine (`phase.CallState`); `_enter` is the only place that changes the phase.
Signals are applied by one consumer task in the order they came: two at a time would let a
candidate overtake its offer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiortc import RTCConfiguration

from artico_sync._engine.call_state import BYE_REASONS, CallState, CloseReason
from artico_sync._engine.data_channel import DataChannel
from artico_sync._engine.graceful_close import deliver_and_close
from artico_sync._engine.local_media import LocalMedia
from artico_sync._engine.negotiation import Negotiation
from artico_sync._engine.peer_signaling import PeerSignaling
from artico_sync._engine.remote_media import RemoteStreams
from artico_sync._engine.session_listener import SessionHost, SessionListener
from artico_sync._engine.signal_inbox import SignalInbox
from artico_sync._engine.stats_poller import StatsPoller
from artico_sync._protocol import messages as wire
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sdp.media_sections import RemoteChange
from artico_sync._webrtc.stats import connection_stats
from artico_sync.errors import ArticoTimeoutError, CallError, MediaError

logger = logging.getLogger("artico_sync._engine.session")

# Seconds within which a peer of ours that got a call says that it rings.
RINGING_DELAY = 0.25
# Seconds a call that is over already has to make its offer.
OFFERING_DELAY = 5.0


class Session:
    """A call as the engine sees it. Owned by the client, ended by `hangup`, `abort` or the peer."""

    def __init__(
        self,
        host: SessionHost,
        listener: SessionListener | None,
        *,
        session: str,
        target: str,
        metadata: str | None,
        initiator: bool,
        configuration: RTCConfiguration,
        settings: Settings,
    ) -> None:
        self.session = session
        self.target = target
        self.metadata = metadata
        self.initiator = initiator
        self.listener = listener
        self.phase = CallState.CALLING if initiator else CallState.RINGING
        self.reason: str | None = None
        self.connection: PeerConnection | None = None
        self.negotiation: Negotiation | None = None
        self.channel: DataChannel | None = None
        self.signaling = PeerSignaling(host, target, session, metadata)
        self._host = host
        self._configuration = configuration
        self._settings = settings
        self._signals = SignalInbox(settings)
        self._consumer: asyncio.Task[None] | None = None
        self._teardown: asyncio.Task[None] | None = None
        self._connect_timer: asyncio.TimerHandle | None = None
        self._channel_closed = asyncio.Event()
        self._ended = asyncio.Event()
        self._suspended = False
        self._reached = not initiator
        self._opened = 0.0
        self._heard = asyncio.Event()
        self._offered = asyncio.Event()
        self._offered_at = 0.0
        self._detail: str | None = None
        self._stats_watch = StatsPoller(self.stats, self._on_stats)
        self._ring_timer: asyncio.TimerHandle | None = None
        if settings.ring_timeout is not None:
            loop = asyncio.get_running_loop()
            self._ring_timer = loop.call_later(settings.ring_timeout, self._on_ring_timeout)
        self.local_media = LocalMedia(self._on_media_error)
        self._remote_streams: RemoteStreams | None = None
        self._hanging: asyncio.Task[None] | None = None
        self._delivered = True

    def __repr__(self) -> str:
        return f"<Session {self.session} with {self.target!r} {self.phase.value}>"

    # the caller's and the callee's start

    def start(self) -> None:
        """Place the call: make the connection and offer it."""
        connection = self._connect()
        token = wire.random_token(11).lower()
        self._attach(connection.open_channel(f"dc_{token}"))
        assert self.negotiation is not None
        self.negotiation.request_offer()

    def answer(self) -> None:
        """Accept an incoming call: make the connection and apply what came meanwhile."""
        if self.phase is not CallState.RINGING:
            return
        self._enter(CallState.CONNECTING)
        self._connect()

    def _connect(self) -> PeerConnection:
        connection = PeerConnection(self._configuration, self._settings, self._host.certificate())
        self.connection = connection
        self.negotiation = Negotiation(
            connection,
            polite=not self.initiator,
            send=self._send,
            on_remote_change=self._on_remote_change,
            on_error=self._on_negotiation_error,
            settings=self._settings,
        )
        if self._suspended:
            self.negotiation.suspend()
        connection.on_restart_needed = self._find_another_path
        connection.on_state_change = self._on_connection_state
        connection.on_channel = self._on_data_channel
        self._consumer = asyncio.get_running_loop().create_task(self._consume(self.negotiation))
        return connection

    # signals

    def feed(self, signal: wire.Signal) -> None:
        """Take a signal of this session from the client, in order."""
        if self.phase is CallState.CLOSED:
            return
        if signal.from_artico_sync:
            self.signaling.peer_is_artico_sync = True
        self._heard.set()
        self._reached = True
        if signal.type == wire.BYE:
            self._on_bye(signal.reason, signal.detail)
        elif signal.type in ("sdp", "candidate"):
            if not self._signals.put(signal):
                logger.warning("%s: too many signals wait, dropping one", self)
            elif signal.type == "sdp" and not signal.is_offer and self.phase is CallState.CALLING:
                self._enter(CallState.CONNECTING)
        elif signal.type != wire.RINGING:
            logger.info("%s: ignoring a signal of the unknown type %r", self, signal.type)

    async def _consume(self, negotiation: Negotiation) -> None:
        while True:
            await negotiation.receive(await self._signals.take())

    def _send(self, body: dict[str, Any]) -> None:
        if self.phase is CallState.CLOSED:
            return
        if body.get("type") == "sdp":
            body = {**body, "agent": wire.AGENT}
            if not self._offered.is_set():
                self._offered.set()
                self._offered_at = asyncio.get_running_loop().time()
        self.signaling.send(body, lambda delivered: self._on_told(delivered, body))

    def _on_told(self, delivered: bool | None, body: dict[str, Any]) -> None:
        if delivered:
            self._reached = True
        if self.negotiation is not None:
            self.negotiation.on_delivery_report(delivered)
        if delivered is False and self.phase is CallState.CALLING and not self._reached:
            self._close(CloseReason.UNAVAILABLE)
        elif delivered is False and self.phase in (CallState.CALLING, CallState.CONNECTING):
            # It was there before, so it is on its way back to the server, as we may have been.
            self.signaling.send_later(body, self._send)

    def _on_bye(self, reason: str, detail: str | None) -> None:
        if self.phase is CallState.OPEN or self.phase is CallState.CLOSING:
            # The channel itself tells the end, after all that was sent on it.
            return
        self._detail = detail
        self._close(BYE_REASONS.get(reason, CloseReason.REMOTE))

    def on_peer_left(self) -> None:
        """The peer has left the server and not come back: an answered call may do without it."""
        if self.phase is CallState.CALLING:
            self._detail = "it has left"
            self._close(CloseReason.UNAVAILABLE)
        elif self.phase is CallState.RINGING:
            self._detail = "the caller has left"
            self._close(CloseReason.REMOTE)

    def on_peer_returned(self) -> None:
        """The peer has lost its server and come back: so may have been lost what we sent it."""
        if not self._suspended:
            self.suspend()
            self.resume()

    def suspend(self) -> None:
        """Signalling is lost: offers wait for its return."""
        self._suspended = True
        if self.negotiation is not None:
            self.negotiation.suspend()

    def resume(self) -> None:
        """Signalling is back."""
        self._suspended = False
        if self.phase is CallState.RINGING:
            # The caller may have given up meanwhile, not knowing that it could tell us so.
            self.signaling.send_ringing()
        if self.negotiation is not None:
            self.negotiation.resume()

    # connection and channel

    def _on_connection_state(self) -> None:
        assert self.connection is not None
        state = self.connection.connection_state
        logger.debug("%s: connection %s", self, state)
        if state == "failed":
            self._close(CloseReason.FAILED)
        elif state == "closed":
            self._on_connection_closed()

    def _on_connection_closed(self) -> None:
        self._channel_closed.set()
        lost = self.connection is not None and self.connection.lost
        if self.phase is CallState.OPEN:
            self._close(CloseReason.FAILED if lost else CloseReason.REMOTE)
        elif self.phase is CallState.CONNECTING:
            self._close(CloseReason.FAILED)

    def _find_another_path(self) -> None:
        """Restart ICE (RFC 8445 section 9): the network may have changed under the call."""
        self._host.on_path_suspect()
        if self.negotiation is not None:
            self.negotiation.restart_ice()

    def _on_data_channel(self, channel: Channel) -> None:
        if self.channel is not None or self.initiator:
            logger.warning("%s: ignoring another data channel %r", self, channel.label)
            return
        self._attach(channel)

    def _attach(self, channel: Channel) -> None:
        assert self.connection is not None
        self.channel = DataChannel(channel, self.connection.sctp_transport, self)
        self.channel.start()

    def on_channel_open(self) -> None:
        if self.phase in (CallState.CALLING, CallState.CONNECTING):
            assert self.negotiation is not None
            self._opened = asyncio.get_running_loop().time()
            self._enter(CallState.OPEN)
            assert self.channel is not None
            self.local_media.start(self.negotiation, self.channel)

    def on_channel_closed(self) -> None:
        self._channel_closed.set()
        if self.phase is CallState.OPEN:
            lost = self.connection is not None and self.connection.lost
            self._close(CloseReason.FAILED if lost else CloseReason.REMOTE)
        elif self.phase is CallState.CONNECTING:
            self._close(CloseReason.FAILED)

    def on_channel_messages(self, messages: list[str | bytes]) -> None:
        if self.listener is not None:
            self.listener.on_messages(messages)

    def on_channel_control(self, command: dict[str, Any]) -> None:
        if command.get("cmd") == "stream-meta" and self.listener is not None:
            self._streams_of_peer(self.listener).on_metadata(command)
            return
        logger.info("%s: ignoring the control command %r", self, command.get("cmd"))

    def on_channel_progress(self, delivered: int) -> None:
        if self.listener is not None:
            self.listener.on_delivered(delivered)

    def send(self, messages: list[str | bytes], size: int) -> None:
        """Send user messages; their size in bytes was counted by the sender."""
        if self.channel is not None and self.phase is CallState.OPEN:
            self.channel.send(messages, size)

    def release(self, footprint: int) -> None:
        """The user has consumed messages of that footprint."""
        if self.channel is not None and self.phase is not CallState.CLOSED:
            self.channel.release(footprint)

    # streams and tracks

    def _on_media_error(self, error: MediaError) -> None:
        if self.listener is not None and self.phase is not CallState.CLOSED:
            problem = MediaError(error.message, session=self.session, peer=self.target)
            problem.__cause__ = error.__cause__ or error
            self.listener.on_event("error", problem)

    def _on_remote_change(self, changes: list[RemoteChange]) -> None:
        # A description may be in the middle of being applied as the call ends.
        if self.listener is None or self.phase is CallState.CLOSED:
            return
        self._streams_of_peer(self.listener).on_change(changes)

    def _streams_of_peer(self, listener: SessionListener) -> RemoteStreams:
        if self._remote_streams is None:
            self._remote_streams = RemoteStreams(listener.received_streams)
        return self._remote_streams

    def _on_negotiation_error(self, error: Exception) -> None:
        if self.listener is not None:
            problem = CallError(f"{error}.", session=self.session, peer=self.target)
            problem.__cause__ = error
            self.listener.on_event("error", problem)

    # the phases

    def _enter(self, phase: CallState, reason: str | None = None) -> None:
        logger.debug("%s -> %s%s", self, phase.value, f" ({reason})" if reason else "")
        self.phase = phase
        if reason is not None:
            self.reason = reason
        if self._ring_timer is not None and phase is not CallState.CALLING:
            self._ring_timer.cancel()
            self._ring_timer = None
        if phase is CallState.CONNECTING:
            self._connect_timer = asyncio.get_running_loop().call_later(
                self._settings.connect_timeout, self._on_connect_timeout
            )
        elif self._connect_timer is not None:
            self._connect_timer.cancel()
            self._connect_timer = None
        if self.listener is not None:
            maximum = self.channel.maximum_message if self.channel is not None else 0
            self.listener.on_call_state(phase, self.reason, self._detail, maximum)

    def _on_connect_timeout(self) -> None:
        self._connect_timer = None
        logger.info("%s: not connected within %g s", self, self._settings.connect_timeout)
        self.signaling.send_bye(CloseReason.FAILED)
        self._close(CloseReason.FAILED)

    def _close(self, reason: str) -> None:
        """The call is over now; its resources go in the background."""
        if self.phase is CallState.CLOSED:
            return
        # Told before the close, after which no event comes any more.
        # A call that never opened has nothing to deliver.
        if (
            self.phase is CallState.CLOSING
            and self.channel is not None
            and not self.channel.drained
        ):
            self._report_undelivered()
        if self._remote_streams is not None:
            self._remote_streams.close()
        self._enter(CallState.CLOSED, self.reason or reason)
        self.signaling.close()
        self._teardown = asyncio.get_running_loop().create_task(self._tear_down())

    async def _tear_down(self) -> None:
        try:
            await self._stats_watch.close()
            if self._consumer is not None:
                self._consumer.cancel()
                await asyncio.gather(self._consumer, return_exceptions=True)
            await self.local_media.close()
            if self.negotiation is not None:
                await self.negotiation.close()
            if self.connection is not None:
                await self.connection.close()
            if self.channel is not None:
                self.channel.detach()
        finally:
            # Users may keep calls that are over; the connection is too large to be kept with them.
            self.connection = self.negotiation = self.channel = self._remote_streams = None
            self._ended.set()
            self._host.on_session_closed(self)

    async def stats(self) -> dict[str, Any]:
        """Numbers about the call, as plain values."""
        numbers: dict[str, Any] = {"phase": self.phase.value}
        if self.channel is not None:
            numbers.update(self.channel.stats())
        if self.connection is not None:
            numbers.update(await connection_stats(self.connection))
        return numbers

    def watch_stats(self, interval: float) -> None:
        """Tell the listener the numbers every `interval` seconds, until the call is over."""
        if self.phase is not CallState.CLOSED:
            self._stats_watch.start(interval)

    def _on_stats(self, numbers: dict[str, Any]) -> None:
        if self.listener is not None:
            self.listener.on_stats(numbers)

    async def ended(self) -> None:
        """Wait until nothing of the session is left."""
        await self._ended.wait()

    async def hangup(self, timeout: float | None) -> bool:
        """Deliver what was sent, tell the peer, and close; harmless when closed or under way.

        Args:
            timeout: Seconds for the delivery, None for ever; the shortest of several calls counts.

        Returns:
            Whether all that was sent has been delivered.
        """
        if self._hanging is None:
            self._begin_hangup()
            self._hanging = asyncio.get_running_loop().create_task(self._hang_up())
        try:
            async with asyncio.timeout(timeout):
                # Shielded: whoever stops waiting must not stop the delivery.
                await asyncio.shield(self._hanging)
        except TimeoutError:
            self._close(CloseReason.HANGUP)
        await self._hanging
        await self.ended()
        return self._delivered

    async def reject(self, detail: str | None) -> None:
        """Decline the call, in the words of the user."""
        if self.phase is CallState.RINGING:
            self._detail = detail
        await self.hangup(0)

    def _on_ring_timeout(self) -> None:
        self._ring_timer = None
        if self.phase is CallState.CALLING:
            self.signaling.send_bye(CloseReason.HANGUP)
            self._detail = "nobody answered"
            self._close(CloseReason.UNAVAILABLE)
        elif self.phase is CallState.RINGING:
            self._detail = "nobody answered"
            self.signaling.send_bye(CloseReason.REJECTED, self._detail)
            self._close(CloseReason.HANGUP)

    def _report_undelivered(self) -> None:
        if self.listener is not None:
            text = "Not all messages could be delivered before the call closed."
            self.listener.on_event(
                "error", ArticoTimeoutError(text, session=self.session, peer=self.target)
            )
        self._delivered = False

    def _begin_hangup(self) -> None:
        # What the peer and the user must learn goes out even when no time is given for the rest.
        if self.phase is CallState.OPEN:
            self._enter(CallState.CLOSING, CloseReason.HANGUP)
        elif self.phase is CallState.RINGING:
            self.signaling.send_bye(CloseReason.REJECTED, self._detail)
        elif self.phase in (CallState.CALLING, CallState.CONNECTING):
            self.signaling.send_bye(CloseReason.HANGUP)

    async def _hang_up(self) -> None:
        if self.phase is CallState.CLOSING:
            assert self.channel is not None
            await deliver_and_close(
                self.channel,
                self._channel_closed,
                opened=self._opened,
                peer_is_artico_sync=self.signaling.peer_is_artico_sync,
            )
        elif self.phase is CallState.CALLING and not self.signaling.said_bye:
            await self._cancel_when_ringing()
        self._close(CloseReason.HANGUP)

    async def _cancel_when_ringing(self) -> None:
        try:
            if not self._suspended:
                # Whoever was called is to know of it, however soon it was over.
                async with asyncio.timeout(OFFERING_DELAY):
                    await self._offered.wait()
            # A peer of ours says that it rings within a moment; before that it must not be told.
            async with asyncio.timeout_at(self._offered_at + RINGING_DELAY):
                await self._heard.wait()
        except TimeoutError:
            logger.debug("%s: cancelled before anybody rang", self)
        self.signaling.send_bye(CloseReason.HANGUP)

    async def abort(self) -> None:
        """Close at once, without delivering what still waits."""
        if self.phase in (CallState.CALLING, CallState.CONNECTING, CallState.RINGING):
            self.signaling.send_bye(CloseReason.HANGUP)
        self._close(CloseReason.HANGUP)
        await self.ended()
