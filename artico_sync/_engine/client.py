"""A client on the loop: its signalling, kept alive, and the sessions the signals belong to; loop
thread."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from aiortc import RTCConfiguration

from artico_sync._engine.call_state import CallState, CloseReason
from artico_sync._engine.rate_limit import RateLimits
from artico_sync._engine.session import Session
from artico_sync._engine.session_listener import SessionListener
from artico_sync._engine.signaling.transport import SignalingTransport, leave
from artico_sync._protocol import messages as wire
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.dtls.transport import Certificate
from artico_sync.errors import IdTakenError, SignalingError

logger = logging.getLogger("artico_sync._engine.client")

# Seconds before the first attempt to come back; doubled for each that fails.
FIRST_PAUSE = 0.1
# The same for what is told again to a peer on its way back, and how often it is told at most.
INSIST_PAUSE = 0.5
INSIST_ATTEMPTS = 6


class ClientListener(Protocol):
    """Told what happens to a client; loop thread."""

    def on_state(self, state: str) -> None: ...
    def on_event(self, name: str, *arguments: object) -> None: ...
    def on_incoming(self, session: Session) -> SessionListener: ...
    def on_session_ended(self, session: str) -> None: ...


Told = Callable[[bool | None], None]


class Client:
    """Owns the signalling transport and the sessions; made for one `connect`, ended by `close`."""

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
        self._rates = RateLimits(settings.signals_per_second, settings.signals_burst)
        # Of calls that are over, by session: the other peer's id, and our goodbye.
        self._finished: OrderedDict[str, tuple[str, dict[str, object]]] = OrderedDict()
        self._unsent: deque[tuple[dict[str, object], Told]] = deque()
        self._state = "disconnected"
        self._reconnecting: asyncio.Task[None] | None = None
        self._sends: dict[asyncio.Future[bool | None], tuple[dict[str, object], Told]] = {}
        self._closing = False
        self._insisting: list[asyncio.TimerHandle] = []

    # signalling's life

    async def open(self) -> None:
        """Connect until signalling is ready.

        Raises:
            IdTakenError, InvalidIdError, SignalingError: As the transport says.
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
        for timer in self._insisting:
            timer.cancel()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        await asyncio.gather(*(session.hangup(timeout) for session in list(self.sessions.values())))
        await self._transport.close()
        self._set_state("disconnected")

    async def abort(self) -> None:
        """Leave at once: the interpreter exits."""
        self._closing = True
        await asyncio.gather(*(session.abort() for session in list(self.sessions.values())))
        await leave(self._transport)

    def _set_state(self, state: str) -> None:
        if state != self._state:
            logger.debug("signalling %s -> %s", self._state, state)
            self._state = state
            self._listener.on_state(state)

    def on_ready(self, peer_id: str) -> None:
        self._set_state("ready")
        self._listener.on_event("open", peer_id)
        # What was sent first goes first: candidates kept meanwhile may belong to an offer in it.
        unsent, self._unsent = self._unsent, deque()
        for message, told in unsent:
            # Of calls that are over meanwhile, only the goodbye is still of interest.
            if message["session"] in self.sessions or wire.is_bye(message):
                self.send_signal(message, told)
        for session in list(self.sessions.values()):
            session.resume()

    def on_disconnected(self) -> None:
        if self._closing:
            return
        logger.warning("the connection to the signalling server was lost, reconnecting")
        for session in list(self.sessions.values()):
            session.suspend()
        # What the server may never have got is sent again: a peer takes a signal that comes twice
        # for one.
        unacknowledged = [entry for sent, entry in self._sends.items() if not _has_arrived(sent)]
        self._unsent.extendleft(reversed(unacknowledged))
        self._sends.clear()
        self._set_state("connecting")
        self._listener.on_event("reconnecting")
        if self._reconnecting is None or self._reconnecting.done():
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        pause = FIRST_PAUSE
        while self._state != "ready":
            # Spread out, so that a server that comes back does not meet all its clients at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._settings.reconnect_maximum)
            try:
                await self._transport.open(self)
            except IdTakenError:
                # The server may hold our own old connection until it notices that it is dead.
                logger.info("the signalling server still holds our id, trying again")
            except SignalingError as error:
                logger.info("cannot reach the signalling server yet: %s", error)

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

    # signals

    def send_signal(self, message: dict[str, object], told: Told) -> None:
        """Send a signal of a session, now or when signalling is back.

        Args:
            told: Called with whether the server delivered it, None where it does not say.
        """
        if self._state != "ready":
            self._unsent.append((message, told))
            return
        future = self._transport.send(message)
        self._sends[future] = message, told
        future.add_done_callback(self._on_sent)

    def send_until_delivered(self, message: dict[str, object], attempt: int = 1) -> None:
        """Tell a peer of ours something, again while it has lost the server."""

        def told(delivered: bool | None) -> None:
            if delivered is False and attempt < INSIST_ATTEMPTS and not self._closing:
                pause = INSIST_PAUSE * 2 ** (attempt - 1)
                loop = asyncio.get_running_loop()
                self._insisting = [timer for timer in self._insisting if timer.when() > loop.time()]
                self._insisting.append(
                    loop.call_later(pause, self.send_until_delivered, message, attempt + 1)
                )

        self.send_signal(message, told)

    def _on_sent(self, future: asyncio.Future[bool | None]) -> None:
        message, told = self._sends.pop(future, (None, None))
        error = None if future.cancelled() else future.exception()
        if message is None or told is None or future.cancelled():
            return
        if error is None:
            told(future.result())
        elif isinstance(error, SignalingError):
            logger.debug(
                "a signal could not be sent, it waits for the return of signalling: %s", error
            )
            if not self._closing:
                self._unsent.append((message, told))
        else:
            logger.error("sending a signal failed", exc_info=error)

    def on_signal(self, message: dict[str, object]) -> None:
        raw: object = message  # nobody has looked at it yet
        source = raw.get("source") if isinstance(raw, dict) else None
        if isinstance(source, str) and not self._rates.allow(source[: wire.LONGEST_NAME]):
            logger.warning("dropping a signal of %.100r: more than its share", source)
            return
        try:
            signal = wire.parse_signal(message, self._settings)
        except wire.MalformedError as error:
            logger.warning("dropping a malformed signal: %s", error)
            return
        session = self.sessions.get(signal.session)
        if session is not None:
            if session.target != signal.source:
                logger.warning(
                    "dropping a signal for %s from the stranger %r", session, signal.source
                )
                return
            if session.phase is CallState.CLOSED:
                self._answer_late(signal, session.signaling.goodbye)
            else:
                session.feed(signal)
        elif (finished := self._finished.get(signal.session)) is not None:
            if finished[0] == signal.source:
                self._answer_late(signal, finished[1])
        elif self._is_new_call(signal):
            self._ring(signal)

    def _answer_late(self, signal: wire.Signal, body: dict[str, object]) -> None:
        """A peer of ours that has not heard of the end of a call is told; anybody else is not
        answered."""
        logger.debug("a late %s for the finished session %s", signal.type, signal.session)
        if signal.from_artico_sync and signal.type in (wire.RINGING, "sdp") and not self._closing:
            message = wire.build_message(signal.source, signal.session, None, body)
            self.send_signal(message, lambda delivered: None)

    def _is_new_call(self, signal: wire.Signal) -> bool:
        if not signal.session.startswith(wire.CALL_PREFIX):
            logger.debug("ignoring a signal of the session %s, which is not ours", signal.session)
            return False
        if not signal.is_offer or self._closing:
            logger.debug("ignoring a %s for the unknown session %s", signal.type, signal.session)
            return False
        ringing = [s for s in self.sessions.values() if s.phase is CallState.RINGING]
        of_peer = sum(s.target == signal.source for s in ringing)
        if (
            len(self.sessions) >= self._settings.maximum_sessions
            or len(ringing) >= self._settings.maximum_ringing
            or of_peer >= self._settings.maximum_ringing_per_peer
        ):
            logger.warning("dropping a call from %r: too many calls ring already", signal.source)
            return False
        return True

    def _ring(self, signal: wire.Signal) -> None:
        session = self._new_session(
            signal.session, signal.source, signal.metadata, None, initiator=False
        )
        session.feed(signal)
        session.signaling.send_ringing()
        session.listener = self._listener.on_incoming(session)

    # sessions

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
            configuration=self._configuration,
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
        """Start calling `target`."""
        if self._closing:
            # Asked for while the client was still ready; it is not any more.
            listener.on_call_state(CallState.CLOSED, CloseReason.HANGUP, None, 0)
            self._listener.on_session_ended(session_id)
            return
        session = self._new_session(session_id, target, metadata, listener, initiator=True)
        if self._state != "ready":
            session.suspend()
        placed(session)
        session.start()

    def certificate(self) -> Certificate:
        """What every call of this client identifies itself with; its peers know its id anyway."""
        if self._certificate is None or self._certificate.is_stale:
            self._certificate = Certificate.generateCertificate()
        return self._certificate

    def on_path_suspect(self) -> None:
        """The path to a peer is silent or gone: so may be the one to the server."""
        if self._state == "ready":
            self._transport.check()

    def on_session_closed(self, session: Session) -> None:
        if self.sessions.pop(session.session, None) is None:
            return
        self._finished[session.session] = session.target, session.signaling.goodbye
        while len(self._finished) > self._settings.remembered_sessions:
            self._finished.popitem(last=False)
        self._listener.on_session_ended(session.session)


def _has_arrived(sent: asyncio.Future[bool | None]) -> bool:
    """Whether the server has said that it took a signal."""
    if not sent.done() or sent.cancelled() or sent.exception() is not None:
        return False
    return sent.result() is not None
