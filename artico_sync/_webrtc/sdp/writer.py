"""Writes the local session descriptions from the plans for the m-sections."""

from __future__ import annotations

import itertools
import secrets

from aiortc import RTCSessionDescription, sdp
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceParameters
from aiortc.rtcrtpparameters import RTCRtpParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities

from artico_sync._webrtc.sctp.handshake import STREAMS
from artico_sync._webrtc.sctp.transport import SctpTransport
from artico_sync._webrtc.sdp.media_sections import (
    MediaSection,
    PlannedSection,
    direction,
    payload_types,
)
from artico_sync._webrtc.sdp.parser import RemoteDescription, RemoteSection
from artico_sync._webrtc.transports import Transports

#: Start of the origin line, by which artico_sync peers recognize each other.
ORIGIN = "artico_sync"
DISCARD_HOST = "0.0.0.0"
DISCARD_PORT = 9
RTP_PROFILE = "UDP/TLS/RTP/SAVPF"
DATA_PROFILE = "UDP/DTLS/SCTP"
LEGACY_DATA_PROFILE = "DTLS/SCTP"


class DescriptionWriter:
    """Writes the descriptions of one connection.

    Args:
        transports: The transport of all m-sections.
        cname: The RTCP name of this end, the same for all its RTP streams (RFC 3550 6.5.1).
    """

    def __init__(self, transports: Transports, cname: str) -> None:
        self._transports = transports
        self._cname = cname
        self._origin = f"{ORIGIN} {secrets.randbits(62)}"
        self._versions = itertools.count(1)

    def offer(self, plan: list[PlannedSection]) -> RTCSessionDescription:
        """Return an offer."""
        return self._write(
            "offer", plan, [planned.section.remote_section for planned in plan], None
        )

    def answer(self, plan: list[PlannedSection], offer: RemoteDescription) -> RTCSessionDescription:
        """Return an answer to an offer."""
        return self._write("answer", plan, list(offer.sections), offer)

    def _write(
        self,
        kind: str,
        plan: list[PlannedSection],
        known: list[RemoteSection | None],
        offer: RemoteDescription | None,
    ) -> RTCSessionDescription:
        description = sdp.SessionDescription()
        description.origin = f"{self._origin} {next(self._versions)} IN IP4 127.0.0.1"
        description.msid_semantic.append(sdp.GroupDescription(semantic="WMS", items=["*"]))
        description.type = kind
        group = [planned.section.mid for planned in plan if planned.accepted]
        if offer is not None:
            group = [mid for mid in offer.bundle if mid in group]
        if group:
            description.group.append(sdp.GroupDescription(semantic="BUNDLE", items=[*group]))
        # One m-section has the candidates for all.
        tagged = next(
            (
                p.section.mid
                for p in plan
                if p.accepted and (not group or p.section.mid == group[0])
            ),
            None,
        )
        for planned, remote in zip(plan, known, strict=True):
            section = self._section(planned, remote, offer is not None)
            if planned.accepted:
                self._add_transport(section, kind, with_candidates=planned.section.mid == tagged)
            description.media.append(section)
        return RTCSessionDescription(sdp=str(description), type=kind)

    def _section(
        self, planned: PlannedSection, remote: RemoteSection | None, answering: bool
    ) -> sdp.MediaDescription:
        if not planned.accepted:
            return _rejected_section(planned.section, remote)
        if not planned.section.is_media:
            legacy = remote is not None and remote.media.profile == LEGACY_DATA_PROFILE
            return _data_section(self._transports.data(), legacy, planned.section.mid)
        outgoing = planned.outgoing is not None
        if answering and remote is not None:
            planned.sends, receives = outgoing and remote.receives, remote.sends
        else:
            # A browser puts tracks of its own on a new m-section that asks for some, without
            # sending their ids, so a new one asks for none. On an existing one it may send.
            planned.sends, receives = outgoing, planned.section.transceiver is not None
        return _media_section(planned, receives=receives, cname=self._cname)

    def _add_transport(
        self, section: sdp.MediaDescription, kind: str, *, with_candidates: bool
    ) -> None:
        dtls = self._transports.dtls
        gatherer = self._transports.ice.iceGatherer
        section.host, section.port = DISCARD_HOST, DISCARD_PORT
        section.ice, section.ice_options = gatherer.getLocalParameters(), "trickle"
        section.ice_candidates, section.ice_candidates_complete = [], False
        if with_candidates:
            section.ice_candidates = gatherer.getLocalCandidates()
            if section.ice_candidates:
                section.host = section.ice_candidates[0].ip
                section.port = section.ice_candidates[0].port
        section.dtls = RTCDtlsParameters(
            fingerprints=[
                f for f in dtls.getLocalParameters().fingerprints if f.algorithm == "sha-256"
            ],
            role="auto" if kind == "offer" else dtls.role,
        )


def _data_section(sctp: SctpTransport, legacy: bool, mid: str) -> sdp.MediaDescription:
    """Return the m-section of the data channels (RFC 8841), `legacy` as in older drafts."""
    if legacy:
        section = sdp.MediaDescription(
            kind="application", port=DISCARD_PORT, profile=LEGACY_DATA_PROFILE, fmt=[sctp.port]
        )
        section.sctpmap[sctp.port] = f"webrtc-datachannel {STREAMS}"
    else:
        section = sdp.MediaDescription(
            kind="application", port=DISCARD_PORT, profile=DATA_PROFILE, fmt=["webrtc-datachannel"]
        )
        section.sctp_port = sctp.port
    section.rtp.muxId = mid
    section.sctpCapabilities = RTCSctpCapabilities(maxMessageSize=sctp.max_message_size)
    return section


def _media_section(planned: PlannedSection, *, receives: bool, cname: str) -> sdp.MediaDescription:
    """Return an audio or video m-section without its transport attributes."""
    section = planned.section
    media = sdp.MediaDescription(
        kind=section.kind,
        port=DISCARD_PORT,
        profile=RTP_PROFILE,
        fmt=payload_types(planned.codecs),
    )
    media.direction = direction(planned.sends, receives)
    media.rtp = RTCRtpParameters(
        codecs=planned.codecs, headerExtensions=planned.extensions, muxId=section.mid
    )
    media.rtcp_host, media.rtcp_port, media.rtcp_mux = DISCARD_HOST, DISCARD_PORT, True
    local = planned.outgoing
    sender = planned.sender or (section.transceiver.sender if section.transceiver else None)
    if planned.sends and local is not None and sender is not None:
        media.msid = f"{local.stream_id} {local.track_id}"
        sources = [sender.ssrc]
        if any(is_rtx(codec) for codec in planned.codecs):
            sources.append(sender.rtx_ssrc)
            media.ssrc_group = [sdp.GroupDescription(semantic="FID", items=list(sources))]
        media.ssrc = [sdp.SsrcDescription(ssrc=source, cname=cname) for source in sources]
    return media


def _rejected_section(section: MediaSection, remote: RemoteSection | None) -> sdp.MediaDescription:
    """Return an m-section that is not used: port 0, and no transport."""
    profile, formats = RTP_PROFILE, ["0"]
    if remote is not None:
        profile, formats = remote.media.profile, remote.media.fmt[:1]
    media = sdp.MediaDescription(kind=section.kind, port=0, profile=profile, fmt=formats)
    media.host = DISCARD_HOST
    media.direction = "inactive"
    media.rtp.muxId = section.mid
    media.ice = RTCIceParameters()
    return media
