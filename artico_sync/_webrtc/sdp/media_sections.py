"""The m-sections of a connection, the plans for them, and the tracks on them."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
)

from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync._webrtc.rtp.transceiver import Transceiver
from artico_sync._webrtc.sdp.parser import RemoteSection
from artico_sync._webrtc.sdp.rtp_ids import RtpIdAllocator

logger = logging.getLogger(__name__)

#: The ids an `a=msid` line can hold; browsers allow more than the 64 characters of RFC 8830.
_MSID = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True)
class RemoteTrackAdded:
    """A track that the peer has added."""

    track: MediaStreamTrack
    kind: str
    track_id: str
    stream_id: str
    mid: str


@dataclass(frozen=True)
class RemoteTrackRemoved:
    """A track that the peer has removed; it has ended."""

    track: MediaStreamTrack
    kind: str
    track_id: str
    stream_id: str
    mid: str


RemoteChange = RemoteTrackAdded | RemoteTrackRemoved


@dataclass(eq=False)
class LocalTrackBinding:
    """A local track, the ids it is announced by, and its m-section once an offer is answered."""

    track: MediaStreamTrack
    stream_id: str
    #: The id announced to the peer; it stays when another track replaces this one.
    track_id: str
    section: MediaSection | None = None
    removed: bool = False


@dataclass(eq=False)
class MediaSection:
    """An m-section as negotiated."""

    mid: str
    kind: str
    #: True if this end offered it first: only then a new track id here changes it at the peer.
    locally_offered: bool
    transceiver: Transceiver | None = None
    rejected: bool = False
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    local: LocalTrackBinding | None = None
    #: The id of the last local track on it.
    local_track_id: str | None = None
    #: The number of m-sections of the connection that came into use before.
    use_order: int = 0
    #: True once the peer has sent on it: then its `addTrack` puts no other track there.
    used_by_peer: bool = False
    sending: bool = False
    receiving: bool = False
    #: The remote track on it, and the stream ids and track id the peer gave it.
    remote: RemoteTrackAdded | None = None
    remote_name: tuple[tuple[str, ...], str | None] | None = None
    remote_section: RemoteSection | None = None

    @property
    def is_media(self) -> bool:
        return self.kind in ("audio", "video")


@dataclass(eq=False)
class PlannedSection:
    """The state of an m-section after the answer to the offer it is in."""

    section: MediaSection
    codecs: list[RTCRtpCodecParameters] = field(default_factory=list)
    extensions: list[RTCRtpHeaderExtensionParameters] = field(default_factory=list)
    #: A local track to put on the m-section, and its sender.
    local: LocalTrackBinding | None = None
    sender: RtpSender | None = None
    accepted: bool = True
    #: True if the local description says that this end sends.
    sends: bool = False

    @property
    def outgoing(self) -> LocalTrackBinding | None:
        """The local track on the m-section once the plan is applied."""
        return self.local or self.section.local

    @property
    def is_recyclable(self) -> bool:
        """True if both sides have rejected the m-section, so that a new one can replace it."""
        return self.section.is_media and self.section.rejected and not self.accepted

    def can_carry(self, local: LocalTrackBinding) -> bool:
        """Return True if a local track can come back to this m-section.

        It must be the track it carried before: a browser keeps the id of the first one.
        """
        section = self.section
        return (
            section.locally_offered
            and self.accepted
            and section.local_track_id == local.track_id
            and section.kind == local.track.kind
            and self.outgoing is None
            and not section.sending
        )


class LocalTracks:
    """The local tracks of one connection, in the order they were added.

    A track gets its m-section when the next offer is made.

    Args:
        new_sender: Creates the sender of a track.
    """

    def __init__(self, new_sender: Callable[[LocalTrackBinding], RtpSender]) -> None:
        self._new_sender = new_sender
        self._tracks: dict[int, LocalTrackBinding] = {}

    def add(self, track: MediaStreamTrack, stream_id: str) -> None:
        """Add a track.

        Raises:
            ValueError: One of the ids cannot be written into a description.
            InvalidStateError: The track is shared already.
        """
        for name in (stream_id, track.id):
            if not _MSID.fullmatch(name) or name == "-":
                raise ValueError(f"{name!r:.80} cannot be the id of a stream or track")
        if id(track) in self._tracks:
            raise InvalidStateError("the track is shared already")
        self._tracks[id(track)] = LocalTrackBinding(track, stream_id, track.id)

    def remove(self, track: MediaStreamTrack) -> bool:
        """Stop sending a track; the next offer announces it. Return False if it is unknown."""
        local = self._tracks.pop(id(track), None)
        if local is None:
            return False
        local.removed = True
        section = local.section
        if section is not None and section.local is local:
            section.local = None
            if section.transceiver is not None:
                section.transceiver.sender.replace_track(None)
        return True

    def replace(
        self, old: MediaStreamTrack, new: MediaStreamTrack, plan: Iterable[PlannedSection]
    ) -> bool:
        """Send another track under the id of the old one; return False if that is unknown.

        Args:
            plan: The m-sections of unanswered offers.

        Raises:
            ValueError: The tracks are of different kinds.
            InvalidStateError: The new track is shared already.
        """
        if new.kind != old.kind:
            raise ValueError(f"a track of kind {new.kind!r} cannot replace one of {old.kind!r}")
        local = self._tracks.get(id(old))
        if local is None:
            return False
        if new is not old and id(new) in self._tracks:
            raise InvalidStateError("the new track is shared already")
        local.track = new
        # Replaced in place, so that the order stays.
        self._tracks = {id(one.track): one for one in self._tracks.values()}
        for planned in plan:
            if planned.local is local and planned.sender is not None:
                planned.sender.replace_track(new)
        section = local.section
        if section is not None and section.local is local and section.transceiver is not None:
            section.transceiver.sender.replace_track(new)
        return True

    def assign_sections(
        self,
        plan: list[PlannedSection],
        rtp_ids: RtpIdAllocator,
        new_mid: Callable[[], str],
        maximum: int,
    ) -> None:
        """Assign an m-section to every track without one.

        That is the unused one it had before, a new one in place of a rejected one (RFC 8829
        5.2.2), or one more.

        Args:
            plan: The m-sections of the offer; changed in place.
            maximum: Maximum number of m-sections.
        """
        for local in self._tracks.values():
            if local.section is not None or any(planned.local is local for planned in plan):
                continue
            before = next((planned for planned in plan if planned.can_carry(local)), None)
            if before is not None:
                before.local, before.sender = local, self._new_sender(local)
                continue
            index = next((i for i, planned in enumerate(plan) if planned.is_recyclable), len(plan))
            if index >= maximum:
                logger.warning("a track is not shared: there are %d m-sections", len(plan))
                return
            kind = local.track.kind
            plan[index : index + 1] = [
                PlannedSection(
                    MediaSection(new_mid(), kind, locally_offered=True),
                    rtp_ids.codecs(kind),
                    rtp_ids.extensions(kind),
                    local,
                    self._new_sender(local),
                )
            ]


def direction(sends: bool, receives: bool) -> str:
    """Return the direction attribute for an m-section."""
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def payload_types(codecs: list[RTCRtpCodecParameters]) -> list[int]:
    """Return the payload types of codecs."""
    return [codec.payloadType for codec in codecs if codec.payloadType is not None]


def random_id() -> str:
    """Return a new id for a stream or track."""
    return str(uuid.uuid4())
