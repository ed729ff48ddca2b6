"""What is known of each m-line, of the tracks on it, and what is planned for it; loop thread."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters

from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync._webrtc.rtp.transceiver import Transceiver
from artico_sync._webrtc.sdp.parser import RemoteSection


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
    line: MediaSection | None = None
    removed: bool = False


@dataclass(eq=False)
class MediaSection:
    """One m-line as negotiated."""

    mid: str
    kind: str
    #: Whether we offered it first: only then does the peer's track id follow ours.
    ours: bool
    transceiver: Transceiver | None = None
    rejected: bool = False
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    local: LocalTrack | None = None
    #: The last local track id on it.
    local_track_id: str | None = None
    #: How many m-lines of the connection came into use before.
    age: int = 0
    #: Whether the peer has sent on it: then its `addTrack` puts no other track there.
    used_by_peer: bool = False
    sending: bool = False
    receiving: bool = False
    #: The remote track on it now, and how the peer named it.
    remote: RemoteTrackAdded | None = None
    remote_name: tuple[tuple[str, ...], str | None] | None = None
    remote_line: RemoteSection | None = None

    @property
    def is_media(self) -> bool:
        return self.kind in ("audio", "video")


@dataclass(eq=False)
class PlannedSection:
    """What an m-line becomes when the offer it stands in is answered."""

    line: MediaSection
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    #: A local track to put on the line, with a sender of its own.
    local: LocalTrack | None = None
    sender: RtpSender | None = None
    accepted: bool = True
    #: Whether our description says that we send.
    sends: bool = False

    @property
    def carried(self) -> LocalTrack | None:
        """The local track on the line once the plan is carried out."""
        return self.local or self.line.local

    @property
    def is_vacant(self) -> bool:
        """Whether a new m-line can take the place of this one, which both sides have given up."""
        return self.line.is_media and self.line.rejected and not self.accepted

    def suits(self, local: LocalTrack) -> bool:
        """Whether a local track can come back to this m-line.

        It must be the very one it carried: a browser keeps the id of the first track.
        """
        line = self.line
        return (
            line.ours
            and self.accepted
            and line.local_track_id == local.track_id
            and line.kind == local.track.kind
            and self.carried is None
            and not line.sending
        )


def direction(sends: bool, receives: bool) -> str:
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def payload_types(codecs: list[RTCRtpCodecParameters]) -> list[int]:
    return [codec.payloadType for codec in codecs if codec.payloadType is not None]


def random_id() -> str:
    return str(uuid.uuid4())
