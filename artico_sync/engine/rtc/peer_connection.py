"""An aiortc peer connection with rollback, rejected m-lines, stream ids and track removal.

Loop thread. aiortc's own offer/answer methods trust the peer and change the connection as they
go; ours first plan, with everything checked, and carry out the plan when nothing can fail any
more. An offer of ours changes nothing until it is answered: taking it back is forgetting it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, sdp
from aiortc.codecs import CODECS, HEADER_EXTENSIONS
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsParameters, RTCDtlsTransport
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters, RTCIceTransport
from aiortc.rtcpeerconnection import (
    create_media_description_for_sctp,
    find_common_codecs,
    find_common_header_extensions,
)
from aiortc.rtcrtpparameters import RTCRtcpParameters, RTCRtpSendParameters
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.rtcsctptransport import RTCSctpCapabilities

from ..settings import Settings
from .candidates import CandidateSignal, candidate_signal
from .dtls import DtlsTransport
from .descriptions import DescriptionError, RemoteDescription, RemoteLine
from .ice import IceTransport, create_ice_transport
from .identifiers import Identifiers, order_codecs
from .media_lines import (
    DISCARD_HOST,
    DISCARD_PORT,
    LocalTrack,
    MediaLine,
    PlannedLine,
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
    direction,
    media_section,
    payload_types,
    random_id,
    receive_parameters,
    rejected_section,
    remote_sources,
)
from .rtp_receiver import RtpReceiver
from .rtp_sender import RtpSender
from .sctp import SctpTransport
from .sctp import SctpTransport

logger = logging.getLogger(__name__)

#: What the origin line of our descriptions begins with, by which we know our own kind.
ORIGIN = "artico_sync"
#: What RFC 8841 and RFC 8831 say when the peer does not.
DEFAULT_SCTP_PORT = 5000
DEFAULT_MESSAGE_SIZE = 65536


class PeerConnection(RTCPeerConnection):
    """One connection to a peer; everything goes over one transport.

    Use `create_offer`, `accept_answer`, `answer_offer` and `rollback` in place of aiortc's
    `createOffer`, `setLocalDescription` and so on.
    """

    # What is aiortc's own; tests/test_rtc_private_names.py fails when a name goes.
    _RTCPeerConnection__certificates: list[RTCCertificate]
    _RTCPeerConnection__cname: str
    _RTCPeerConnection__configuration: RTCConfiguration
    _RTCPeerConnection__dtlsTransports: set[RTCDtlsTransport]
    _RTCPeerConnection__iceTransports: set[RTCIceTransport]
    _RTCPeerConnection__isClosed: asyncio.Future[bool] | None
    _RTCPeerConnection__sctp: SctpTransport | None
    _RTCPeerConnection__transceivers: list[RTCRtpTransceiver]
    _RTCPeerConnection__setSignalingState: Callable[[str], None]
    _RTCPeerConnection__updateConnectionState: Callable[[], None]
    _RTCPeerConnection__updateIceConnectionState: Callable[[], None]
    _RTCPeerConnection__updateIceGatheringState: Callable[[], None]

    on_candidate: Callable[[CandidateSignal], None] | None

    def __init__(self, configuration: RTCConfiguration | None, settings: Settings) -> None:
        super().__init__(configuration or RTCConfiguration())
        self.on_candidate = None
        self._settings = settings
        self._lines: list[MediaLine] = []
        self._local: dict[int, LocalTrack] = {}
        self._plan: list[PlannedLine] | None = None
        self._remote: RemoteDescription | None = None
        self._dtls: DtlsTransport | None = None
        self._origin = f"{ORIGIN} {secrets.randbits(62)}"
        self._versions = itertools.count(1)
        self._mids = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._establishing: asyncio.Task[None] | None = None
        self._lost = False
        self._streams_lock = asyncio.Lock()
        self._sctp_parameters: tuple[RTCSctpCapabilities, int] | None = None

    # State

    @property
    def closing(self) -> bool:
        return self._RTCPeerConnection__isClosed is not None

    @property
    def negotiated(self) -> bool:
        """Whether an offer has been answered, either way."""
        return self._remote is not None

    @property
    def peer_is_ours(self) -> bool:
        return self._remote is not None and self._remote.origin.startswith(f"{ORIGIN} ")

    @property
    def lost(self) -> bool:
        """Whether the path to the peer was given up, rather than closed by either side."""
        return self._lost

    @property
    def sctp_transport(self) -> SctpTransport:
        """The transport of the data channels."""
        return self._data_transport()

    def _assert_state(self, wanted: str) -> None:
        if self.closing:
            raise InvalidStateError("the connection is closed")
        if self.signalingState != wanted:
            raise InvalidStateError(f"not possible in {self.signalingState!r}")

    # Local tracks

    def add_local_track(
        self, track: MediaStreamTrack, stream_id: str, codec: str | None = None
    ) -> None:
        """Share a track from the next offer on.

        Args:
            track: The track; its id is what the peer sees.
            stream_id: Id of the stream it belongs to, as the peer sees it.
            codec: The wanted codec, as a MIME type such as "video/H264".
        """
        if id(track) in self._local:
            raise InvalidStateError("the track is shared already")
        self._local[id(track)] = LocalTrack(track, stream_id, track.id, codec)

    def remove_local_track(self, track: MediaStreamTrack) -> bool:
        """Stop sending a track at once; the next offer tells the peer. False: it was not there."""
        local = self._local.pop(id(track), None)
        if local is None:
            return False
        local.removed = True
        line = local.line
        if line is not None and line.local is local:
            line.local = None
            if line.transceiver is not None:
                line.transceiver.sender.replaceTrack(None)
        return True

    def replace_local_track(self, old: MediaStreamTrack, new: MediaStreamTrack) -> bool:
        """Send another track in the place of one; no negotiation. False: it was not there."""
        local = self._local.get(id(old))
        if local is None or (new is not old and id(new) in self._local):
            return False
        del self._local[id(old)]
        local.track = new
        self._local[id(new)] = local
        sender = self._sender_of(local)
        if sender is not None:
            sender.replaceTrack(new)
        return True

    def sender_of(self, track: MediaStreamTrack) -> RtpSender | None:
        """What sends a shared track, if it has been negotiated."""
        local = self._local.get(id(track))
        return None if local is None else self._sender_of(local)

    def _sender_of(self, local: LocalTrack) -> RtpSender | None:
        for planned in self._plan or ():
            if planned.local is local:
                return planned.sender
        if local.line is None or local.line.transceiver is None:
            return None
        sender = local.line.transceiver.sender
        assert isinstance(sender, RtpSender)
        return sender

    # Offers of ours

    async def create_offer(self, *, restart_ice: bool = False) -> RTCSessionDescription:
        """Make an offer and become `have-local-offer`.

        Raises:
            InvalidStateError: Closed, or not `stable`.
        """
        self._assert_state("stable")
        ice = self.ice_transport
        if restart_ice and self.negotiated:
            await prepare_restart(ice)
        await ice.iceGatherer.gather()
        self._assert_state("stable")
        plan = self._plan_offer()
        if not plan:
            raise InvalidStateError("there is nothing to offer")
        if not ice._role_set:
            ice._connection.ice_controlling = True
            ice._role_set = True
        description = self._describe("offer", plan, None)
        self._plan = plan
        self._RTCPeerConnection__setSignalingState("have-local-offer")
        return description

    def _plan_offer(self) -> list[PlannedLine]:
        plan = [PlannedLine(line, line.codecs, line.extensions) for line in self._lines]
        for planned in plan:
            planned.accepted = not planned.line.rejected
        identifiers = self._identifiers()
        sctp = self._RTCPeerConnection__sctp
        if sctp is not None and not any(
            planned.line.kind == "application" and planned.accepted for planned in plan
        ):
            plan.append(PlannedLine(MediaLine(self._new_mid(), "application", ours=True)))
        for local in self._local.values():
            if local.line is None:
                self._plan_local(local, plan, identifiers)
        return plan

    def _plan_local(
        self, local: LocalTrack, plan: list[PlannedLine], identifiers: Identifiers
    ) -> None:
        """Give a track that is new an m-line, an idle one of its own or one more."""
        sender = self._new_sender(local)
        for planned in plan:
            if planned.local is None and planned.line.reusable_for(local, self.peer_is_ours):
                planned.local, planned.sender = local, sender
                planned.codecs = order_codecs(planned.codecs, local.codec)
                return
        if len(plan) >= self._settings.maximum_media_lines:
            logger.warning("a track is not shared: the call has %d m-lines", len(plan))
            return
        kind = local.track.kind
        plan.append(
            PlannedLine(
                MediaLine(self._new_mid(), kind, ours=True),
                identifiers.codecs(kind, local.codec),
                identifiers.extensions(kind),
                local,
                sender,
            )
        )

    def _identifiers(self) -> Identifiers:
        identifiers = Identifiers()
        for line in self._lines:
            identifiers.note(line.codecs, line.extensions)
        for remote in self._remote.lines if self._remote is not None else ():
            identifiers.note(remote.media.rtp.codecs, remote.media.rtp.headerExtensions)
        return identifiers

    def _new_mid(self) -> str:
        """A mid no m-line has had, and none that the other side gives at the same moment.

        Browsers count 0, 1, 2. Were both sides to give one mid to different m-lines, the one
        that takes its offer back would find the other's numbers on it.
        """
        prefix = "a" if self._transport().transport.role == "controlling" else "b"
        taken = {line.mid for line in self._lines}
        return next(mid for n in self._mids if (mid := f"{prefix}{n}") not in taken)

    async def rollback(self) -> None:
        """Take back an offer of ours; harmless when there is none."""
        if self.signalingState != "have-local-offer" or self.closing:
            return
        self._plan = None
        ice = self.ice_transport
        if not self.negotiated:
            ice._role_set = False
        await cancel_restart(ice)
        self._RTCPeerConnection__setSignalingState("stable")

    async def accept_answer(self, answer: RemoteDescription) -> list[RemoteChange]:
        """Apply the answer to the offer made last.

        Raises:
            DescriptionError: It does not answer that offer; nothing has changed.
            InvalidStateError: No offer of ours is open.
        """
        self._assert_state("have-local-offer")
        assert self._plan is not None
        plan = [dataclasses.replace(planned) for planned in self._plan]
        _check_lines(plan, answer)
        self._check_transport(answer)
        for planned, remote in zip(plan, answer.lines, strict=True):
            _narrow(planned, remote)
        role = "server" if answer.dtls is None or answer.dtls.role == "client" else "client"
        self._transport()._set_role(role)
        self._plan = None
        self._RTCPeerConnection__setSignalingState("stable")
        return await self._carry_out(plan, answer)

    # Offers of the peer

    async def answer_offer(
        self, offer: RemoteDescription
    ) -> tuple[RTCSessionDescription, list[RemoteChange]]:
        """Apply an offer and make the answer to it.

        Raises:
            DescriptionError: It cannot be applied; nothing has changed.
            InvalidStateError: Closed, or not `stable`.
        """
        self._assert_state("stable")
        self._check_transport(offer)
        plan = self._plan_answer(offer)
        ice = self.ice_transport
        if not ice._role_set:
            ice._connection.ice_controlling = bool(offer.ice and offer.ice.iceLite)
            ice._role_set = True
        self._RTCPeerConnection__setSignalingState("have-remote-offer")
        try:
            if self._restarts_ice(offer):
                await prepare_restart(ice)
            await ice.iceGatherer.gather()
            self._assert_state("have-remote-offer")
        except BaseException:
            if not self.closing:
                self._RTCPeerConnection__setSignalingState("stable")
            raise
        dtls = self._transport()
        if dtls._role == "auto":
            dtls._set_role("server" if offer.dtls and offer.dtls.role == "client" else "client")
        description = self._describe("answer", plan, offer)
        self._RTCPeerConnection__setSignalingState("stable")
        return description, await self._carry_out(plan, offer)

    def _plan_answer(self, offer: RemoteDescription) -> list[PlannedLine]:
        if len(offer.lines) < len(self._lines):
            raise DescriptionError("the offer has fewer m-lines than before")
        plan: list[PlannedLine] = []
        known = {line.mid: index for index, line in enumerate(self._lines)}
        with_data = False
        for index, remote in enumerate(offer.lines):
            line = self._lines[index] if index < len(self._lines) else None
            if line is not None and line.rejected and line.mid != remote.mid:
                line = None  # a rejected m-line may be used again, for anything
            if line is None:
                if known.get(remote.mid, index) != index:
                    raise DescriptionError("a mid moved to another m-line")
                line = MediaLine(remote.mid, remote.kind, ours=False)
            elif line.mid != remote.mid or line.kind != remote.kind:
                raise DescriptionError("an m-line changed its mid or its kind")
            planned = PlannedLine(line)
            usable = not remote.rejected and self._is_carried(remote, offer)
            if line.is_media:
                planned.codecs = line.codecs
                planned.extensions = line.extensions
                planned.accepted = usable
                if usable:
                    _narrow(planned, remote, fresh=True)
            elif line.kind == "application":
                planned.accepted = usable and not with_data and _is_data(remote)
                with_data = with_data or planned.accepted
            else:
                planned.accepted = False
            plan.append(planned)
        return plan

    @staticmethod
    def _is_carried(remote: RemoteLine, offer: RemoteDescription) -> bool:
        """Whether an m-line shares the one transport."""
        if offer.bundle:
            return remote.mid in offer.bundle
        usable = [line for line in offer.lines if not line.rejected]
        data = [line for line in usable if line.kind == "application"]
        return remote is (data or usable)[0]

    def _restarts_ice(self, remote: RemoteDescription) -> bool:
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
        theirs = {"client": "server", "server": "client"}.get(self._transport()._role)
        if remote.dtls.role not in ("auto", theirs):
            raise DescriptionError("the DTLS role changed")

    # Both

    def _describe(
        self, kind: str, plan: list[PlannedLine], remote: RemoteDescription | None
    ) -> RTCSessionDescription:
        dtls = self._transport()
        gatherer = dtls.transport.iceGatherer
        ice = gatherer.getLocalParameters()
        fingerprints = [
            f for f in dtls.getLocalParameters().fingerprints if f.algorithm == "sha-256"
        ]
        description = sdp.SessionDescription()
        description.origin = f"{self._origin} {next(self._versions)} IN IP4 127.0.0.1"
        description.msid_semantic.append(sdp.GroupDescription(semantic="WMS", items=["*"]))
        description.type = kind
        for index, planned in enumerate(plan):
            theirs = remote.lines[index] if remote is not None else None
            if not planned.accepted:
                section = rejected_section(planned.line, theirs or planned.line.remote_line)
            elif planned.line.is_media:
                section = media_section(
                    planned,
                    sends=planned.carried is not None and (theirs is None or theirs.receives),
                    receives=theirs is None or theirs.sends,
                    cname=self._RTCPeerConnection__cname,
                )
            else:
                section = self._data_section(planned.line, theirs)
            if planned.accepted:
                section.host, section.port = DISCARD_HOST, DISCARD_PORT
                section.ice, section.ice_options = ice, "trickle"
                section.ice_candidates, section.ice_candidates_complete = [], False
                role = "auto" if kind == "offer" else dtls._role
                section.dtls = RTCDtlsParameters(fingerprints=fingerprints, role=role)
            else:
                section.ice = RTCIceParameters()
            description.media.append(section)
        group = [p.line.mid for p in plan if p.accepted]
        if remote is not None and remote.bundle:
            group = [mid for mid in remote.bundle if mid in group]
        if remote is None or remote.bundle:
            description.group.append(sdp.GroupDescription(semantic="BUNDLE", items=[*group]))
        for section in description.media:
            if group and section.rtp.muxId == group[0]:
                section.ice_candidates = gatherer.getLocalCandidates()
                if section.ice_candidates:
                    section.host = section.ice_candidates[0].ip
                    section.port = section.ice_candidates[0].port
        return RTCSessionDescription(sdp=str(description), type=kind)

    def _data_section(self, line: MediaLine, remote: RemoteLine | None) -> sdp.MediaDescription:
        legacy = (remote or line.remote_line) is not None and (
            (remote or line.remote_line).media.profile == "DTLS/SCTP"  # type: ignore[union-attr]
        )
        return create_media_description_for_sctp(self._data_transport(), legacy, line.mid)

    async def _carry_out(
        self, plan: list[PlannedLine], remote: RemoteDescription
    ) -> list[RemoteChange]:
        """Make a plan real; from here on nothing may fail."""
        restarted = self._restarts_ice(remote)
        changes: list[RemoteChange] = []
        for index, (planned, theirs) in enumerate(zip(plan, remote.lines, strict=True)):
            line = planned.line
            if index < len(self._lines):
                self._lines[index] = line
            else:
                self._lines.append(line)
            line.remote_line = theirs
            line.rejected = not planned.accepted
            if not line.is_media:
                if line.kind == "application" and planned.accepted:
                    self._carry_out_data(line, theirs)
                continue
            if line.rejected:
                changes += self._give_up(planned)
            else:
                changes += self._carry_out_media(index, planned, theirs)
        ice = self.ice_transport
        self._remote = remote
        if remote.ice is not None:
            if restarted:
                self._spawn(finish_restart(ice, remote.ice))
            for candidate in remote.candidates:
                await self.add_candidate(candidate)
            if self._establishing is None:
                self._establishing = self._spawn(self._establish())
            else:
                await self._start_streams()
        return changes

    def _carry_out_data(self, line: MediaLine, remote: RemoteLine) -> None:
        sctp = self._data_transport()
        sctp.mid = line.mid
        media = remote.media
        port = media.sctp_port or DEFAULT_SCTP_PORT
        if media.profile == "DTLS/SCTP":
            port = int(media.fmt[0])
        capabilities = media.sctpCapabilities or RTCSctpCapabilities(DEFAULT_MESSAGE_SIZE)
        self._sctp_parameters = self._sctp_parameters or (capabilities, port)

    def _give_up(self, planned: PlannedLine) -> list[RemoteChange]:
        """The m-line is rejected, by the peer or by us."""
        line = planned.line
        if planned.local is not None:
            logger.warning("the peer does not take our %s", line.kind)
            planned.local.line = line
        removed = self._remove_remote(line)
        line.sending = line.receiving = False
        line.local = None
        if line.transceiver is not None:
            self._RTCPeerConnection__transceivers.remove(line.transceiver)
            self._spawn(line.transceiver.stop())
            line.transceiver.sender.replaceTrack(None)
            line.transceiver = None
        return removed

    def _carry_out_media(
        self, index: int, planned: PlannedLine, remote: RemoteLine
    ) -> list[RemoteChange]:
        line = planned.line
        line.codecs, line.extensions = planned.codecs, planned.extensions
        transceiver = line.transceiver or self._new_transceiver(line, index, planned.sender)
        if planned.sender is not None and transceiver.sender is not planned.sender:
            self._replace_sender(transceiver, planned.sender)
        local = planned.local
        if local is not None:
            local.line = line
            line.local_track_id = local.track_id
            if local.removed:
                transceiver.sender.replaceTrack(None)
            else:
                line.local = local
        was_sending = line.sending
        line.sending = planned.carried is not None and remote.receives
        line.receiving = remote.sends
        if was_sending and not line.sending and line.local is None:
            self._replace_sender(transceiver, self._idle_sender(line.kind))
        transceiver._codecs, transceiver._headerExtensions = line.codecs, line.extensions
        transceiver.direction = direction(line.local is not None, True)
        changes: list[RemoteChange] = []
        name = (remote.stream_ids, remote.track_id) if remote.sends else None
        if name != line.remote_name:
            changes += self._remove_remote(line)
            if name is not None:
                changes.append(self._add_remote(line, remote))
        transceiver._setCurrentDirection(direction(line.sending, line.receiving))
        return changes

    def _add_remote(self, line: MediaLine, remote: RemoteLine) -> RemoteTrackAdded:
        transceiver = line.transceiver
        assert transceiver is not None
        if transceiver.receiver.track is not None:
            fresh = RtpReceiver(line.kind, self._transport())
            fresh._set_rtcp_ssrc(transceiver.sender._ssrc)
            setattr(transceiver, "_RTCRtpTransceiver__receiver", fresh)
        track_id = remote.track_id or random_id()
        receiver = transceiver.receiver
        assert isinstance(receiver, RtpReceiver)
        track = receiver.renew_track(track_id)
        stream_id = remote.stream_ids[0] if remote.stream_ids else random_id()
        line.remote = RemoteTrackAdded(track, line.kind, track_id, stream_id, line.mid)
        line.remote_name = (remote.stream_ids, remote.track_id)
        return line.remote

    def _remove_remote(self, line: MediaLine) -> list[RemoteChange]:
        gone, line.remote, line.remote_name = line.remote, None, None
        if gone is None or line.transceiver is None:
            return []
        receiver = line.transceiver.receiver
        assert isinstance(receiver, RtpReceiver)
        receiver._enabled = False
        self._spawn(_end_receiver(receiver, gone.track))
        return [RemoteTrackRemoved(gone.track, gone.kind, gone.track_id, gone.stream_id, gone.mid)]

    # Candidates

    async def add_candidate(self, candidate: RTCIceCandidate) -> None:
        """Try a candidate of the peer's."""
        await self._transport().transport.addRemoteCandidate(candidate)

    @property
    def remote_username(self) -> str | None:
        """The ICE username fragment of the last description of the peer's."""
        if self._remote is None or self._remote.ice is None:
            return None
        return self._remote.ice.usernameFragment

    def _local_candidate(self, candidate: RTCIceCandidate) -> None:
        lines = [planned.line for planned in self._plan or ()] or self._lines
        if self.on_candidate is None or self.closing or not lines:
            return
        index, line = next(
            ((i, line) for i, line in enumerate(lines) if not line.rejected), (0, lines[0])
        )
        parameters = self._transport().transport.iceGatherer.getLocalParameters()
        assert parameters.usernameFragment is not None
        self.on_candidate(candidate_signal(candidate, line.mid, index, parameters.usernameFragment))

    # Transports

    def _transport(self) -> DtlsTransport:
        """The one DTLS transport, on the one ICE transport."""
        if self._dtls is None:
            ice = create_ice_transport(
                self._RTCPeerConnection__configuration, self._settings, self._local_candidate
            )
            ice.iceGatherer.on("statechange", self._RTCPeerConnection__updateIceGatheringState)
            # Before aiortc's own listeners: when they tell of the end, `lost` has to be right.
            ice.on("statechange", self._on_ice_state)
            ice.on_lost = self._on_lost
            ice.on("statechange", self._RTCPeerConnection__updateIceConnectionState)
            ice.on("statechange", self._RTCPeerConnection__updateConnectionState)
            self._RTCPeerConnection__iceTransports.add(ice)
            self._dtls = DtlsTransport(ice, self._RTCPeerConnection__certificates)
            self._dtls.on("statechange", self._RTCPeerConnection__updateConnectionState)
            self._RTCPeerConnection__dtlsTransports.add(self._dtls)
        return self._dtls

    @property
    def ice_transport(self) -> IceTransport:
        ice = self._transport().transport
        assert isinstance(ice, IceTransport)
        return ice

    def _RTCPeerConnection__createDtlsTransport(self) -> DtlsTransport:
        return self._transport()

    def _RTCPeerConnection__createSctpTransport(self) -> None:
        self._data_transport()

    def _data_transport(self) -> SctpTransport:
        sctp = self._RTCPeerConnection__sctp
        if sctp is None:
            sctp = SctpTransport(self._transport(), self._settings)
            sctp._bundled = True
            sctp.mid = None
            self._RTCPeerConnection__sctp = sctp

            @sctp.on("datachannel")
            def on_datachannel(channel: RTCDataChannel) -> None:
                self.emit("datachannel", channel)

        return sctp

    def _new_sender(self, local: LocalTrack) -> RtpSender:
        sender = RtpSender(local.track, self._transport())
        sender._stream_id, sender._track_id = local.stream_id, local.track_id
        return sender

    def _idle_sender(self, kind: str) -> RtpSender:
        return RtpSender(kind, self._transport())

    def _new_transceiver(
        self, line: MediaLine, index: int, sender: RtpSender | None
    ) -> RTCRtpTransceiver:
        transceiver = RTCRtpTransceiver(
            kind=line.kind,
            sender=sender or self._idle_sender(line.kind),
            receiver=RtpReceiver(line.kind, self._transport()),
        )
        transceiver.receiver._set_rtcp_ssrc(transceiver.sender._ssrc)
        transceiver._bundled = True
        transceiver._set_mid(line.mid)
        transceiver._set_mline_index(index)
        line.transceiver = transceiver
        self._RTCPeerConnection__transceivers.append(transceiver)
        return transceiver

    def _replace_sender(self, transceiver: RTCRtpTransceiver, sender: RtpSender) -> None:
        old = transceiver.sender
        old.replaceTrack(None)
        setattr(transceiver, "_RTCRtpTransceiver__sender", sender)
        transceiver.receiver._set_rtcp_ssrc(sender._ssrc)
        self._spawn(old.stop())

    def _on_ice_state(self) -> None:
        if self._transport().transport.state == "failed":
            self._lost = True

    def _on_lost(self) -> None:
        self._lost = True

    async def _establish(self) -> None:
        """Bring up ICE, DTLS, the streams and SCTP, once both descriptions are known."""
        dtls = self._transport()
        remote = self._remote
        assert remote is not None and remote.ice is not None and remote.dtls is not None
        await dtls.transport.start(remote.ice)
        if dtls.transport.state != "completed" or dtls.state != "new":
            return
        await dtls.start(remote.dtls)
        await self._start_streams()

    async def _start_streams(self) -> None:
        """Start whatever has been negotiated and is not running yet."""
        async with self._streams_lock:
            dtls = self._transport()
            if dtls.state != "connected":
                return
            sctp = self._RTCPeerConnection__sctp
            if sctp is not None and self._sctp_parameters is not None:
                await sctp.start(*self._sctp_parameters)
            for line in list(self._lines):
                transceiver = line.transceiver
                if transceiver is None or self.closing:
                    continue
                if line.sending:
                    await transceiver.sender.send(self._send_parameters(line))
                if line.receiving and line.remote is not None:
                    parameters = receive_parameters(line)
                    await transceiver.receiver.receive(parameters)
                    dtls._rtp_router.register_receiver(
                        transceiver.receiver,
                        ssrcs=remote_sources(line),
                        payload_types=payload_types(line.codecs),
                        mid=line.mid,
                    )

    def _send_parameters(self, line: MediaLine) -> RTCRtpSendParameters:
        parameters = RTCRtpSendParameters(
            codecs=line.codecs, headerExtensions=line.extensions, muxId=line.mid
        )
        assert line.transceiver is not None
        parameters.rtcp = RTCRtcpParameters(
            cname=self._RTCPeerConnection__cname, ssrc=line.transceiver.sender._ssrc, mux=True
        )
        return parameters

    # Tasks and the end

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self.closing:
            logger.warning("the connection's background work failed: %r", error)

    async def close(self) -> None:
        """End the connection, and everything that works for it."""
        await super().close()
        if self._dtls is not None:
            await self._dtls.stop()
            await self._dtls.transport.stop()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks)


def _check_lines(plan: list[PlannedLine], answer: RemoteDescription) -> None:
    """An answer has the offer's m-lines, in its order, and asks for no more than was offered."""
    offered = [(planned.line.mid, planned.line.kind) for planned in plan]
    if offered != [(line.mid, line.kind) for line in answer.lines]:
        raise DescriptionError("the answer's m-lines are not the offer's")
    for planned, line in zip(plan, answer.lines, strict=True):
        if line.kind in ("audio", "video") and line.receives and planned.carried is None:
            raise DescriptionError("the answer takes a track that was not offered")


def _narrow(planned: PlannedLine, remote: RemoteLine, *, fresh: bool = False) -> None:
    """Keep the codecs and header extensions both sides have."""
    kind = planned.line.kind
    if not planned.accepted or remote.rejected or kind not in CODECS:
        planned.accepted = planned.accepted and not remote.rejected
        return
    common = find_common_codecs(CODECS[kind], remote.media.rtp.codecs)
    if not fresh:
        offered = {codec.payloadType for codec in planned.codecs}
        common = [codec for codec in common if codec.payloadType in offered]
    local = planned.carried
    planned.codecs = order_codecs(common, local.codec if local is not None else None)
    planned.extensions = find_common_header_extensions(
        HEADER_EXTENSIONS[kind], remote.media.rtp.headerExtensions
    )
    planned.accepted = bool(planned.codecs)


def _is_data(remote: RemoteLine) -> bool:
    profile, formats = remote.media.profile, remote.media.fmt
    if profile == "DTLS/SCTP":
        return len(formats) == 1 and str(formats[0]).isdigit() and int(formats[0]) < 65536
    return profile == "UDP/DTLS/SCTP" and formats == ["webrtc-datachannel"]


async def _end_receiver(receiver: RtpReceiver, track: MediaStreamTrack) -> None:
    await receiver.stop()
    track.stop()


async def prepare_restart(ice: IceTransport) -> None:
    prepare = getattr(ice, "prepare_restart", None)
    if prepare is not None:
        await prepare()


async def cancel_restart(ice: IceTransport) -> None:
    cancel = getattr(ice, "cancel_restart", None)
    if cancel is not None:
        await cancel()


async def finish_restart(ice: IceTransport, remote: RTCIceParameters) -> None:
    finish = getattr(ice, "finish_restart", None)
    if finish is not None:
        await finish(remote)
