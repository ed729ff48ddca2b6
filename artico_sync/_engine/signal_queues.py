"""The queues of the signals of one call, incoming and outgoing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from artico_sync._engine.call_state import CloseReason
from artico_sync._protocol import messages
from artico_sync._protocol.settings import Settings

logger = logging.getLogger(__name__)

# Seconds before undelivered signals are sent again to a peer that is reconnecting to its server.
RESEND_SECONDS = 0.5
# Seconds to wait for `ringing` before a call is cancelled, and for the offer before that.
RINGING_SECONDS = 0.25
OFFER_SECONDS = 5.0


class SignalInbox:
    """The signals of the peer that have not been applied yet.

    Limited in signals and in characters, because a call may ring for any time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signals: asyncio.Queue[messages.Signal] = asyncio.Queue()
        #: Total characters of all queued signals.
        self.characters = 0

    def __len__(self) -> int:
        return self._signals.qsize()

    def put(self, signal: messages.Signal) -> bool:
        """Append a signal; return False if the queue is full."""
        if (
            len(self) >= self._settings.maximum_buffered_signals
            or self.characters + signal.characters > self._settings.maximum_buffered_characters
        ):
            return False
        self.characters += signal.characters
        self._signals.put_nowait(signal)
        return True

    async def get(self) -> dict[str, Any]:
        """Wait for the oldest signal and return its body, as `Negotiation.receive` expects it."""
        signal = await self._signals.get()
        self.characters -= signal.characters
        return signal.body


class SignalSender(Protocol):
    """Sends signals to the signaling server: the client."""

    def send_signal(
        self, message: dict[str, object], on_report: Callable[[bool | None], None]
    ) -> None: ...
    def send_until_delivered(self, message: dict[str, object]) -> None: ...


class PeerSignaling:
    """Sends the signals of one session to its peer, and tracks which of them have arrived.

    Args:
        sender: Sends the messages.
        target: The peer's id.
        session: The session's id.
        metadata: The call's metadata, sent along with each signal.
        on_report: Called with True if a signal reached the peer, False if not, None if unknown,
            and the signal.
    """

    def __init__(
        self,
        sender: SignalSender,
        target: str,
        session: str,
        metadata: str | None,
        on_report: Callable[[bool | None, dict[str, Any]], None],
    ) -> None:
        self._sender = sender
        self._target = target
        self._session = session
        self._metadata = metadata
        self._on_report = on_report
        #: True if the peer has said that it is artico_sync too.
        self.peer_is_artico_sync = False
        #: True if any signal has been delivered to the peer, or any has come from it.
        self.peer_reached = False
        #: The bye message, kept to be resent to an artico_sync peer that missed it.
        self.bye = messages.bye(CloseReason.HANGUP)
        self.bye_sent = False
        self._closed = False
        self._undelivered: list[dict[str, Any]] = []
        self._resend_timer: asyncio.TimerHandle | None = None
        self._offer_sent = asyncio.Event()
        self._offer_sent_at = 0.0
        self._signal_received = asyncio.Event()

    def on_signal(self, signal: messages.Signal) -> None:
        """Note that a signal has come from the peer."""
        if signal.from_artico_sync:
            self.peer_is_artico_sync = True
        self._signal_received.set()
        self.peer_reached = True

    def send(self, body: dict[str, Any]) -> None:
        """Send a signal, unless closed."""
        if self._closed:
            return
        if body.get("type") == "sdp":
            body = {**body, "agent": messages.AGENT}
            if not self._offer_sent.is_set():
                self._offer_sent.set()
                self._offer_sent_at = asyncio.get_running_loop().time()
        self._sender.send_signal(
            self._addressed(body), lambda delivered: self._report(delivered, body)
        )

    def _report(self, delivered: bool | None, body: dict[str, Any]) -> None:
        if delivered:
            self.peer_reached = True
        self._on_report(delivered, body)

    def send_bye(self, reason: str, detail: str | None = None) -> None:
        """Send a bye to an artico_sync peer; Artico's JavaScript would take it for a new call."""
        if self.peer_is_artico_sync:
            self.bye_sent = True
            self.bye = body = messages.bye(reason, detail)
            self._sender.send_until_delivered(self._addressed(body))

    def send_ringing(self) -> None:
        """Tell an artico_sync caller that the call rings, so that either side can send a bye."""
        if self.peer_is_artico_sync:
            self._sender.send_until_delivered(self._addressed(messages.ringing()))

    async def cancel_call(self, *, offer_expected: bool) -> None:
        """Send a bye for a call that the peer has not answered, once it can be understood.

        The peer should learn of the call, so its offer is sent first. An artico_sync peer
        replies with `ringing` at once; until then it is not known to be one.

        Args:
            offer_expected: False if signaling is lost, so that no offer can be sent.
        """
        try:
            if offer_expected:
                async with asyncio.timeout(OFFER_SECONDS):
                    await self._offer_sent.wait()
            async with asyncio.timeout_at(self._offer_sent_at + RINGING_SECONDS):
                await self._signal_received.wait()
        except TimeoutError:
            logger.debug("%s: cancelled before the peer replied", self._session)
        self.send_bye(CloseReason.HANGUP)

    def send_later(self, body: dict[str, Any]) -> None:
        """Send a signal again after a while, together with others that were not delivered."""
        self._undelivered.append(body)
        if self._resend_timer is None:
            loop = asyncio.get_running_loop()
            self._resend_timer = loop.call_later(RESEND_SECONDS, self._resend)

    def _resend(self) -> None:
        self._resend_timer = None
        bodies, self._undelivered = self._undelivered, []
        for body in bodies:
            self.send(body)

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        if self._resend_timer is not None:
            self._resend_timer.cancel()
            self._resend_timer = None

    def _addressed(self, body: dict[str, Any]) -> dict[str, object]:
        return messages.build_message(self._target, self._session, self._metadata, body)
