"""An aiortc peer connection with rollback, rejected m-lines, stream ids and track removal.

Loop thread. aiortc's own offer/answer methods trust the peer and change the connection as they
go; ours first plan, with everything checked, and carry out the plan when nothing can fail any
more. An offer of ours changes nothing until it is answered: taking it back is forgetting it.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable

from aiortc import RTCConfiguration, RTCSessionDescription
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.bundled_connection import BundledConnection
from artico_sync._webrtc.ice.candidates import CandidateSignal, candidate_signal
from artico_sync._webrtc.rtp.transceiver import Transceiver
from artico_sync._webrtc.rtp.transceiver_set import TransceiverSet
from artico_sync._webrtc.sdp.local_tracks import LocalTracks
from artico_sync._webrtc.sdp.media_sections import MediaSection, PlannedSection, RemoteChange
from artico_sync._webrtc.sdp.offer_answer import apply_answer, identifiers_in_use, plan_answer
from artico_sync._webrtc.sdp.parser import DescriptionError, RemoteDescription
from artico_sync._webrtc.sdp.recycling import retire_in_answer, retire_in_offer
from artico_sync._webrtc.sdp.rtp_ids import RtpIdAllocator
from artico_sync._webrtc.sdp.stale_offer import StaleOffer
from artico_sync._webrtc.sdp.writer import ORIGIN, DescriptionWriter

logger = logging.getLogger(__name__)


class PeerConnection(BundledConnection):
    """One connection to a peer; everything goes over one transport.

    Use `create_offer`, `accept_answer`, `answer_offer`, `rollback` and the methods for local
    tracks in place of aiortc's `createOffer`, `setLocalDescription`, `addTrack` and so on.
    """

    def __init__(
        self,
        configuration: RTCConfiguration | None,
        settings: Settings,
        certificate: RTCCertificate | None = None,
    ) -> None:
        super().__init__(configuration, settings, certificate, self._local_candidate)
        #: Takes each local candidate found after the description it belongs to was made.
        self.on_candidate: Callable[[CandidateSignal], None] | None = None
        cname = self._RTCPeerConnection__cname
        self._streams = TransceiverSet(
            self._transports, self._RTCPeerConnection__transceivers, cname, self._spawn
        )
        self._local = LocalTracks(self._streams.new_sender)
        self._writer = DescriptionWriter(self._transports, cname)
        self._mids = itertools.count()
        self._lines: list[MediaSection] = []
        self._plan: list[PlannedSection] = []
        self._unanswered = StaleOffer()
        # The payload types and header-extension ids that have or had a meaning.
        self._identifiers = RtpIdAllocator()
        self._remote: RemoteDescription | None = None
        # Our ICE username as of the last negotiation; another one in a description restarts ICE.
        self._username: str | None = None
        self._establishing = False

    @property
    def transceivers(self) -> list[Transceiver]:
        """The senders and receivers of the audio and video m-sections in use."""
        return self._RTCPeerConnection__transceivers

    # State

    @property
    def negotiated(self) -> bool:
        """Whether an offer has been answered, either way."""
        return self._remote is not None

    @property
    def peer_is_artico_sync(self) -> bool:
        """Whether the other end is one of these, and not a browser."""
        return self._remote is not None and self._remote.origin.startswith(f"{ORIGIN} ")

    @property
    def remote_username(self) -> str | None:
        """The ICE username fragment of the last description of the peer's."""
        if self._remote is None or self._remote.ice is None:
            return None
        return self._remote.ice.usernameFragment

    # Local tracks

    def add_local_track(self, track: MediaStreamTrack, stream_id: str) -> None:
        """Share a track from the next offer on; the peer sees the track's id and `stream_id`.

        Raises:
            ValueError: One of the ids cannot go over the wire.
            InvalidStateError: It is shared already.
        """
        self._local.add(track, stream_id)

    def remove_local_track(self, track: MediaStreamTrack) -> bool:
        """Stop sending a track at once; the next offer tells the peer. False: it was not there."""
        return self._local.remove(track)

    def replace_local_track(self, old: MediaStreamTrack, new: MediaStreamTrack) -> bool:
        """Send another track in the place of one; no negotiation. False: it was not there.

        Raises:
            ValueError: They are of different kinds.
            InvalidStateError: The new one is shared already.
        """
        return self._local.replace(old, new, [*self._plan, *self._unanswered.plan])

    # Offers of ours

    async def create_offer(self, *, restart_ice: bool = False) -> RTCSessionDescription:
        """Make an offer and become `have-local-offer`.

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
        self._plan = plan
        self._set_state("have-local-offer")
        return description

    def _plan_offer(self) -> list[PlannedSection]:
        plan = [
            PlannedSection(line, line.codecs, line.extensions, accepted=not line.rejected)
            for line in self._lines
        ]
        if self._unanswered.follows(self._lines):
            plan = self._unanswered.repeat(plan)
        with_data = any(p.accepted and p.line.kind == "application" for p in plan)
        if self._transports.sctp is not None and not with_data:
            plan.append(PlannedSection(MediaSection(self._new_mid(), "application", ours=True)))
        self._local.plan(
            plan,
            self._identifiers.copy(),
            self._new_mid,
            self._settings.maximum_media_lines,
        )
        retire_in_offer(plan, peer_is_artico_sync=self.peer_is_artico_sync)
        return plan

    def _new_mid(self) -> str:
        """A mid no m-line has had, and none that the other side gives at the same moment.

        Browsers count 0, 1, 2. Were both sides to give one mid to different m-lines, the one
        that takes its offer back would find the other's numbers on it, which Chromium refuses.
        """
        prefix = "a" if self._transports.controlling else "b"
        taken = {line.mid for line in self._lines}
        return next(mid for n in self._mids if (mid := f"{prefix}{n}") not in taken)

    async def rollback(self, *, ignored: bool = True) -> None:
        """Take back an offer of ours; harmless when there is none.

        Args:
            ignored: The peer has certainly not applied it. Otherwise it may have: the next
                offer gives the same mids to the same m-lines, and `accept_late_answer` works.
        """
        if self.signalingState != "have-local-offer":
            return
        if ignored:
            await self._transports.ice.cancel_restart()
        else:
            # An ICE restart stays prepared: the peer that has applied the offer knows no other
            # credentials of ours any more.
            username = self._transports.username
            self._unanswered = StaleOffer(self._plan, list(self._lines), username)
        self._forget_offer()

    def _forget_offer(self) -> None:
        self._plan = []
        if not self.negotiated:
            self._transports.unset_role()
        self._set_state("stable")

    async def accept_answer(self, answer: RemoteDescription) -> list[RemoteChange]:
        """Apply the answer to the offer made last.

        Raises:
            DescriptionError: It does not answer that offer; nothing has changed.
            InvalidStateError: No offer of ours is open.
        """
        self._assert_state("have-local-offer")
        self._check_transport(answer)
        if self.restarts_ice(answer) and self._transports.username == self._username:
            raise DescriptionError("the answer restarts ICE, the offer did not")
        plan = [dataclasses.replace(planned) for planned in self._plan]
        apply_answer(plan, answer)
        return await self._accept(plan, answer)

    def is_withheld_from(self, answer: RemoteDescription) -> bool:
        """Whether the peer has put tracks on m-lines that asked for none.

        A browser does that with tracks that are added while it answers, and takes its answer,
        which only names them, for the end of the matter: it needs another offer to send them.
        """
        return any(
            planned.sends and planned.line.transceiver is None and line.stream_ids
            for planned, line in zip(self._plan, answer.lines, strict=False)
            if planned.line.is_media and not line.sends
        )

    @property
    def late_answer_undoes(self) -> bool:
        """Whether `accept_late_answer` would take something back: the peer has seen other m-lines
        than those that are to be offered now."""
        return not self._unanswered.follows(self._lines)

    def misses_restart(self, answer: RemoteDescription) -> bool:
        """Whether a late answer is to an ICE restart given up since, so that another is needed."""
        return self.restarts_ice(answer) and self._unanswered.username != self._transports.username

    async def accept_late_answer(self, answer: RemoteDescription) -> list[RemoteChange]:
        """Apply the answer to an offer that was taken back for want of one.

        What came since then, an offer of the peer's that it has itself taken back, is undone. An
        offer of ours made since stays open, if the peer can apply it: the state tells.

        Raises:
            DescriptionError: It does not answer that offer; nothing has changed.
            InvalidStateError: Closed.
        """
        self._assert_open()
        self._check_transport(answer)
        plan = [dataclasses.replace(planned) for planned in self._unanswered.plan]
        apply_answer(plan, answer)
        pending, username = self._plan, self._transports.username
        if self.signalingState == "have-local-offer":
            self._forget_offer()
        kept = [planned.line for planned in plan]
        changes = [
            change
            for line in self._lines
            if line.is_media and line not in kept
            for change in self._streams.reject(PlannedSection(line, accepted=False))
        ]
        changes += await self._accept(plan, answer)
        late = StaleOffer(pending, list(self._lines), self._transports.username)
        if pending and late.is_consistent:
            # The peer is about to answer this one as well.
            if username == self._transports.username:
                self._plan = pending
                self._set_state("have-local-offer")
            else:
                self._unanswered = late
        return changes

    async def _accept(
        self, plan: list[PlannedSection], answer: RemoteDescription
    ) -> list[RemoteChange]:
        if answer.dtls is not None:
            theirs = answer.dtls.role
            self._transports.dtls._set_role("server" if theirs == "client" else "client")
        self._plan, self._unanswered = [], StaleOffer()
        self._set_state("stable")
        return await self._carry_out(plan, answer)

    # Offers of the peer

    async def answer_offer(
        self, offer: RemoteDescription, *, fresh: bool = True
    ) -> tuple[RTCSessionDescription, list[RemoteChange]]:
        """Apply an offer and make the answer to it.

        Args:
            fresh: It came just now, so the peer has not applied what we offered before.

        Raises:
            DescriptionError: It cannot be applied; nothing has changed.
            InvalidStateError: Closed, or not `stable`.
        """
        self._assert_state("stable")
        self._check_transport(offer)
        plan = plan_answer(self._lines, offer)
        ice, dtls = self._transports.ice, self._transports.dtls
        self._set_state("have-remote-offer")
        try:
            if self.restarts_ice(offer):
                await ice.prepare_restart()
            elif self.negotiated and (
                self._returns(offer) or self._transports.username != self._username
            ):
                # A restart that the peer has given up; or one of ours that was offered and taken
                # back, which the peer does not know.
                await ice.cancel_restart()
            await ice.iceGatherer.gather()
            self._assert_state("have-remote-offer")
        except BaseException:
            self._set_state("stable")
            raise
        self._transports.set_controlling(bool(offer.ice and offer.ice.iceLite))
        if dtls._role == "auto":
            dtls._set_role("server" if offer.dtls and offer.dtls.role == "client" else "client")
        if fresh:
            self._unanswered = StaleOffer()
            retire_in_answer(plan, offer)
        description = self._writer.answer(plan, offer)
        self._set_state("stable")
        return description, await self._carry_out(plan, offer)

    def restarts_ice(self, remote: RemoteDescription) -> bool:
        """Whether a description of the peer's wants a new network path."""
        return self._has_other_credentials(remote) and not self._returns(remote)

    def _returns(self, remote: RemoteDescription) -> bool:
        """Whether the peer has given up a restart and goes back to the path in use."""
        if remote.ice is None or not self._has_other_credentials(remote):
            return False
        return self._transports.ice.is_connected_to(remote.ice)

    def _has_other_credentials(self, remote: RemoteDescription) -> bool:
        if self._remote is None or self._remote.ice is None or remote.ice is None:
            return False
        old, new = self._remote.ice, remote.ice
        return (old.usernameFragment, old.password) != (new.usernameFragment, new.password)

    def _check_transport(self, remote: RemoteDescription) -> None:
        """One DTLS association lives as long as the connection: nobody may take it over."""
        if self._remote is None or self._remote.dtls is None or remote.dtls is None:
            return
        if remote.fingerprints != self._remote.fingerprints:
            raise DescriptionError("the DTLS fingerprint changed")
        theirs = {"client": "server", "server": "client"}.get(self._transports.dtls._role)
        if remote.dtls.role not in ("auto", theirs):
            raise DescriptionError("the DTLS role changed")

    # Both

    async def _carry_out(
        self, plan: list[PlannedSection], remote: RemoteDescription
    ) -> list[RemoteChange]:
        """Make a plan real; from here on nothing may fail."""
        restarted, returned = self.restarts_ice(remote), self._returns(remote)
        changes: list[RemoteChange] = []
        self._lines = [planned.line for planned in plan]
        for planned, theirs in zip(plan, remote.lines, strict=True):
            line = planned.line
            line.remote_line, line.rejected = theirs, not planned.accepted
            if line.is_media and planned.accepted:
                changes += self._streams.accept(planned, theirs)
            elif line.is_media:
                changes += self._streams.reject(planned)
            elif planned.accepted:
                self._transports.negotiate_data(theirs)
                self._data_transport()
        self._remote = remote
        identifiers = identifiers_in_use(self._lines, remote)
        identifiers.recall(self._identifiers)
        self._identifiers = identifiers
        if remote.ice is not None and remote.dtls is not None:
            if restarted:
                offered, with_browser = remote.type == "answer", not self.peer_is_artico_sync
                self._transports.finish_restart(
                    remote.ice, offered=offered, with_browser=with_browser
                )
            elif returned or self._transports.username != self._username:
                # The peer has given its restart up, or does not know restarts.
                await self._transports.ice.cancel_restart()
            self._username = self._transports.username
            await self._carry_out_transport(remote.ice, remote.dtls)
            for candidate in remote.candidates:
                await self.add_candidate(candidate)
        return changes

    async def _carry_out_transport(self, ice: RTCIceParameters, dtls: RTCDtlsParameters) -> None:
        if not self._establishing:
            self._establishing = True
            self._spawn(self._establish(ice, dtls))
        else:
            await self._start()

    async def _establish(self, ice: RTCIceParameters, dtls: RTCDtlsParameters) -> None:
        await self._transports.establish(ice, dtls)
        await self._start()

    async def _start(self) -> None:
        await self._transports.start_data()
        await self._streams.start(self._lines)

    # Candidates

    async def add_candidate(self, candidate: RTCIceCandidate) -> None:
        """Try a candidate of the peer's."""
        await self._transports.ice.addRemoteCandidate(candidate)

    def _local_candidate(self, candidate: RTCIceCandidate) -> None:
        lines = [planned.line for planned in self._plan] or self._lines
        username = self._transports.username
        if self.on_candidate is None or self.closing or username is None:
            return
        for index, line in enumerate(lines):
            if not line.rejected:
                self.on_candidate(candidate_signal(candidate, line.mid, index, username))
                return
