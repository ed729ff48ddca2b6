"""Perfect negotiation of one call (W3C WebRTC, section 10.7); loop thread.

Every change of a description happens under one lock. An offer of ours is made by one task,
which also sees to it that the offer is answered: real peers now and then ignore one for ever.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack

from artico_sync._engine.answer_tracker import AnswerTracker
from artico_sync._engine.peer_candidates import PeerCandidates
from artico_sync._engine.signal_outbox import Signal, SignalOutbox
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import CandidateSignal
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sdp.media_sections import (
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
)
from artico_sync._webrtc.sdp.parser import DescriptionError, RemoteDescription, parse_description

__all__ = [
    "Negotiation",
    "NegotiationError",
    "RemoteChange",
    "RemoteTrackAdded",
    "RemoteTrackRemoved",
]

logger = logging.getLogger(__name__)

#: Seconds a browser gets to make an offer again that gave way to ours. Chromium forgets it when
#: yet another of ours comes in between; it remembers with the next offer of ours.
REMINDER = 0.5
#: How many times an offer that stood against a browser's stays unanswered until it gives way; each
#: time it waits twice as long.
GIVE_WAY = 2
#: Seconds a peer that has lost the server may take to come back before we think it does not answer.
PEER_RETURN = 60.0
#: Seconds for which an answer may have been lost with the signalling connection.
ANSWER_IN_DOUBT = 60.0


class NegotiationError(Exception):
    """The peer does not answer our offers; what is shared stays as it was."""


class _State(enum.Enum):
    RUNNING = "running"
    SUSPENDED = "suspended"
    CLOSED = "closed"


@dataclass
class _Offer:
    """An offer of ours that has not been answered yet."""

    token: str
    signal: Signal
    made: float
    #: Set when it was answered or taken back, or is due.
    changed: asyncio.Event
    #: When it was made; `made` is when it was last sent.
    first_made: float
    #: How often it was sent: as often is it answered.
    copies: int = 1


class Negotiation:
    """Keeps both ends' descriptions in step.

    Args:
        connection: The connection; its owner closes it, after this.
        polite: Give way when both sides offer at once.
        send: Takes each signal for the peer.
        on_remote_change: Takes the tracks that came and went, in the order of the m-lines.
        on_error: Takes what the user should know; the call goes on.
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
        self._wanted = False
        self._restart_wanted = False
        self._restarting = False
        self._attempts = 0
        self._quiet_until = 0.0
        self._offer: _Offer | None = None
        self._ignored: RemoteDescription | None = None
        self._ignored_token: object = None
        # The last offer taken back that the peer may have applied all the same.
        self._late: _Offer | None = None
        self._expected = AnswerTracker(settings.offer_timeout, self._wake)
        self._worker: asyncio.Task[None] | None = None
        self._candidates = PeerCandidates(connection, settings.maximum_candidates)
        self._reminder: asyncio.TimerHandle | None = None
        self._doubtful_answer: tuple[float, Signal] | None = None
        # The last answer, and the token and the identity of the offer it is to.
        self._last_answer: tuple[object, int, Signal] | None = None
        # Since when the peer is away from the server.
        self._away_since: float | None = None
        # Whether it may be refused, as the peer has taken that offer back meanwhile.
        self._answer_refusable = False
        connection.on_candidate = self._local_candidate
        connection.on_restart_needed = self.restart_ice

    @property
    def idle(self) -> bool:
        """Whether no offer is wanted, open, being made, or expected."""
        no_offer = self._offer is None and self._ignored is None and self._reminder is None
        return no_offer and not self._wanted and not self._lock.locked()

    # What the session asks for

    def needed(self) -> None:
        """Ask for an offer, soon; many requests make one offer."""
        self._wanted = True
        self._attempts = 0
        self._wake()

    def add_track(self, track: MediaStreamTrack, stream_id: str) -> None:
        """Share a track, with the next offer."""
        self._connection.add_local_track(track, stream_id)
        self.needed()

    def remove_track(self, track: MediaStreamTrack) -> None:
        """Stop sharing a track; unknown ones are ignored."""
        if self._connection.remove_local_track(track):
            self.needed()

    def replace_track(self, old: MediaStreamTrack, new: MediaStreamTrack) -> bool:
        """Send `new` where `old` was sent, without negotiation. False: `old` is not shared."""
        return self._connection.replace_local_track(old, new)

    def restart_ice(self) -> None:
        """Look for a new network path, with the next offer; harmless when that is under way."""
        outdated = self._connection.ice_transport.restart_is_outdated
        if self._offer is not None and self._restarting and not outdated:
            return
        self._restart_wanted = True
        self.needed()

    def suspend(self) -> None:
        """Signalling is lost: keep what there is to send, make no offers."""
        if self._state is _State.RUNNING:
            self._enter(_State.SUSPENDED)
            self._outbox.suspended = True

    def resume(self) -> None:
        """Signalling is back: send what was kept, and offer again what may have been lost."""
        if self._state is not _State.SUSPENDED:
            return
        self._enter(_State.RUNNING)
        self._expected.expect_repeated(0)  # they may have been lost
        doubtful, offer = None, self._offer
        if self._doubtful_answer is not None:
            made, signal = self._doubtful_answer
            doubtful = signal if self._now() - made < ANSWER_IN_DOUBT else None
        if (
            offer is not None
            and self._connection.negotiated
            and not self._outbox.keeps(offer.signal)
        ):
            offer.made = float("-inf")  # due at once
            offer.changed.set()
            self._attempts = 0
        if offer is not None and not self._connection.negotiated:
            doubtful = offer.signal  # it rings, or would
        self._outbox.resume(doubtful)
        self._wake()

    def on_delivery_report(self, delivered: bool | None) -> None:
        """The server has said whether it could deliver a signal of ours; None: it does not say."""
        if delivered is not False:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = self._now()

    async def close(self) -> None:
        """Stop; nothing is sent or reported any more. The connection is its owner's to close."""
        self._enter(_State.CLOSED)
        self._outbox.closed = True
        self._connection.on_candidate = self._connection.on_restart_needed = None
        self._stop_expecting()
        self._expected.expect_repeated(0)
        worker, self._worker = self._worker, None
        if worker is not None and worker is not asyncio.current_task():
            worker.cancel()
            await asyncio.wait([worker])

    def _enter(self, state: _State) -> None:
        logger.debug("negotiation %s -> %s", self._state.value, state.value)
        self._state = state

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # What the peer sends

    async def receive(self, signal: dict[str, object]) -> None:
        """Take a signal of the peer's. Malformed or untimely ones are logged and dropped."""
        if self._state is _State.CLOSED:
            return
        try:
            if signal.get("type") == "sdp":
                await self._receive_description(signal.get("data"))
            elif signal.get("type") == "candidate":
                if (candidate := self._candidates.parse(signal.get("data"))) is not None:
                    async with self._lock:
                        await self._candidates.take(candidate)
        except Exception as error:
            # The one place where what a peer sends may go wrong in ways nobody foresaw: aiortc
            # raises anything. The connection has been left as it was, and the call goes on.
            if self._connection.closing:
                logger.debug("a signal came too late: %r", error)
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
            self._doubtful_answer = None
            if description.type == "answer":
                await self._receive_answer(description, data.get("offer"))
            else:
                await self._receive_offer(description, data.get("offer"))

    async def _receive_answer(self, answer: RemoteDescription, token: object) -> None:
        """Take the answer to our offer, or a late one to the offer before; JavaScript's answers
        do not say which offer they are for."""
        offer, late = self._offer, self._late
        if token is None and self._expected.take_repeated():
            logger.info("ignored an answer to a copy of an offer")
            self._gave_way()
            self._wake()
            return
        changes: list[RemoteChange] | None = None
        withheld = False
        renegotiating = self._connection.negotiated
        if offer is not None and token in (None, offer.token):
            withheld = self._connection.is_withheld_from(answer)
            try:
                changes = await self._connection.accept_answer(answer)
            except DescriptionError:
                # The peer may be in a restart that we know nothing of, or back from one.
                restarts = self._connection.restarts_ice(answer)
                self._restart_wanted = self._restart_wanted or restarts
                if late is None or token is not None:
                    if restarts and token is not None and not self._restarting:
                        # One of ours answers every copy of this offer in the same way.
                        await self._take_back(ignored=False)
                        self._wake()
                    raise
        if changes is None:
            if late is None or token not in (None, late.token):
                logger.info("ignored an answer to an offer taken back")
                if token is None:
                    self._gave_way()
                if token is None and self._answer_refusable:
                    # It has applied a copy of ours, and refuses our answer to what it took back for
                    # that: an offer of ours has both go on from the same again.
                    self._answer_refusable = False
                    self.needed()
                return
            if offer is not None and token is not None and not self._connection.late_answer_undoes:
                logger.info("ignored a late answer: the peer will answer the offer made since")
                return
            misses = self._connection.misses_restart(answer)
            changes = await self._connection.accept_late_answer(answer)
            logger.info("took a late answer")
            self._restart_wanted = self._restart_wanted or misses
            answered, self._wanted = late, True
            if self._connection.signalingState == "have-local-offer":
                self._late = None  # the offer made since stands
            else:
                self._late, self._offer = offer, None
        else:
            assert offer is not None
            answered, self._late, self._offer = offer, None, None
            self._answer_refusable = False
            # Without a token it may have been meant for the offer before.
            self._wanted = self._wanted or withheld or (late is not None and token is None)
        if not self._connection.peer_is_artico_sync:
            if renegotiating:  # else it rang until somebody answered
                self._expected.answered(self._now() - answered.first_made)
            self._expected.expect_repeated(answered.copies - 1)
        self._gave_way()
        self._attempts = 0
        if offer is not None:
            offer.changed.set()
        await self._applied(changes)
        self._wake()

    def _gave_way(self) -> None:
        """The peer has taken its offer back for ours, and will make it again."""
        if self._ignored is not None and not self._connection.peer_is_artico_sync:
            self._expect_offer()
        self._ignored = None

    def _expect_offer(self) -> None:
        self._stop_expecting()
        self._reminder = asyncio.get_running_loop().call_later(REMINDER, self._remind)

    def _stop_expecting(self) -> None:
        if self._reminder is not None:
            self._reminder.cancel()
            self._reminder = None

    def _remind(self) -> None:
        self._reminder = None
        if self._state is not _State.CLOSED and not self._connection.closing:
            logger.info("the peer has not offered again, reminding it")
            self.needed()

    async def _receive_offer(self, offer: RemoteDescription, token: object) -> None:
        self._stop_expecting()
        if self._last_answer is not None:
            last_token, last_identity, answer = self._last_answer
            if token == last_token and (token is not None or offer.identity == last_identity):
                logger.info("the peer has made its offer again, answering it again")
                self._outbox.repeat_description(answer)
                return
        if self._offer is not None or (self._expected.repeated and not self._polite):
            if not self._polite:
                logger.info("both sides offered; ours stands")
                self._ignored, self._ignored_token = offer, token
                return
            logger.info("both sides offered; taking ours back")
            await self._take_back(ignored=True)
        self._expected.expect_repeated(0)  # it has ignored the copies
        await self._answer(offer, token, fresh=True)

    async def _answer(self, offer: RemoteDescription, token: object, *, fresh: bool) -> None:
        self._ignored = None
        restarts = self._connection.restarts_ice(offer)
        answer, changes = await self._connection.answer_offer(offer, fresh=fresh)
        if restarts:
            self._restart_wanted = False  # this one is as good as one of ours
        if fresh:
            self._late = None
        self._answer_refusable = not fresh and not self._connection.peer_is_artico_sync
        signal = self._outbox.post_description(answer, token)
        self._doubtful_answer = (self._now(), signal)
        self._last_answer = token, offer.identity, signal
        if not self._connection.peer_is_artico_sync:
            self._quiet_until = self._now() + self._settings.answer_gap
        await self._applied(changes)
        self._wake()

    async def _applied(self, changes: list[RemoteChange]) -> None:
        self._outbox.release_candidates()
        if changes:
            self._on_remote_change(changes)
        await self._candidates.release()

    # Offers of ours

    def _wake(self) -> None:
        if self._state is not _State.RUNNING or self._connection.closing:
            return
        if (self._worker is None or self._worker.done()) and self._has_work():
            self._worker = asyncio.ensure_future(self._work())

    def _has_work(self) -> bool:
        if self._offer is not None:
            # The first offer may ring for ever; how long is the session's matter.
            return self._connection.negotiated
        if self._expected.repeated:
            # JavaScript's peers drop a copy that comes while they answer: what came next would be
            # taken for the answer to it, though it is to the offer made since.
            return False
        if self._ignored is not None:
            return True
        return self._wanted and (self._connection.negotiated or not self._polite)

    async def _work(self) -> None:
        """Make offers and see them answered until nothing is wanted."""
        try:
            while self._state is _State.RUNNING and self._has_work():
                if self._offer is not None:
                    await self._await_answer(self._offer)
                elif self._ignored is not None:
                    await self._answer_ignored()
                elif (gap := self._quiet_until - self._now()) > 0:
                    await asyncio.sleep(gap)
                else:
                    await self._make_offer()
        except Exception as error:
            # Nobody awaits this task: what goes wrong here has to be said here.
            if not self._connection.closing:
                logger.error("making an offer failed", exc_info=True)
                self._wanted = False
                self._on_error(error)

    async def _make_offer(self) -> None:
        async with self._lock:
            if self._offer is not None or self._state is not _State.RUNNING:
                return
            self._wanted = False
            restart, self._restart_wanted = self._restart_wanted, False
            try:
                description = await self._connection.create_offer(restart_ice=restart)
            except InvalidStateError:
                if not self._connection.closing:
                    raise
                return
            except asyncio.CancelledError:
                self._wanted, self._restart_wanted = True, restart
                raise
            token = secrets.token_hex(4)
            signal = self._outbox.post_description(description, token)
            now = self._now()
            self._offer = _Offer(token, signal, now, asyncio.Event(), now)
            self._restarting = restart
            self._outbox.release_candidates()

    async def _await_answer(self, offer: _Offer) -> None:
        remaining = offer.made + self._expected.timeout - self._now()
        if remaining > 0:
            try:
                await asyncio.wait_for(offer.changed.wait(), remaining)
                offer.changed.clear()
                return
            except TimeoutError:
                pass
        async with self._lock:
            if self._offer is offer and self._state is _State.RUNNING:
                await self._give_up_offer()

    async def _give_up_offer(self) -> None:
        """Our offer stays unanswered: send it again, or take it back and answer theirs.

        It is the very same offer, which can be applied any number of times, so neither side can be
        mistaken in what the other has applied, however late the signals are. One of ours knows it
        by its token. Only an offer of a browser's that ours stood against is reason to take it
        back, and late: a browser that is merely slow goes on from ours.
        """
        if self._away_since is None or self._now() - self._away_since > PEER_RETURN:
            self._attempts += 1
        logger.info("an offer was not answered (attempt %d)", self._attempts)
        offer, ours = self._offer, self._connection.peer_is_artico_sync
        if not ours:
            self._expected.not_answered()
        stood_against = self._ignored is not None and not ours
        last = self._attempts >= (GIVE_WAY if stood_against else self._settings.offer_attempts)
        if offer is not None and not last:
            offer.made = self._now()
            if not stood_against:
                offer.copies += 1
                self._outbox.repeat_description(offer.signal)
            return
        await self._take_back(ignored=False)
        if self._ignored is not None:
            await self._answer_held(self._ignored)
        if self._attempts >= self._settings.offer_attempts:
            self._wanted = False
            self._attempts = 0
            self._on_error(
                NegotiationError("The peer does not answer; what was shared or unshared may not be")
            )

    async def _answer_ignored(self) -> None:
        async with self._lock:
            if self._ignored is not None and self._offer is None:
                await self._answer_held(self._ignored)

    async def _answer_held(self, ignored: RemoteDescription) -> None:
        """Answer an offer that ours stood against."""
        try:
            await self._answer(ignored, self._ignored_token, fresh=False)
        except ValueError as error:
            self._ignored = None
            logger.warning("dropped an offer: %s", error)

    async def _take_back(self, *, ignored: bool) -> None:
        """Take our offer back, to make it again; `ignored`: the peer has surely not applied it."""
        offer, self._offer = self._offer, None
        await self._connection.rollback(ignored=ignored)
        if offer is not None and not ignored:
            self._late = offer
        self._wanted = True
        self._restart_wanted = self._restart_wanted or self._restarting
        if offer is not None:
            offer.changed.set()

    def _local_candidate(self, candidate: CandidateSignal) -> None:
        # While the lock is held a description is in the making, which it may belong to.
        self._outbox.post_candidate(candidate, hold=self._lock.locked())
