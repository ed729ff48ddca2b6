"""Perfect negotiation of one call, glare included (W3C WebRTC, section 10.7).

Descriptions change under one lock. One task makes the local offers and waits for their answers:
real peers sometimes ignore an offer, so it is repeated, and withdrawn in the end.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import secrets
from collections.abc import Callable

from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack

from artico_sync._engine.answer_tracker import (
    GIVE_WAY_ATTEMPTS,
    AnswerTracker,
    NegotiationError,
    OfferReminder,
    PeerAbsence,
    PendingOffer,
    SentAnswer,
)
from artico_sync._engine.signal_queues import RemoteCandidateQueue, SignalOutbox
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import CandidateSignal, parse_candidate_signal
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sdp.media_sections import RemoteChange
from artico_sync._webrtc.sdp.offer_answer import AnswerTo, Outcome
from artico_sync._webrtc.sdp.parser import RemoteDescription, parse_description

logger = logging.getLogger(__name__)


class _State(enum.Enum):
    RUNNING = "running"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class Negotiation:
    """Keeps the descriptions of both ends in step.

    Large because the rules of perfect negotiation, and those for peers that ignore offers, act on
    the same few offers and answers.

    Args:
        connection: The connection; its owner closes it, after this.
        polite: Roll back the local offer in glare.
        send: Sends a signal to the peer.
        on_remote_change: Called with the remote tracks added and removed, by m-section.
        on_error: Called with errors that the user should know; the call continues.
        settings: Limits and times.
    """

    def __init__(
        self,
        connection: PeerConnection,
        *,
        polite: bool,
        send: Callable[[dict[str, object]], None],
        on_remote_change: Callable[[list[RemoteChange]], None],
        on_error: Callable[[Exception], None],
        settings: Settings,
    ) -> None:
        self._connection = connection
        self._polite = polite
        self._outbox = SignalOutbox(send, settings)
        self._on_remote_change = on_remote_change
        self._on_error = on_error
        self._settings = settings
        self._state = _State.RUNNING
        self._lock = asyncio.Lock()
        self._now = asyncio.get_running_loop().time
        self._offer_wanted = False
        self._restart_wanted = False
        self._is_restarting = False
        self._attempts = 0
        self._quiet_until = 0.0
        self._pending_offer: PendingOffer | None = None
        # The peer's offer that was ignored in glare, and its token.
        self._ignored_offer: tuple[RemoteDescription, object] | None = None
        # The last withdrawn offer that the peer may still have applied.
        self._abandoned_offer: PendingOffer | None = None
        self._answers = AnswerTracker(settings.offer_timeout, self._wake)
        self._worker: asyncio.Task[None] | None = None
        self._candidates = RemoteCandidateQueue(connection, settings.maximum_candidates)
        self._reminder = OfferReminder(self._remind)
        self._last_answer: SentAnswer | None = None
        self._absence = PeerAbsence()
        connection.on_candidate = self._local_candidate
        connection.on_restart_needed = self.restart_ice

    @property
    def idle(self) -> bool:
        """True if no offer is wanted, pending, being made, or expected."""
        if self._pending_offer is not None or self._ignored_offer is not None:
            return False
        return not (self._reminder.is_running or self._offer_wanted or self._lock.locked())

    def request_offer(self) -> None:
        """Make an offer soon; several requests make one offer."""
        self._offer_wanted = True
        self._attempts = 0
        self._wake()

    def add_track(self, track: MediaStreamTrack, stream_id: str) -> None:
        """Share a track with the next offer."""
        self._connection.add_local_track(track, stream_id)
        self.request_offer()

    def remove_track(self, track: MediaStreamTrack) -> None:
        """Stop sharing a track; has no effect for an unknown one."""
        if self._connection.remove_local_track(track):
            self.request_offer()

    def replace_track(self, old: MediaStreamTrack, new: MediaStreamTrack) -> bool:
        """Send `new` in place of `old`, without an offer; return False if `old` is not shared."""
        return self._connection.replace_local_track(old, new)

    def restart_ice(self) -> None:
        """Restart ICE with the next offer; has no effect while a restart is pending."""
        outdated = self._connection.ice_transport.restart_is_outdated
        if self._pending_offer is not None and self._is_restarting and not outdated:
            return
        self._restart_wanted = True
        self.request_offer()

    def suspend(self) -> None:
        """Make no offers and hold signals back, because signaling is lost."""
        if self._state is _State.RUNNING:
            self._enter(_State.SUSPENDED)
            self._outbox.suspended = True

    def resume(self) -> None:
        """Send the signals held back, and repeat what may have been lost with signaling."""
        if self._state is not _State.SUSPENDED:
            return
        self._enter(_State.RUNNING)
        self._answers.expect_repeated(0)  # They may have been lost.
        doubtful, offer, answer = None, self._pending_offer, self._last_answer
        if answer is not None and answer.is_in_doubt(self._now()):
            doubtful = answer.signal
        if offer is not None and not self._connection.negotiated:
            doubtful = offer.signal  # It rings, or would if it had arrived.
        elif offer is not None and not self._outbox.is_queued(offer.signal):
            offer.sent_at = float("-inf")  # Due at once.
            offer.changed.set()
            self._attempts = 0
        self._outbox.resume(doubtful)
        self._wake()

    def on_delivery_report(self, delivered: bool | None) -> None:
        """Note whether the server could deliver a signal; None if it does not say."""
        self._absence.on_delivery_report(delivered, self._now())

    async def close(self) -> None:
        """Stop: send and report nothing more. The connection stays open."""
        self._enter(_State.CLOSED)
        self._outbox.closed = True
        self._connection.on_candidate = self._connection.on_restart_needed = None
        self._reminder.stop()
        self._answers.expect_repeated(0)
        worker, self._worker = self._worker, None
        if worker is not None and worker is not asyncio.current_task():
            worker.cancel()
            await asyncio.wait([worker])

    def _enter(self, state: _State) -> None:
        logger.debug("negotiation %s -> %s", self._state.value, state.value)
        self._state = state

    async def receive(self, signal: dict[str, object]) -> None:
        """Process a signal of the peer. Malformed and untimely ones are logged and dropped."""
        if self._state is _State.CLOSED:
            return
        try:
            if signal.get("type") == "sdp":
                await self._receive_description(signal.get("data"))
            elif signal.get("type") == "candidate":
                if (candidate := parse_candidate_signal(signal.get("data"))) is not None:
                    async with self._lock:
                        await self._candidates.add(candidate)
        except Exception as error:
            # Any exception: aiortc's parsers raise what they happen to; nothing has changed yet.
            if self._connection.closing:
                logger.debug("a signal arrived after the end: %r", error)
            elif isinstance(error, ValueError):
                logger.warning("dropped a signal: %s", error)
            else:
                logger.warning("dropped a signal", exc_info=True)

    async def _receive_description(self, data: object) -> None:
        if not isinstance(data, dict):
            raise ValueError("the description is not an object")
        description = parse_description(data.get("type"), data.get("sdp"), self._settings)
        async with self._lock:
            if self._state is _State.CLOSED:
                return
            if self._last_answer is not None:
                self._last_answer.has_arrived = True
            if description.type == "answer":
                await self._receive_answer(description, data.get("offer"))
            else:
                await self._receive_offer(description, data.get("offer"))

    async def _receive_answer(self, answer: RemoteDescription, token: object) -> None:
        """Apply an answer. Answers of JavaScript peers do not name their offer."""
        pending, abandoned = self._pending_offer, self._abandoned_offer
        if token is None and self._answers.is_repeated():
            logger.info("ignored an answer to a copy of an offer")
            self._on_peer_gave_way()
            self._wake()
            return
        was_ringing = not self._connection.negotiated
        outcome = await self._connection.apply_answer(
            answer,
            to_pending=pending is not None and token in (None, pending.token),
            to_stale=abandoned is not None and token in (None, abandoned.token),
        )
        self._restart_wanted = self._restart_wanted or outcome.restart_ice
        self._offer_wanted = self._offer_wanted or outcome.offer_again
        if outcome.answer_to is AnswerTo.NONE:
            await self._on_unused_answer(outcome, token)
            return
        if outcome.answer_to is AnswerTo.PENDING:
            answered = pending
            self._pending_offer = self._abandoned_offer = None
            if self._last_answer is not None:
                self._last_answer.is_refusable = False
        else:
            logger.info("applied a late answer")
            answered = abandoned
            if outcome.pending_stands:
                self._abandoned_offer = None
            else:
                self._abandoned_offer, self._pending_offer = pending, None
        assert answered is not None
        if not self._connection.peer_is_artico_sync:
            self._answers.on_answered(answered, self._now(), was_ringing=was_ringing)
        self._on_peer_gave_way()
        self._attempts = 0
        if pending is not None:
            pending.changed.set()
        await self._on_applied(outcome)
        self._wake()

    async def _on_unused_answer(self, outcome: Outcome, token: object) -> None:
        """Log an answer that was not applied, and do what it calls for."""
        if outcome.error is not None:
            if outcome.restart_ice and token is not None and not self._is_restarting:
                # An artico_sync peer answers every copy of this offer in the same way.
                await self._withdraw_offer(ignored=False)
                self._wake()
            raise outcome.error
        if outcome.is_superseded:
            logger.info("ignored a late answer: the peer will answer the offer made since")
            return
        logger.info("ignored an answer to an offer that was withdrawn")
        if token is None:
            self._on_peer_gave_way()
            if self._last_answer is not None and self._last_answer.is_refusable:
                # The peer has applied a copy of the offer, and refuses the answer to its own
                # offer, which it has rolled back for that: a new offer brings both into step.
                self._last_answer.is_refusable = False
                self.request_offer()

    def _on_peer_gave_way(self) -> None:
        """Expect the ignored offer of a browser again: it has rolled it back for the local one."""
        if self._ignored_offer is not None and not self._connection.peer_is_artico_sync:
            self._reminder.start()
        self._ignored_offer = None

    def _remind(self) -> None:
        if self._state is not _State.CLOSED and not self._connection.closing:
            logger.info("the peer has not repeated its offer: reminding it")
            self.request_offer()

    async def _receive_offer(self, offer: RemoteDescription, token: object) -> None:
        self._reminder.stop()
        if self._last_answer is not None and self._last_answer.is_to(offer.identity, token):
            logger.info("the peer has repeated its offer: repeating the answer")
            self._outbox.repeat_description(self._last_answer.signal)
            return
        if self._pending_offer is not None or (self._answers.repeated and not self._polite):
            if not self._polite:
                logger.info("glare: ignoring the peer's offer")
                self._ignored_offer = offer, token
                return
            logger.info("glare: withdrawing the local offer")
            await self._withdraw_offer(ignored=True)
        self._answers.expect_repeated(0)  # It has ignored the copies.
        await self._answer(offer, token, fresh=True)

    async def _answer(self, offer: RemoteDescription, token: object, *, fresh: bool) -> None:
        self._ignored_offer = None
        outcome = await self._connection.answer_offer(offer, fresh=fresh)
        assert outcome.answer is not None
        if outcome.restarted_ice:
            self._restart_wanted = False  # The peer's restart serves as well as a local one.
        if fresh:
            self._abandoned_offer = None
        signal = self._outbox.post_description(outcome.answer, token)
        refusable = not fresh and not self._connection.peer_is_artico_sync
        self._last_answer = SentAnswer(signal, self._now(), token, offer.identity, refusable)
        if not self._connection.peer_is_artico_sync:
            self._quiet_until = self._now() + self._settings.answer_gap
        await self._on_applied(outcome)
        self._wake()

    async def _on_applied(self, outcome: Outcome) -> None:
        self._outbox.release_candidates()
        if outcome.changes:
            self._on_remote_change(outcome.changes)
        await self._candidates.release()

    def _wake(self) -> None:
        if self._state is not _State.RUNNING or self._connection.closing:
            return
        if (self._worker is None or self._worker.done()) and self._has_work():
            self._worker = asyncio.ensure_future(self._work())

    def _has_work(self) -> bool:
        if self._pending_offer is not None:
            # The first offer rings; the session decides for how long.
            return self._connection.negotiated
        if self._answers.repeated:
            # JavaScript peers drop a copy that arrives while they answer: the next answer would be
            # taken as the answer to it, although it answers a later offer.
            return False
        if self._ignored_offer is not None:
            return True
        return self._offer_wanted and (self._connection.negotiated or not self._polite)

    async def _work(self) -> None:
        """Make offers and wait for their answers until none is wanted."""
        try:
            while self._state is _State.RUNNING and self._has_work():
                if self._pending_offer is not None:
                    await self._await_answer(self._pending_offer)
                elif self._ignored_offer is not None:
                    await self._answer_ignored()
                elif (gap := self._quiet_until - self._now()) > 0:
                    await asyncio.sleep(gap)
                else:
                    await self._make_offer()
        except Exception as error:
            # Nothing awaits this task, so its errors are reported here.
            if not self._connection.closing:
                logger.error("making an offer failed", exc_info=True)
                self._offer_wanted = False
                self._on_error(error)

    async def _make_offer(self) -> None:
        async with self._lock:
            if self._pending_offer is not None or self._state is not _State.RUNNING:
                return
            self._offer_wanted = False
            restart, self._restart_wanted = self._restart_wanted, False
            try:
                description = await self._connection.create_offer(restart_ice=restart)
            except InvalidStateError:
                if not self._connection.closing:
                    raise
                return
            except asyncio.CancelledError:
                self._offer_wanted, self._restart_wanted = True, restart
                raise
            token = secrets.token_hex(4)
            signal = self._outbox.post_description(description, token)
            now = self._now()
            self._pending_offer = PendingOffer(token, signal, now, asyncio.Event(), now)
            self._is_restarting = restart
            self._outbox.release_candidates()

    async def _await_answer(self, offer: PendingOffer) -> None:
        remaining = offer.sent_at + self._answers.timeout - self._now()
        if remaining > 0:
            try:
                await asyncio.wait_for(offer.changed.wait(), remaining)
                offer.changed.clear()
                return
            except TimeoutError:
                pass
        async with self._lock:
            if self._pending_offer is offer and self._state is _State.RUNNING:
                await self._give_up_offer()

    async def _give_up_offer(self) -> None:
        """Repeat an unanswered offer, or withdraw it and answer the ignored one.

        The copy is identical and can be applied any number of times, so that neither side can be
        mistaken about what the other has applied, however late signals arrive. An artico_sync peer
        knows it by its token. Only glare with a browser is a reason to withdraw it, and a late one:
        a browser that is merely slow continues from the local offer.
        """
        if not self._absence.is_recent(self._now()):
            self._attempts += 1
        logger.info("an offer was not answered (attempt %d)", self._attempts)
        offer, is_browser = self._pending_offer, not self._connection.peer_is_artico_sync
        if is_browser:
            self._answers.on_no_answer()
        glare = self._ignored_offer is not None and is_browser
        last = self._attempts >= (GIVE_WAY_ATTEMPTS if glare else self._settings.offer_attempts)
        if offer is not None and not last:
            offer.sent_at = self._now()
            if not glare:
                offer.copies += 1
                self._outbox.repeat_description(offer.signal)
            return
        await self._withdraw_offer(ignored=False)
        if self._ignored_offer is not None:
            await self._answer_held(*self._ignored_offer)
        if self._attempts >= self._settings.offer_attempts:
            self._offer_wanted = False
            self._attempts = 0
            problem = "The peer does not answer: streams may not be shared or unshared as asked."
            self._on_error(NegotiationError(problem))

    async def _answer_ignored(self) -> None:
        async with self._lock:
            ignored = self._ignored_offer
            if ignored is not None and self._pending_offer is None:
                await self._answer_held(*ignored)

    async def _answer_held(self, ignored: RemoteDescription, token: object) -> None:
        """Answer an offer that was ignored in glare."""
        try:
            await self._answer(ignored, token, fresh=False)
        except ValueError as error:
            self._ignored_offer = None
            logger.warning("dropped an offer: %s", error)

    async def _withdraw_offer(self, *, ignored: bool) -> None:
        """Roll the offer back and make it again; `ignored` if the peer has not applied it."""
        offer, self._pending_offer = self._pending_offer, None
        await self._connection.rollback(ignored=ignored)
        self._offer_wanted = True
        self._restart_wanted = self._restart_wanted or self._is_restarting
        if offer is not None:
            offer.changed.set()
            self._abandoned_offer = self._abandoned_offer if ignored else offer

    def _local_candidate(self, candidate: CandidateSignal) -> None:
        # While the lock is held, it may belong to a description in the making.
        self._outbox.post_candidate(candidate, hold=self._lock.locked())
