"""The queues of the signals of one call, incoming and outgoing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from aiortc import RTCSessionDescription

from artico_sync._engine.call_state import CloseReason
from artico_sync._protocol import messages
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import CandidateSignal, RemoteCandidate
from artico_sync._webrtc.peer_connection import PeerConnection

logger = logging.getLogger(__name__)

#: The body of a signal.
Signal = dict[str, object]

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


class SignalOutbox:
    """The outgoing descriptions and candidates, queued while they cannot be sent.

    Everything is queued while signaling is lost, and candidates until the description they belong
    to has been sent: a browser refuses earlier ones.

    Args:
        send: Sends a signal to the peer.
    """

    def __init__(self, send: Callable[[Signal], None], settings: Settings) -> None:
        self._send = send
        self._suspended_signals: deque[Signal] = deque(maxlen=settings.maximum_buffered_signals)
        self._early_candidates: deque[CandidateSignal] = deque(maxlen=settings.maximum_candidates)
        # Candidates sent after the last description, which does not list them.
        self._trickled: deque[Signal] = deque(maxlen=settings.maximum_candidates)
        self._last_sdp = ""
        self.suspended = False
        self.closed = False

    def post(self, signal: Signal) -> None:
        """Send a signal, or queue it while signaling is lost."""
        if self.suspended:
            self._suspended_signals.append(signal)
        elif not self.closed:
            self._send(signal)

    def post_description(self, description: RTCSessionDescription, token: object) -> Signal:
        """Send a description.

        Args:
            token: Identifies the offer for artico_sync peers; JavaScript ignores it.
        """
        data: dict[str, object] = {"type": description.type, "sdp": description.sdp}
        if isinstance(token, str) and len(token) <= messages.LONGEST_TOKEN:
            data["offer"] = token
        signal: Signal = {"type": "sdp", "data": data}
        self._last_sdp = description.sdp
        self._trickled.clear()
        self.post(signal)
        return signal

    def repeat_description(self, signal: Signal) -> None:
        """Send a description again, with the candidates after it, which may be lost as well."""
        self.post(signal)
        for candidate in self._trickled:
            self.post(candidate)

    def post_candidate(self, candidate: CandidateSignal, *, hold: bool) -> None:
        """Send a candidate, or hold it until `release_candidates`."""
        if hold or not self._last_sdp:
            self._early_candidates.append(candidate)
        elif f"a={candidate['candidate']}\r\n" not in self._last_sdp:
            signal: Signal = {"type": "candidate", "data": dict(candidate)}
            self._trickled.append(signal)
            self.post(signal)

    def release_candidates(self) -> None:
        """Send the held candidates: their description has been sent."""
        early, self._early_candidates = (
            self._early_candidates,
            deque(maxlen=self._early_candidates.maxlen),
        )
        for candidate in early:
            self.post_candidate(candidate, hold=False)

    def resume(self, doubtful: Signal | None) -> None:
        """Send the queued signals.

        Args:
            doubtful: A description that may have been lost. It is sent before the queued signals,
                followed by its candidates.
        """
        self.suspended = False
        queued = list(self._suspended_signals)
        self._suspended_signals.clear()
        if doubtful is not None and doubtful not in queued:
            trickled = [signal for signal in self._trickled if signal not in queued]
            queued = [doubtful, *trickled, *queued]
        for signal in queued:
            self._send(signal)

    def is_queued(self, signal: Signal) -> bool:
        """Return True if a signal waits for the return of signaling."""
        return signal in self._suspended_signals


class RemoteCandidateQueue:
    """The peer's candidates, queued until the description they belong to has been applied.

    Args:
        connection: Receives the candidates.
        maximum: Maximum number of candidates between two ICE restarts, and of queued ones.
    """

    def __init__(self, connection: PeerConnection, maximum: int) -> None:
        self._connection = connection
        self._maximum = maximum
        self._ufrag: str | None = None
        self._added = 0
        self._early: deque[RemoteCandidate] = deque(maxlen=maximum)

    async def add(self, candidate: RemoteCandidate) -> None:
        """Add a candidate to the connection, or queue it for its description."""
        current = self._connection.remote_username
        if current is None or candidate.username not in (None, current):
            self._early.append(candidate)
            return
        if current != self._ufrag:
            self._ufrag, self._added = current, 0
        if self._added >= self._maximum:
            logger.debug("dropped a candidate: there were too many")
            return
        self._added += 1
        await self._connection.add_candidate(candidate.candidate)

    async def release(self) -> None:
        """Add the queued candidates: a description has been applied."""
        early, self._early = self._early, deque(maxlen=self._early.maxlen)
        for candidate in early:
            await self.add(candidate)


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
        """Send a bye to an artico_sync peer; a JavaScript peer would treat it as a new call."""
        if self.peer_is_artico_sync:
            self.bye_sent = True
            self.bye = body = messages.bye(reason, detail)
            self._sender.send_until_delivered(self._addressed(body))

    def send_ringing(self) -> None:
        """Send `ringing` to an artico_sync caller, so that either side can send a bye."""
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
