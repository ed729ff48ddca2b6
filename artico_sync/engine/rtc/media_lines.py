"""What is known of each m-line, and how it is written into a description; loop thread."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from aiortc import sdp
from aiortc.codecs import is_rtx
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpDecodingParameters,
    RTCRtpHeaderExtensionParameters,
    RTCRtpParameters,
    RTCRtpReceiveParameters,
    RTCRtpRtxParameters,
)
from aiortc.rtcrtptransceiver import RTCRtpTransceiver

from .descriptions import RemoteLine
from .rtp_sender import RtpSender

DISCARD_HOST = "0.0.0.0"
DISCARD_PORT = 9
RTP_PROFILE = "UDP/TLS/RTP/SAVPF"


@dataclass(frozen=True)
class RemoteTrackAdded:
    """The peer shares a track."""

    track: MediaStreamTrack
    kind: str
    track_id: str
    stream_id: str
    mid: str


@dataclass(frozen=True)
class RemoteTrackRemoved:
    """The peer shares a track no longer; the track has ended."""

    track: MediaStreamTrack
    kind: str
    track_id: str
    stream_id: str
    mid: str


RemoteChange = RemoteTrackAdded | RemoteTrackRemoved


@dataclass(eq=False)
class LocalTrack:
    """A track we share, or are going to share with the next offer."""

    track: MediaStreamTrack
    stream_id: str
    #: What the peer knows it by, also after another track took its place.
    track_id: str
    codec: str | None = None
    line: MediaLine | None = None
    removed: bool = False


@dataclass(eq=False)
class MediaLine:
    """One m-line as negotiated."""

    mid: str
    kind: str
    #: Whether we offered it first: only then does the peer's track id follow ours.
    ours: bool
    transceiver: RTCRtpTransceiver | None = None
    rejected: bool = False
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    local: LocalTrack | None = None
    #: The last local track id on it.
    local_track_id: str | None = None
    sending: bool = False
    receiving: bool = False
    #: The remote track on it now, and how the peer named it.
    remote: RemoteTrackAdded | None = None
    remote_name: tuple[tuple[str, ...], str | None] | None = None
    remote_line: RemoteLine | None = None

    @property
    def is_media(self) -> bool:
        return self.kind in ("audio", "video")

    def reusable_for(self, local: LocalTrack, any_track: bool) -> bool:
        """Whether a new local track can take this m-line.

        A browser keeps the id of the first track an m-line carried, so towards one only that
        very track may come back to it.
        """
        return (
            self.ours
            and self.kind == local.track.kind
            and not self.rejected
            and self.local is None
            and not self.sending
            and (any_track or self.local_track_id == local.track_id)
        )


@dataclass(eq=False)
class PlannedLine:
    """What an m-line becomes when the offer it stands in is answered."""

    line: MediaLine
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    #: A local track to put on the line, with a sender of its own.
    local: LocalTrack | None = None
    sender: RtpSender | None = None
    accepted: bool = True

    @property
    def carried(self) -> LocalTrack | None:
        """The local track on the line once the plan is carried out."""
        return self.local or self.line.local


def direction(sends: bool, receives: bool) -> str:
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def media_section(
    planned: PlannedLine, *, sends: bool, receives: bool, cname: str
) -> sdp.MediaDescription:
    """An audio or video m-line of a description of ours, but for its transport."""
    line = planned.line
    media = sdp.MediaDescription(
        kind=line.kind,
        port=DISCARD_PORT,
        profile=RTP_PROFILE,
        fmt=payload_types(planned.codecs),
    )
    media.direction = direction(sends, receives)
    media.rtp = RTCRtpParameters(
        codecs=planned.codecs, headerExtensions=planned.extensions, muxId=line.mid
    )
    media.rtcp_host, media.rtcp_port, media.rtcp_mux = DISCARD_HOST, DISCARD_PORT, True
    local = planned.carried
    sender = planned.sender or (line.transceiver.sender if line.transceiver else None)
    if sends and local is not None and sender is not None:
        media.msid = f"{local.stream_id} {local.track_id}"
        sources = [sender._ssrc]
        if any(is_rtx(codec) for codec in planned.codecs):
            sources.append(sender._rtx_ssrc)
            media.ssrc_group = [sdp.GroupDescription(semantic="FID", items=list(sources))]
        media.ssrc = [sdp.SsrcDescription(ssrc=source, cname=cname) for source in sources]
    return media


def rejected_section(line: MediaLine, remote: RemoteLine | None) -> sdp.MediaDescription:
    """An m-line we do not use: port 0, and no transport."""
    profile, formats = RTP_PROFILE, ["0"]
    if remote is not None:
        profile, formats = remote.media.profile, remote.media.fmt[:1]
    media = sdp.MediaDescription(kind=line.kind, port=0, profile=profile, fmt=formats)
    media.host = DISCARD_HOST
    media.direction = "inactive"
    media.rtp.muxId = line.mid
    return media


def receive_parameters(line: MediaLine) -> RTCRtpReceiveParameters:
    """How to receive what the peer sends on a line, from its description."""
    assert line.remote_line is not None
    media = line.remote_line.media
    parameters = RTCRtpReceiveParameters(
        codecs=line.codecs,
        headerExtensions=line.extensions,
        muxId=line.mid,
        rtcp=media.rtp.rtcp,
    )
    sources = [entry.ssrc for entry in media.ssrc]
    if not sources:
        return parameters
    primary, retransmission = sources[0], None
    for group in media.ssrc_group:
        if group.semantic == "FID" and len(group.items) == 2:
            primary, retransmission = int(group.items[0]), int(group.items[1])
            break
    types_with_rtx = {codec.parameters.get("apt") for codec in line.codecs if is_rtx(codec)}
    for codec in line.codecs:
        if not is_rtx(codec) and codec.payloadType is not None:
            encoding = RTCRtpDecodingParameters(ssrc=primary, payloadType=codec.payloadType)
            if retransmission is not None and codec.payloadType in types_with_rtx:
                encoding.rtx = RTCRtpRtxParameters(ssrc=retransmission)
            parameters.encodings.append(encoding)
    return parameters


def remote_sources(line: MediaLine) -> list[int]:
    """Every SSRC the peer announces for a line."""
    assert line.remote_line is not None
    return [entry.ssrc for entry in line.remote_line.media.ssrc]


def payload_types(codecs: list[RTCRtpCodecParameters]) -> list[int]:
    return [codec.payloadType for codec in codecs if codec.payloadType is not None]


def random_id() -> str:
    return str(uuid.uuid4())
