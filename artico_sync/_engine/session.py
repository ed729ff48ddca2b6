"""A call, from its first signal to its last."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from artico_sync._engine.call_connection import CallConnection, CallConnectionListener
from artico_sync._engine.call_state import (
    BYE_REASONS,
    CallState,
    CallStateMachine,
    CloseReason,
)
from artico_sync._engine.data_channel import DataChannel, deliver_and_close
from artico_sync._engine.local_media import LocalMedia
from artico_sync._engine.signal_queues import PeerSignaling, SignalInbox, SignalSender
from artico_sync._protocol import messages
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.stats import StatsPoller
from artico_sync.errors import ArticoError, ArticoTimeoutError, CallError, MediaError

logger = logging.getLogger(__name__)


class SessionListener(CallConnectionListener, Protocol):
    """Receives the events of a session."""

    def on_call_state(
        self, state: CallState, reason: str | None, detail: str | None, maximum_message: int
    ) -> None: ...
    def on_stats(self, numbers: dict[str, Any]) -> None: ...
    def on_event(self, name: str, *arguments: Any) -> None: ...


class SessionHost(SignalSender, Protocol):
    """The client that a session belongs to."""

    def create_connection(self) -> PeerConnection: ...
    def on_path_suspect(self) -> None: ...
    def on_session_closed(self, session_id: str) -> None: ...


class Session:
    """A call in the engine. Owned by the client; ended by `hangup`, `abort` or the peer.

    Large because it is the state machine of a call: signals, the connection, timeouts and the user
    all change the one state, and each of them needs a method.
    """

    def __init__(
        self,
        host: SessionHost,
        listener: SessionListener | None,
        *,
        session: str,
        target: str,
        metadata: str | None,
        initiator: bool,
        settings: Settings,
    ) -> None:
        self.session = session
        self.target = target
        self.metadata = metadata
        self.initiator = initiator
        self.listener = listener
        self.state = CallStateMachine(
            CallState.CALLING if initiator else CallState.RINGING,
            f"{session} with {target!r}",
            settings,
            on_change=self._on_state_change,
            on_timeout=self._on_timeout,
        )
        self.signaling = PeerSignaling(host, target, session, metadata, self._on_delivery_report)
        self.signaling.peer_reached = not initiator
        self.inbox = SignalInbox(settings)
        self.local_media = LocalMedia(self._on_media_error)
        self._host = host
        self._settings = settings
        self._connection: CallConnection | None = None
        #: The data channel while the state is `OPEN`.
        self._open_channel: DataChannel | None = None
        self._suspended = False
        self._stats_poller: StatsPoller | None = None
        self._hangup_task: asyncio.Task[None] | None = None
        self._all_delivered = True
        self._teardown_task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Session {self.session} with {self.target!r} {self.call_state.value}>"

    @property
    def call_state(self) -> CallState:
        return self.state.current

    @property
    def connection(self) -> PeerConnection | None:
        """The peer connection, None before the call starts or is answered and after its end."""
        return None if self._connection is None else self._connection.connection

    # The start of the caller and of the callee

    def start(self) -> None:
        """Place the call: create the connection and offer it."""
        self._connect().offer()

    def answer(self) -> None:
        """Accept an incoming call: create the connection and apply the signals queued so far."""
        if self.call_state is CallState.RINGING:
            self.state.enter(CallState.CONNECTING)
            self._connect()

    def _connect(self) -> CallConnection:
        assert self.listener is not None
        self._connection = connection = CallConnection(
            self._host.create_connection(),
            self.inbox,
            self,
            self.listener,
            send_signal=self.signaling.send,
            initiator=self.initiator,
            settings=self._settings,
        )
        if self._suspended:
            connection.negotiation.suspend()
        return connection

    # Signaling

    def handle_signal(self, signal: messages.Signal) -> None:
        """Handle a signal of the peer; the client passes them on in order."""
        if self.call_state is CallState.CLOSED:
            return
        self.signaling.on_signal(signal)
        if signal.type == messages.BYE:
            self._on_bye(signal.reason, signal.detail)
        elif signal.type in ("sdp", "candidate"):
            if not self.inbox.put(signal):
                logger.warning("%s: too many signals are queued, dropping one", self)
            elif (
                signal.type == "sdp"
                and not signal.is_offer
                and self.call_state is CallState.CALLING
            ):
                self.state.enter(CallState.CONNECTING)
        elif signal.type != messages.RINGING:
            logger.info("%s: ignoring a signal of the unknown type %r", self, signal.type)

    def _on_bye(self, reason: str, detail: str | None) -> None:
        if self.call_state in (CallState.OPEN, CallState.CLOSING):
            # The data channel reports the end, after delivering everything sent on it.
            return
        self.state.detail = detail
        self._close(BYE_REASONS.get(reason, CloseReason.REMOTE))

    def _on_delivery_report(self, delivered: bool | None, body: dict[str, Any]) -> None:
        if self._connection is not None:
            self._connection.negotiation.on_delivery_report(delivered)
        if delivered is not False:
            return
        if self.call_state is CallState.CALLING and not self.signaling.peer_reached:
            self._close(CloseReason.UNAVAILABLE)
        elif self.call_state in (CallState.CALLING, CallState.CONNECTING):
            # The peer was reached before: either side may be reconnecting to the server.
            self.signaling.send_later(body)

    def on_peer_left(self) -> None:
        """The peer has left the server for good; a call that is answered already goes on."""
        if self.call_state is CallState.CALLING:
            self.state.detail = "it has left"
            self._close(CloseReason.UNAVAILABLE)
        elif self.call_state is CallState.RINGING:
            self.state.detail = "the caller has left"
            self._close(CloseReason.REMOTE)

    def on_peer_returned(self) -> None:
        """The peer has reconnected to the server: resend what it may have missed."""
        if not self._suspended:
            self.suspend()
            self.resume()

    def suspend(self) -> None:
        """Queue signals: the connection to the signaling server is lost."""
        self._suspended = True
        if self._connection is not None:
            self._connection.negotiation.suspend()

    def resume(self) -> None:
        """Send the queued signals: the connection to the signaling server is back."""
        self._suspended = False
        if self.call_state is CallState.RINGING:
            # The caller may have hung up while its bye message could not be delivered: it resends
            # the message as the answer to this one.
            self.signaling.send_ringing()
        if self._connection is not None:
            self._connection.negotiation.resume()

    # Reports of the connection

    def on_channel_open(self) -> None:
        if self.call_state in (CallState.CALLING, CallState.CONNECTING):
            assert self._connection is not None and self._connection.channel is not None
            self.state.enter(CallState.OPEN)
            self.local_media.start(self._connection.negotiation, self._connection.channel)

    def on_connection_closed(self, *, lost: bool) -> None:
        if self.call_state is CallState.OPEN:
            self._close(CloseReason.FAILED if lost else CloseReason.REMOTE)
        elif self.call_state is CallState.CONNECTING:
            self._close(CloseReason.FAILED)

    def on_connection_failed(self) -> None:
        self._close(CloseReason.FAILED)

    def on_path_suspect(self) -> None:
        self._host.on_path_suspect()

    def on_negotiation_error(self, error: Exception) -> None:
        self._report_error(CallError, f"{error}.", error)

    def _on_media_error(self, error: MediaError) -> None:
        if self.call_state is not CallState.CLOSED:
            self._report_error(MediaError, error.message, error.__cause__ or error)

    def _report_error(
        self, kind: type[ArticoError], message: str, cause: BaseException | None = None
    ) -> None:
        if self.listener is not None:
            error = kind(message, session=self.session, peer=self.target)
            error.__cause__ = cause
            self.listener.on_event("error", error)

    # Messages and statistics

    def send(self, messages: list[str | bytes], size: int) -> None:
        """Send messages of the user.

        Args:
            size: Their size in bytes, counted by the caller.
        """
        if self._open_channel is not None:
            self._open_channel.send(messages, size)

    def release(self, footprint: int) -> None:
        """Open the receive window by the footprint of messages the user has read."""
        channel = None if self._connection is None else self._connection.channel
        if channel is not None and self.call_state is not CallState.CLOSED:
            channel.release(footprint)

    async def stats(self) -> dict[str, Any]:
        """Return the statistics of the call as plain values."""
        numbers: dict[str, Any] = {"phase": self.call_state.value}
        if self._connection is not None:
            numbers.update(await self._connection.stats())
        return numbers

    def watch_stats(self, interval: float) -> None:
        """Report the statistics to the listener every `interval` seconds until the call is over."""
        if self.call_state is CallState.CLOSED or self.listener is None:
            return
        if self._stats_poller is None:
            self._stats_poller = StatsPoller(self.stats, self.listener.on_stats)
        self._stats_poller.start(interval)

    # The end

    async def hangup(self, timeout: float | None) -> bool:
        """Deliver what was sent, notify the peer, and close. May be called repeatedly.

        Args:
            timeout: Seconds for the delivery, None for no limit; the shortest of several calls
                counts.

        Returns:
            True if everything that was sent has been delivered.
        """
        if self._hangup_task is None:
            self._begin_hangup()
            self._hangup_task = asyncio.get_running_loop().create_task(self._hang_up())
        try:
            async with asyncio.timeout(timeout):
                # Shielded because a caller that stops waiting must not stop the delivery.
                await asyncio.shield(self._hangup_task)
        except TimeoutError:
            self._close(CloseReason.HANGUP)
        await self._hangup_task
        await self._ended.wait()
        return self._all_delivered

    def _begin_hangup(self) -> None:
        # Done at once, so that the peer and the user learn of it even with a timeout of 0.
        if self.call_state is CallState.OPEN:
            self.state.enter(CallState.CLOSING, CloseReason.HANGUP)
        elif self.call_state is CallState.RINGING:
            self.signaling.send_bye(CloseReason.REJECTED, self.state.detail)
        elif self.call_state in (CallState.CALLING, CallState.CONNECTING):
            self.signaling.send_bye(CloseReason.HANGUP)

    async def _hang_up(self) -> None:
        if self.call_state is CallState.CLOSING:
            assert self._connection is not None and self._connection.channel is not None
            await deliver_and_close(
                self._connection.channel,
                self._connection.channel_closed,
                peer_is_artico_sync=self.signaling.peer_is_artico_sync,
            )
        elif self.call_state is CallState.CALLING and not self.signaling.bye_sent:
            await self.signaling.cancel_call(offer_expected=not self._suspended)
        self._close(CloseReason.HANGUP)

    async def reject(self, detail: str | None) -> None:
        """Decline the call.

        Args:
            detail: The reason in the user's words.
        """
        if self.call_state is CallState.RINGING:
            self.state.detail = detail
        await self.hangup(0)

    async def abort(self) -> None:
        """Close at once, without delivering what is still queued."""
        if self.call_state in (CallState.CALLING, CallState.CONNECTING, CallState.RINGING):
            self.signaling.send_bye(CloseReason.HANGUP)
        self._close(CloseReason.HANGUP)
        await self._ended.wait()

    def _on_timeout(self) -> None:
        """Close a call that has been ringing or connecting for too long."""
        if self.call_state is CallState.CONNECTING:
            self.signaling.send_bye(CloseReason.FAILED)
            self._close(CloseReason.FAILED)
            return
        self.state.detail = "nobody answered"
        if self.call_state is CallState.CALLING:
            self.signaling.send_bye(CloseReason.HANGUP)
            self._close(CloseReason.UNAVAILABLE)
        else:
            self.signaling.send_bye(CloseReason.REJECTED, self.state.detail)
            self._close(CloseReason.HANGUP)

    def _on_state_change(self) -> None:
        channel = None if self._connection is None else self._connection.channel
        self._open_channel = channel if self.call_state is CallState.OPEN else None
        if self.listener is not None:
            maximum = 0 if channel is None else channel.maximum_message
            self.listener.on_call_state(
                self.state.current, self.state.reason, self.state.detail, maximum
            )

    def _close(self, reason: str) -> None:
        """Enter `CLOSED`, and free the resources of the call in the background."""
        if self.call_state is CallState.CLOSED:
            return
        if self._connection is not None:
            # Reported first because the close is the last event of a call.
            channel = self._connection.channel
            if self.call_state is CallState.CLOSING and channel is not None and not channel.drained:
                self._all_delivered = False
                self._report_error(
                    ArticoTimeoutError,
                    "Not all messages could be delivered before the call closed.",
                )
            self._connection.stop_events()
        self.state.enter(CallState.CLOSED, self.state.reason or reason)
        self.signaling.close()
        self._teardown_task = asyncio.get_running_loop().create_task(self._tear_down())

    async def _tear_down(self) -> None:
        try:
            if self._stats_poller is not None:
                await self._stats_poller.close()
            if self._connection is not None:
                await self._connection.stop_signals()
            await self.local_media.close()
            if self._connection is not None:
                await self._connection.close()
        finally:
            # Released because users may hold on to closed calls, and the connection is large.
            self._connection = None
            self._ended.set()
            self._host.on_session_closed(self.session)
