"""A client: its connection to the signaling server, and the sessions of its calls."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

from aiortc import RTCConfiguration

from artico_sync._engine.call_state import CallState, CloseReason
from artico_sync._engine.session import Session, SessionListener
from artico_sync._engine.signaling.transport import SignalingTransport, leave
from artico_sync._protocol import messages
from artico_sync._protocol.bounds import LruDict
from artico_sync._protocol.settings import Settings
from artico_sync._protocol.token_bucket import TokenBuckets
from artico_sync._webrtc.dtls.transport import Certificate
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync.errors import IdTakenError, SignalingError

logger = logging.getLogger(__name__)

# Delay before the first attempt to reconnect to the server; doubled after each failure.
RECONNECT_SECONDS = 0.1
# Initial retry delay and maximum number of attempts for a bye or ringing message to a peer that is
# reconnecting; the delay is doubled after each attempt.
RETRY_SECONDS = 0.5
MAXIMUM_ATTEMPTS = 6
# Number of peers whose signal rate is remembered; the least recently active is forgotten first.
RATE_LIMITED_PEERS = 4096


class ClientListener(Protocol):
    """Receives the events of a client."""

    def on_state(self, state: str) -> None: ...
    def on_event(self, name: str, *arguments: object) -> None: ...
    def on_incoming(self, session: Session) -> SessionListener: ...
    def on_session_ended(self, session: str) -> None: ...


#: Called with True if a signal was delivered, False if not, None if unknown.
OnReport = Callable[[bool | None], None]


class Client:
    """Owns the signaling transport and the sessions; used for one `connect`, ended by `close`."""

    def __init__(
        self,
        transport: SignalingTransport,
        listener: ClientListener,
        configuration: RTCConfiguration,
        settings: Settings,
    ) -> None:
        self.sessions: dict[str, Session] = {}
        self._transport = transport
        self._listener = listener
        self._configuration = configuration
        self._settings = settings
        self._certificate: Certificate | None = None
        self._rate_limits = TokenBuckets(
            settings.signals_per_second, settings.signals_burst, RATE_LIMITED_PEERS
        )
        # The peer id and the bye message of each closed session.
        self._finished: LruDict[str, tuple[str, dict[str, object]]] = LruDict(
            settings.remembered_sessions
        )
        self._unsent: deque[tuple[dict[str, object], OnReport]] = deque()
        self._state = "disconnected"
        self._reconnect_task: asyncio.Task[None] | None = None
        self._sends: dict[asyncio.Future[bool | None], tuple[dict[str, object], OnReport]] = {}
        self._closing = False
        self._retry_timers: list[asyncio.TimerHandle] = []

    # The connection to the signaling server

    async def open(self) -> None:
        """Connect, and return when signaling is ready.

        Raises:
            IdTakenError, InvalidIdError, SignalingError: The transport could not connect.
        """
        self._set_state("connecting")
        try:
            await self._transport.open(self)
        except BaseException:
            self._set_state("disconnected")
            await self._transport.close()
            raise

    async def close(self, timeout: float | None) -> None:
        """Hang up every call, each within `timeout` seconds, then leave the server."""
        self._closing = True
        for timer in self._retry_timers:
            timer.cancel()
        if self._reconnect_task is not None:
            self._reconnect_task.cancel()
            await asyncio.gather(self._reconnect_task, return_exceptions=True)
        await asyncio.gather(*(session.hangup(timeout) for session in list(self.sessions.values())))
        await self._transport.close()
        self._set_state("disconnected")

    async def abort(self) -> None:
        """Leave at once, without delivering anything; used when the interpreter exits."""
        self._closing = True
        await asyncio.gather(*(session.abort() for session in list(self.sessions.values())))
        await leave(self._transport)

    def _set_state(self, state: str) -> None:
        if state != self._state:
            logger.debug("signaling %s -> %s", self._state, state)
            self._state = state
            self._listener.on_state(state)

    def on_ready(self, peer_id: str) -> None:
        self._set_state("ready")
        self._listener.on_event("open", peer_id)
        # In order: candidates queued by a session may belong to an offer among these messages.
        unsent, self._unsent = self._unsent, deque()
        for message, on_report in unsent:
            # Of closed sessions only the bye message is still needed.
            if message["session"] in self.sessions or messages.is_bye(message):
                self.send_signal(message, on_report)
        for session in list(self.sessions.values()):
            session.resume()

    def on_disconnected(self) -> None:
        if self._closing:
            return
        logger.warning("the connection to the signaling server was lost, reconnecting")
        for session in list(self.sessions.values()):
            session.suspend()
        # Signals that the server may not have received are sent again: a peer ignores duplicates.
        unacknowledged = [
            entry for sent, entry in self._sends.items() if not _is_acknowledged(sent)
        ]
        self._unsent.extendleft(reversed(unacknowledged))
        self._sends.clear()
        self._set_state("connecting")
        self._listener.on_event("reconnecting")
        if self._reconnect_task is None or self._reconnect_task.done():
            self._reconnect_task = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        delay = RECONNECT_SECONDS
        while self._state != "ready":
            # Randomized, so that not all clients reconnect to a restarted server at once.
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(2 * delay, self._settings.reconnect_maximum)
            try:
                await self._transport.open(self)
            except IdTakenError:
                # The server may keep the previous connection until it notices that it is dead.
                logger.info("the signaling server still holds the id, trying again")
            except SignalingError as error:
                logger.info("cannot reach the signaling server yet: %s", error)

    def on_error(self, error: Exception) -> None:
        self._listener.on_event("error", error)

    def on_join(self, room: str, peer_id: str, metadata: str | None) -> None:
        logger.debug("peer %s joined the room %s", peer_id, room)

    def on_peer_left(self, peer_id: str) -> None:
        for session in list(self.sessions.values()):
            if session.target == peer_id:
                session.on_peer_left()

    def on_peer_returned(self, peer_id: str) -> None:
        for session in list(self.sessions.values()):
            if session.target == peer_id:
                session.on_peer_returned()

    # Signals

    def send_signal(self, message: dict[str, object], on_report: OnReport) -> None:
        """Send a signal of a session, now or when signaling is ready again.

        Args:
            on_report: Called when the server has said if it delivered the signal.
        """
        if self._state != "ready":
            self._unsent.append((message, on_report))
            return
        future = self._transport.send(message)
        self._sends[future] = message, on_report
        future.add_done_callback(self._on_sent)

    def send_until_delivered(self, message: dict[str, object], attempt: int = 1) -> None:
        """Send a message to an artico_sync peer, and retry while the peer is not connected."""

        def retry(delivered: bool | None) -> None:
            if delivered is False and attempt < MAXIMUM_ATTEMPTS and not self._closing:
                delay = RETRY_SECONDS * 2 ** (attempt - 1)
                loop = asyncio.get_running_loop()
                self._retry_timers = [
                    timer for timer in self._retry_timers if timer.when() > loop.time()
                ]
                self._retry_timers.append(
                    loop.call_later(delay, self.send_until_delivered, message, attempt + 1)
                )

        self.send_signal(message, retry)

    def _on_sent(self, future: asyncio.Future[bool | None]) -> None:
        message, on_report = self._sends.pop(future, (None, None))
        error = None if future.cancelled() else future.exception()
        if message is None or on_report is None or future.cancelled():
            return
        if error is None:
            on_report(future.result())
        elif isinstance(error, SignalingError):
            logger.debug(
                "a signal could not be sent, it is queued until signaling is back: %s", error
            )
            if not self._closing:
                self._unsent.append((message, on_report))
        else:
            logger.error("sending a signal failed", exc_info=error)

    def on_signal(self, message: dict[str, object]) -> None:
        raw: object = message  # not validated yet
        source = raw.get("source") if isinstance(raw, dict) else None
        if isinstance(source, str) and not self._rate_limits.try_acquire(
            source[: messages.LONGEST_NAME]
        ):
            logger.warning("dropping a signal of %.100r: more than its share", source)
            return
        try:
            signal = messages.parse_signal(message, self._settings)
        except messages.MalformedError as error:
            logger.warning("dropping a malformed signal: %s", error)
            return
        session = self.sessions.get(signal.session)
        if session is not None:
            if session.target != signal.source:
                logger.warning(
                    "dropping a signal for %s from another peer %r", session, signal.source
                )
                return
            if session.call_state is CallState.CLOSED:
                self._resend_bye(signal, session.signaling.bye)
            else:
                session.handle_signal(signal)
        elif (finished := self._finished.get(signal.session)) is not None:
            if finished[0] == signal.source:
                self._resend_bye(signal, finished[1])
        elif self._is_new_call(signal):
            self._ring(signal)

    def _resend_bye(self, signal: messages.Signal, bye: dict[str, object]) -> None:
        """Resend the bye of a closed session to an artico_sync peer that has missed it.

        Other peers do not understand it and get no reply.
        """
        logger.debug("a late %s for the finished session %s", signal.type, signal.session)
        if (
            signal.from_artico_sync
            and signal.type in (messages.RINGING, "sdp")
            and not self._closing
        ):
            message = messages.build_message(signal.source, signal.session, None, bye)
            self.send_signal(message, lambda delivered: None)

    def _is_new_call(self, signal: messages.Signal) -> bool:
        if not signal.session.startswith(messages.CALL_PREFIX):
            logger.debug("ignoring a signal of the session %s, which is not a call", signal.session)
            return False
        if not signal.is_offer or self._closing:
            logger.debug("ignoring a %s for the unknown session %s", signal.type, signal.session)
            return False
        ringing = [s for s in self.sessions.values() if s.call_state is CallState.RINGING]
        of_peer = sum(s.target == signal.source for s in ringing)
        if (
            len(self.sessions) >= self._settings.maximum_sessions
            or len(ringing) >= self._settings.maximum_ringing
            or of_peer >= self._settings.maximum_ringing_per_peer
        ):
            logger.warning(
                "dropping a call from %r: too many calls are ringing already", signal.source
            )
            return False
        return True

    def _ring(self, signal: messages.Signal) -> None:
        session = self._new_session(
            signal.session, signal.source, signal.metadata, None, initiator=False
        )
        session.handle_signal(signal)
        session.signaling.send_ringing()
        session.listener = self._listener.on_incoming(session)

    # Sessions

    def _new_session(
        self,
        session_id: str,
        target: str,
        metadata: str | None,
        listener: SessionListener | None,
        *,
        initiator: bool,
    ) -> Session:
        session = Session(
            self,
            listener,
            session=session_id,
            target=target,
            metadata=metadata,
            initiator=initiator,
            settings=self._settings,
        )
        self.sessions[session_id] = session
        return session

    def place(
        self,
        session_id: str,
        target: str,
        metadata: str | None,
        listener: SessionListener,
        placed: Callable[[Session], None],
    ) -> None:
        """Place a call to `target`.

        Args:
            placed: Called with the session before the call starts.
        """
        if self._closing:
            # The client was still ready when the user placed the call.
            listener.on_call_state(CallState.CLOSED, CloseReason.HANGUP, None, 0)
            self._listener.on_session_ended(session_id)
            return
        session = self._new_session(session_id, target, metadata, listener, initiator=True)
        if self._state != "ready":
            session.suspend()
        placed(session)
        session.start()

    def create_connection(self) -> PeerConnection:
        """Return a new peer connection; all of a client share one certificate."""
        if self._certificate is None or self._certificate.is_stale:
            self._certificate = Certificate.generateCertificate()
        return PeerConnection(self._configuration, self._settings, self._certificate)

    def on_path_suspect(self) -> None:
        """Check the connection to the server as well: the network may have changed."""
        if self._state == "ready":
            self._transport.check()

    def on_session_closed(self, session_id: str) -> None:
        session = self.sessions.pop(session_id, None)
        if session is None:
            return
        self._finished[session_id] = session.target, session.signaling.bye
        self._listener.on_session_ended(session_id)


def _is_acknowledged(sent: asyncio.Future[bool | None]) -> bool:
    """Return True if the server has confirmed that it received a signal."""
    if not sent.done() or sent.cancelled() or sent.exception() is not None:
        return False
    return sent.result() is not None
