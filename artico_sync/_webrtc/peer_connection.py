"""A connection to one peer, and its offer/answer state machine (RFC 8829, JSEP).

Every description is checked and planned first, and the plan is applied only when nothing can fail
any more. A local offer changes nothing until it is answered, so that a rollback only forgets it.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import uuid
from collections.abc import Callable

from aiortc import RTCConfiguration, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.bundled_connection import BundledConnection
from artico_sync._webrtc.ice.candidates import CandidateSignal, candidate_signal
from artico_sync._webrtc.rtp.transceiver_set import TransceiverSet
from artico_sync._webrtc.sdp.media_sections import (
    LocalTracks,
    MediaSection,
    PlannedSection,
    RemoteChange,
)
from artico_sync._webrtc.sdp.offer_answer import (
    AnswerTo,
    Outcome,
    StaleOffer,
    apply_answer,
    has_unoffered_tracks,
    plan_answer,
    reject_unused_in_answer,
    reject_unused_in_offer,
    rtp_ids_in_use,
)
from artico_sync._webrtc.sdp.parser import DescriptionError, RemoteDescription
from artico_sync._webrtc.sdp.rtp_ids import RtpIdAllocator
from artico_sync._webrtc.sdp.writer import ORIGIN, DescriptionWriter

logger = logging.getLogger(__name__)


class PeerConnection(BundledConnection):
    """Makes offers, answers them, and applies what both sides have agreed on.

    Large because local tracks, offers and answers meet here; each has a class for the work.

    Attributes:
        on_candidate: Called with each local candidate found after its description was made.
    """

    def __init__(
        self,
        configuration: RTCConfiguration | None,
        settings: Settings,
        certificate: RTCCertificate | None = None,
    ) -> None:
        super().__init__(configuration, settings, certificate, self._on_local_candidate)
        self.on_candidate: Callable[[CandidateSignal], None] | None = None
        # Ties the RTP streams of this end together (RFC 3550 6.5.1).
        cname = str(uuid.uuid4())
        self._media = TransceiverSet(self._transports, self.transceivers, cname, self._spawn)
        self._local_tracks = LocalTracks(self._media.new_sender)
        self._writer = DescriptionWriter(self._transports, cname)
        self._mids = itertools.count()
        self._sections: list[MediaSection] = []
        self._pending_plan: list[PlannedSection] = []
        self._stale_offer = StaleOffer()
        # The payload types and header extension ids that have or had a meaning.
        self._rtp_ids = RtpIdAllocator()
        self._remote: RemoteDescription | None = None
        # The local ufrag as of the last negotiation; another one in a description restarts ICE.
        self._negotiated_ufrag: str | None = None
        self._is_establishing = False

    # Its state

    @property
    def negotiated(self) -> bool:
        """True once an offer of either side has been answered."""
        return self._remote is not None

    @property
    def peer_is_artico_sync(self) -> bool:
        """True if the peer runs this library, and no browser."""
        return self._remote is not None and self._remote.origin.startswith(f"{ORIGIN} ")

    @property
    def remote_username(self) -> str | None:
        """The ufrag in the peer's last description."""
        if self._remote is None or self._remote.ice is None:
            return None
        return self._remote.ice.usernameFragment

    # Local tracks

    def add_local_track(self, track: MediaStreamTrack, stream_id: str) -> None:
        """Share a track with the next offer; the peer sees the track's id and `stream_id`.

        Raises:
            ValueError: One of the ids cannot be written into a description.
            InvalidStateError: It is shared already.
        """
        self._local_tracks.add(track, stream_id)

    def remove_local_track(self, track: MediaStreamTrack) -> bool:
        """Stop sending a track at once, and offer that; return False if it was not shared."""
        return self._local_tracks.remove(track)

    def replace_local_track(self, old: MediaStreamTrack, new: MediaStreamTrack) -> bool:
        """Send another track in place of one, without an offer; return False if it is not shared.

        Raises:
            ValueError: They are of different kinds.
            InvalidStateError: The new one is shared already.
        """
        plan = [*self._pending_plan, *self._stale_offer.plan]
        return self._local_tracks.replace(old, new, plan)

    # Local offers

    async def create_offer(self, *, restart_ice: bool = False) -> RTCSessionDescription:
        """Make an offer and enter `have-local-offer`.

        Raises:
            InvalidStateError: Closed, not `stable`, or there is nothing to offer.
        """
        self._assert_state("stable")
        ice = self._transports.ice
        if restart_ice and self.negotiated:
            await ice.prepare_restart()
        await ice.iceGatherer.gather()
        self._assert_state("stable")
        self._transports.set_controlling(True)
        plan = self._plan_offer()
        if not plan:
            raise InvalidStateError("there is nothing to offer")
        description = self._writer.offer(plan)
        self._pending_plan = plan
        self._set_state("have-local-offer")
        return description

    def _plan_offer(self) -> list[PlannedSection]:
        plan = [
            PlannedSection(
                section, section.codecs, section.extensions, accepted=not section.rejected
            )
            for section in self._sections
        ]
        if self._stale_offer.follows(self._sections):
            plan = self._stale_offer.repeat(plan)
        with_data = any(p.accepted and p.section.kind == "application" for p in plan)
        if self._transports.sctp is not None and not with_data:
            plan.append(
                PlannedSection(MediaSection(self._new_mid(), "application", locally_offered=True))
            )
        self._local_tracks.assign_sections(
            plan, self._rtp_ids.copy(), self._new_mid, self._settings.maximum_media_lines
        )
        reject_unused_in_offer(plan, peer_is_artico_sync=self.peer_is_artico_sync)
        return plan

    def _new_mid(self) -> str:
        """Return a mid that no m-section has had, and that the peer does not assign either.

        Browsers count 0, 1, 2. With the same mid on different m-sections, the side that rolls back
        would find the other's RTP ids on its own, which Chromium refuses.
        """
        prefix = "a" if self._transports.controlling else "b"
        taken = {section.mid for section in self._sections}
        return next(mid for n in self._mids if (mid := f"{prefix}{n}") not in taken)

    async def rollback(self, *, ignored: bool = True) -> None:
        """Withdraw the pending local offer; has no effect if there is none.

        Args:
            ignored: The peer has certainly not applied it. Otherwise it may have: the next
                offer gives the same mids to the same m-sections, and a late answer is accepted.
        """
        if self.signaling_state != "have-local-offer":
            return
        if ignored:
            await self._transports.ice.cancel_restart()
        else:
            # A prepared ICE restart stays: a peer that has applied the offer knows no other
            # local credentials any more.
            self._stale_offer = self._stale(self._pending_plan)
        self._forget_offer()

    def _stale(self, plan: list[PlannedSection]) -> StaleOffer:
        return StaleOffer(plan, list(self._sections), self._transports.username)

    def _forget_offer(self) -> None:
        self._pending_plan = []
        if not self.negotiated:
            self._transports.unset_role()
        self._set_state("stable")

    # Remote answers

    async def apply_answer(
        self, answer: RemoteDescription, *, to_pending: bool = True, to_stale: bool = False
    ) -> Outcome:
        """Apply an answer to the pending offer or to one that was rolled back, and decide which.

        Args:
            answer: The peer's answer.
            to_pending: It may answer the pending offer.
            to_stale: It may answer the last offer that was rolled back. An answer that names its
                offer may be to one of them only.

        Returns:
            The outcome. If the answer cannot be applied, nothing has changed; `error` says why.

        Raises:
            InvalidStateError: The connection is closed.
        """
        self._assert_open()
        outcome = Outcome()
        if to_pending:
            outcome = await self._apply_to_pending(answer, may_be_stale=to_stale)
        if to_stale and outcome.answer_to is AnswerTo.NONE:
            pending = self.signaling_state == "have-local-offer"
            if pending and not to_pending and self._stale_offer.follows(self._sections):
                # The peer is about to answer the pending offer, which repeats the stale one.
                return Outcome(is_superseded=True)
            return await self._apply_to_stale(answer, restart_ice=outcome.restart_ice)
        return outcome

    async def _apply_to_pending(self, answer: RemoteDescription, *, may_be_stale: bool) -> Outcome:
        offer_again = has_unoffered_tracks(self._pending_plan, answer) or may_be_stale
        try:
            self._assert_state("have-local-offer")
            self._check_transport(answer)
            if self._restarts_ice(answer) and self._transports.username == self._negotiated_ufrag:
                raise DescriptionError("the answer restarts ICE, the offer did not")
            plan = [dataclasses.replace(planned) for planned in self._pending_plan]
            apply_answer(plan, answer)
        except (DescriptionError, InvalidStateError) as error:
            return Outcome(restart_ice=self._restarts_ice(answer), error=error)
        changes = await self._accept(plan, answer)
        return Outcome(AnswerTo.PENDING, changes, offer_again=offer_again)

    async def _apply_to_stale(self, answer: RemoteDescription, *, restart_ice: bool) -> Outcome:
        """Apply a late answer, and undo the peer's offer applied since, which it has rolled back.

        A local offer made since stays pending if the peer can apply it.
        """
        stale = self._stale_offer
        missed_restart = self._restarts_ice(answer) and stale.username != self._transports.username
        try:
            self._check_transport(answer)
            plan = [dataclasses.replace(planned) for planned in stale.plan]
            apply_answer(plan, answer)
        except DescriptionError as error:
            return Outcome(restart_ice=restart_ice, error=error)
        pending, ufrag = self._pending_plan, self._transports.username
        if self.signaling_state == "have-local-offer":
            self._forget_offer()
        remaining = [planned.section for planned in plan]
        changes = [
            change
            for section in self._sections
            if section.is_media and section not in remaining
            for change in self._media.reject(PlannedSection(section, accepted=False))
        ]
        changes += await self._accept(plan, answer)
        later = self._stale(pending)
        if pending and later.is_consistent:
            # The peer is about to answer the pending offer as well.
            if ufrag == self._transports.username:
                self._pending_plan = pending
                self._set_state("have-local-offer")
            else:
                self._stale_offer = later
        return Outcome(
            AnswerTo.STALE,
            changes,
            offer_again=True,
            restart_ice=restart_ice or missed_restart,
            pending_stands=self.signaling_state == "have-local-offer",
        )

    async def _accept(
        self, plan: list[PlannedSection], answer: RemoteDescription
    ) -> list[RemoteChange]:
        if answer.dtls is not None:
            self._transports.dtls.role = "server" if answer.dtls.role == "client" else "client"
        self._pending_plan, self._stale_offer = [], StaleOffer()
        self._set_state("stable")
        return await self._apply_plan(plan, answer)

    # Remote offers

    async def answer_offer(self, offer: RemoteDescription, *, fresh: bool = True) -> Outcome:
        """Apply an offer and make the answer to it.

        Args:
            offer: The peer's offer.
            fresh: It has just arrived, so the peer has not applied earlier local offers.

        Returns:
            The outcome, with the `answer` to send.

        Raises:
            DescriptionError: It cannot be applied; nothing has changed.
            InvalidStateError: Closed, or not `stable`.
        """
        self._assert_state("stable")
        self._check_transport(offer)
        plan = plan_answer(self._sections, offer)
        restarts_ice = self._restarts_ice(offer)
        ice, dtls = self._transports.ice, self._transports.dtls
        self._set_state("have-remote-offer")
        try:
            if restarts_ice:
                await ice.prepare_restart()
            elif self.negotiated and (
                self._returns_to_old_path(offer)
                or self._transports.username != self._negotiated_ufrag
            ):
                # The peer has given up a restart, or does not know a local one that was rolled
                # back.
                await ice.cancel_restart()
            await ice.iceGatherer.gather()
            self._assert_state("have-remote-offer")
        except BaseException:
            self._set_state("stable")
            raise
        self._transports.set_controlling(bool(offer.ice and offer.ice.iceLite))
        if dtls.role == "auto":
            dtls.role = "server" if offer.dtls and offer.dtls.role == "client" else "client"
        if fresh:
            self._stale_offer = StaleOffer()
            reject_unused_in_answer(plan, offer)
        answer = self._writer.answer(plan, offer)
        self._set_state("stable")
        changes = await self._apply_plan(plan, offer)
        return Outcome(changes=changes, answer=answer, restarted_ice=restarts_ice)

    def _restarts_ice(self, remote: RemoteDescription) -> bool:
        """Return True if a description asks for a new network path."""
        return self._has_other_credentials(remote) and not self._returns_to_old_path(remote)

    def _returns_to_old_path(self, remote: RemoteDescription) -> bool:
        """Return True if the peer has given up a restart and goes back to the path in use."""
        if remote.ice is None or not self._has_other_credentials(remote):
            return False
        return self._transports.ice.is_connected_to(remote.ice)

    def _has_other_credentials(self, remote: RemoteDescription) -> bool:
        if self._remote is None or self._remote.ice is None or remote.ice is None:
            return False
        old, new = self._remote.ice, remote.ice
        return (old.usernameFragment, old.password) != (new.usernameFragment, new.password)

    def _check_transport(self, remote: RemoteDescription) -> None:
        """Refuse another DTLS peer: an association lives as long as the connection."""
        if self._remote is None or self._remote.dtls is None or remote.dtls is None:
            return
        if remote.fingerprints != self._remote.fingerprints:
            raise DescriptionError("the DTLS fingerprint changed")
        expected = {"client": "server", "server": "client"}.get(self._transports.dtls.role)
        if remote.dtls.role not in ("auto", expected):
            raise DescriptionError("the DTLS role changed")

    # Both

    async def _apply_plan(
        self, plan: list[PlannedSection], remote: RemoteDescription
    ) -> list[RemoteChange]:
        """Apply a plan; nothing may fail from here on."""
        restarts, returns = self._restarts_ice(remote), self._returns_to_old_path(remote)
        changes: list[RemoteChange] = []
        self._sections = [planned.section for planned in plan]
        for planned, theirs in zip(plan, remote.sections, strict=True):
            section = planned.section
            section.remote_section, section.rejected = theirs, not planned.accepted
            if section.is_media and planned.accepted:
                changes += self._media.accept(planned, theirs)
            elif section.is_media:
                changes += self._media.reject(planned)
            elif planned.accepted:
                self._transports.negotiate_data(theirs)
                self._data_transport()
        self._remote = remote
        rtp_ids = rtp_ids_in_use(self._sections, remote)
        rtp_ids.reserve_from(self._rtp_ids)
        self._rtp_ids = rtp_ids
        if remote.ice is not None and remote.dtls is not None:
            await self._apply_credentials(remote, remote.ice, restarts=restarts, returns=returns)
            await self._connect(remote.ice, remote.dtls)
            for candidate in remote.candidates:
                await self.add_candidate(candidate)
        return changes

    async def _apply_credentials(
        self, remote: RemoteDescription, ice: RTCIceParameters, *, restarts: bool, returns: bool
    ) -> None:
        if restarts:
            self._transports.finish_restart(
                ice, offered=remote.type == "answer", with_browser=not self.peer_is_artico_sync
            )
        elif returns or self._transports.username != self._negotiated_ufrag:
            # The peer has given its restart up, or does not support restarts.
            await self._transports.ice.cancel_restart()
        self._negotiated_ufrag = self._transports.username

    async def _connect(self, ice: RTCIceParameters, dtls: RTCDtlsParameters) -> None:
        if not self._is_establishing:
            self._is_establishing = True
            self._spawn(self._establish(ice, dtls))
        else:
            await self._start()

    async def _establish(self, ice: RTCIceParameters, dtls: RTCDtlsParameters) -> None:
        await self._transports.establish(ice, dtls)
        await self._start()

    async def _start(self) -> None:
        await self._transports.start_data()
        await self._media.start(self._sections)

    # Candidates

    async def add_candidate(self, candidate: RTCIceCandidate) -> None:
        """Check a candidate of the peer."""
        await self._transports.ice.addRemoteCandidate(candidate)

    def _on_local_candidate(self, candidate: RTCIceCandidate) -> None:
        sections = [planned.section for planned in self._pending_plan] or self._sections
        ufrag = self._transports.username
        if self.on_candidate is None or self.closing or ufrag is None:
            return
        for index, section in enumerate(sections):
            if not section.rejected:
                self.on_candidate(candidate_signal(candidate, section.mid, index, ufrag))
                return
