"""Writes our session descriptions from what is planned for each m-line; loop thread."""

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

#: What the origin line of our descriptions begins with, by which we know our own kind.
ORIGIN = "artico_sync"
DISCARD_HOST = "0.0.0.0"
DISCARD_PORT = 9
RTP_PROFILE = "UDP/TLS/RTP/SAVPF"
DATA_PROFILE = "UDP/DTLS/SCTP"
LEGACY_DATA_PROFILE = "DTLS/SCTP"


class DescriptionWriter:
    """Writes the descriptions of one connection.

    Args:
        transports: What carries all m-lines.
        cname: The name that ties the RTP streams of this end together.
    """

    def __init__(self, transports: Transports, cname: str) -> None:
        self._transports = transports
        self._cname = cname
        self._origin = f"{ORIGIN} {secrets.randbits(62)}"
        self._versions = itertools.count(1)

    def offer(self, plan: list[PlannedSection]) -> RTCSessionDescription:
        return self._write("offer", plan, [planned.line.remote_line for planned in plan], None)

    def answer(self, plan: list[PlannedSection], offer: RemoteDescription) -> RTCSessionDescription:
        return self._write("answer", plan, list(offer.lines), offer)

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
        group = [planned.line.mid for planned in plan if planned.accepted]
        if offer is not None:
            group = [mid for mid in offer.bundle if mid in group]
        if group:
            description.group.append(sdp.GroupDescription(semantic="BUNDLE", items=[*group]))
        # One m-line carries the candidates for all.
        tagged = next(
            (p.line.mid for p in plan if p.accepted and (not group or p.line.mid == group[0])), None
        )
        for planned, remote in zip(plan, known, strict=True):
            section = self._section(planned, remote, offer is not None)
            if planned.accepted:
                self._add_transport(section, kind, with_candidates=planned.line.mid == tagged)
            description.media.append(section)
        return RTCSessionDescription(sdp=str(description), type=kind)

    def _section(
        self, planned: PlannedSection, remote: RemoteSection | None, answering: bool
    ) -> sdp.MediaDescription:
        if not planned.accepted:
            return _rejected_section(planned.line, remote)
        if not planned.line.is_media:
            legacy = remote is not None and remote.media.profile == LEGACY_DATA_PROFILE
            return _data_section(self._transports.data(), legacy, planned.line.mid)
        carried = planned.carried is not None
        if answering and remote is not None:
            planned.sends, receives = carried and remote.receives, remote.sends
        else:
            # A browser puts tracks of its own on a new m-line that asks for some, and forgets
            # their ids over it; so a new one of ours asks for none. On one that is known it
            # can put them at once.
            planned.sends, receives = carried, planned.line.transceiver is not None
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
    """Describe the data transport (RFC 8841), `legacy` as older drafts did."""
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
    """An audio or video m-line, but for its transport."""
    line = planned.line
    media = sdp.MediaDescription(
        kind=line.kind,
        port=DISCARD_PORT,
        profile=RTP_PROFILE,
        fmt=payload_types(planned.codecs),
    )
    media.direction = direction(planned.sends, receives)
    media.rtp = RTCRtpParameters(
        codecs=planned.codecs, headerExtensions=planned.extensions, muxId=line.mid
    )
    media.rtcp_host, media.rtcp_port, media.rtcp_mux = DISCARD_HOST, DISCARD_PORT, True
    local = planned.carried
    sender = planned.sender or (line.transceiver.sender if line.transceiver else None)
    if planned.sends and local is not None and sender is not None:
        media.msid = f"{local.stream_id} {local.track_id}"
        sources = [sender.ssrc]
        if any(is_rtx(codec) for codec in planned.codecs):
            sources.append(sender.rtx_ssrc)
            media.ssrc_group = [sdp.GroupDescription(semantic="FID", items=list(sources))]
        media.ssrc = [sdp.SsrcDescription(ssrc=source, cname=cname) for source in sources]
    return media


def _rejected_section(line: MediaSection, remote: RemoteSection | None) -> sdp.MediaDescription:
    """An m-line we do not use: port 0, and no transport."""
    profile, formats = RTP_PROFILE, ["0"]
    if remote is not None:
        profile, formats = remote.media.profile, remote.media.fmt[:1]
    media = sdp.MediaDescription(kind=line.kind, port=0, profile=profile, fmt=formats)
    media.host = DISCARD_HOST
    media.direction = "inactive"
    media.rtp.muxId = line.mid
    media.ice = RTCIceParameters()
    return media
