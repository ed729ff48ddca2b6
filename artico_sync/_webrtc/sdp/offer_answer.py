"""Offers and answers: the plans for the m-sections in them, and the outcome of applying one.

Functions here have no side effects: a description is refused before anything has changed.

Neither side can remove an m-section, and a browser puts each track on a new one: a page that shares
and unshares all day would end with a description of megabytes. So m-sections without a track are
rejected, which stops the transceivers at both ends, and rejected ones are recycled (RFC 8829 5.2.2,
5.3.1).

A browser's `addTrack` takes the oldest transceiver of the kind that has never sent, including those
that local offers have created. Rejecting an m-section loses a track that the browser attaches to it
in that moment. So only m-sections are rejected that the peer has already sent on, and of the others
`SPARE_SECTIONS` are left, of which it takes the oldest first.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiortc import RTCSessionDescription
from aiortc.codecs import CODECS, HEADER_EXTENSIONS, is_rtx
from aiortc.rtcpeerconnection import find_common_header_extensions, is_codec_compatible
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from artico_sync._webrtc.sdp.media_sections import (
    MediaSection,
    PlannedSection,
    RemoteChange,
    payload_types,
)
from artico_sync._webrtc.sdp.parser import (
    DescriptionError,
    RemoteDescription,
    RemoteSection,
)
from artico_sync._webrtc.sdp.rtp_ids import (
    PAYLOAD_TYPES,
    SHORT_EXTENSION_IDS,
    RtpIdAllocator,
)

#: Number of unused m-sections of each kind left for tracks that a page adds during an offer.
SPARE_SECTIONS = 8


def rtp_ids_in_use(
    sections: Sequence[MediaSection], remote: RemoteDescription | None
) -> RtpIdAllocator:
    """Return the payload types and header extension ids that are in use."""
    rtp_ids = RtpIdAllocator()
    for section in sections:
        rtp_ids.reserve(section.codecs, section.extensions)
    for theirs in remote.sections if remote is not None else ():
        rtp_ids.reserve(theirs.media.rtp.codecs, theirs.media.rtp.headerExtensions)
    return rtp_ids


def plan_answer(sections: Sequence[MediaSection], offer: RemoteDescription) -> list[PlannedSection]:
    """Return a plan with an m-section for each in an offer.

    Raises:
        DescriptionError: The offer contradicts the m-sections negotiated before.
    """
    if len(offer.sections) < len(sections):
        raise DescriptionError("the offer has fewer m-sections than before")
    plan: list[PlannedSection] = []
    known = {section.mid: index for index, section in enumerate(sections)}
    with_data = False
    for index, remote in enumerate(offer.sections):
        section = sections[index] if index < len(sections) else None
        if section is not None and section.rejected and section.mid != remote.mid:
            section = None  # a rejected m-section may be recycled for any kind
        if section is None:
            if remote.mid in known:
                raise DescriptionError("a mid moved to another m-section")
            section = MediaSection(remote.mid, remote.kind, locally_offered=False)
        elif section.mid != remote.mid or section.kind != remote.kind:
            raise DescriptionError("an m-section changed its mid or its kind")
        planned = PlannedSection(section, section.codecs, section.extensions)
        planned.accepted = not remote.rejected and uses_bundled_transport(remote, offer)
        if section.kind == "application":
            planned.accepted = planned.accepted and not with_data and is_data(remote)
            with_data = with_data or planned.accepted
        elif section.is_media:
            intersect_capabilities(planned, remote, offered=None)
        else:
            planned.accepted = False
        plan.append(planned)
    return plan


def apply_answer(plan: Sequence[PlannedSection], answer: RemoteDescription) -> None:
    """Reduce the plan of an offer to what the answer accepts.

    Raises:
        DescriptionError: It does not answer that offer.
    """
    offered = [(planned.section.mid, planned.section.kind) for planned in plan]
    if offered != [(section.mid, section.kind) for section in answer.sections]:
        raise DescriptionError("the answer's m-sections are not the offer's")
    for planned, remote in zip(plan, answer.sections, strict=True):
        if planned.section.is_media and remote.receives and not planned.sends:
            raise DescriptionError("the answer takes a track that was not offered")
        if not planned.accepted or remote.rejected:
            planned.accepted = False
            continue
        if not uses_bundled_transport(remote, answer):
            raise DescriptionError("the answer wants a second transport")
        if planned.section.is_media:
            intersect_capabilities(planned, remote, offered=set(payload_types(planned.codecs)))


def has_unoffered_tracks(plan: Sequence[PlannedSection], answer: RemoteDescription) -> bool:
    """Return True if the peer has put tracks on m-sections that asked for none.

    A browser does so with tracks added while it answers. It needs another offer to send them, but
    does not ask for one, because its answer names them.
    """
    return any(
        planned.sends and planned.section.transceiver is None and section.stream_ids
        for planned, section in zip(plan, answer.sections, strict=False)
        if planned.section.is_media and not section.sends
    )


def intersect_capabilities(
    planned: PlannedSection, remote: RemoteSection, *, offered: set[int] | None
) -> None:
    """Keep the codecs and header extensions both sides support; reject without a common codec."""
    if not planned.accepted:
        return
    kind = planned.section.kind
    planned.codecs = [
        codec
        for codec in common_codecs(kind, remote.media.rtp.codecs, remote.media.fmt)
        if offered is None or codec.payloadType in offered
    ]
    planned.extensions = [
        extension
        for extension in find_common_header_extensions(
            HEADER_EXTENSIONS[kind], remote.media.rtp.headerExtensions
        )
        if extension.id in SHORT_EXTENSION_IDS
    ]
    planned.accepted = bool(planned.codecs)


def common_codecs(
    kind: str, offered: Sequence[RTCRtpCodecParameters], listed: Sequence[object]
) -> list[RTCRtpCodecParameters]:
    """Return the supported codecs of the peer, in its order, with its payload types.

    aiortc's own function replaces the payload types from 35 to 63, which browsers use when they
    run out of others.

    Args:
        listed: The payload types in the m-line.
    """
    common: list[RTCRtpCodecParameters] = []
    bases: dict[int, int] = {}
    used: set[int] = set()
    for remote in offered:
        number = remote.payloadType
        if number is None or number not in PAYLOAD_TYPES or number in used or number not in listed:
            continue
        used.add(number)
        if is_rtx(remote):
            if bases.get(_base_of(remote)) == remote.clockRate:
                common.append(copy.deepcopy(remote))
            continue
        local = next((codec for codec in CODECS[kind] if is_codec_compatible(codec, remote)), None)
        if local is not None:
            codec = copy.deepcopy(local)
            codec.payloadType = number
            codec.rtcpFeedback = [f for f in codec.rtcpFeedback if f in remote.rtcpFeedback]
            common.append(codec)
            bases[number] = codec.clockRate
    return common


def _base_of(codec: RTCRtpCodecParameters) -> int:
    base = codec.parameters.get("apt")
    return base if isinstance(base, int) else -1


def uses_bundled_transport(remote: RemoteSection, description: RemoteDescription) -> bool:
    """Return True if an m-section uses the one transport; without BUNDLE only one can."""
    if description.bundle:
        return remote.mid in description.bundle
    usable = [section for section in description.sections if not section.rejected]
    data = [section for section in usable if section.kind == "application"]
    return remote is (data or usable)[0]


def is_data(remote: RemoteSection) -> bool:
    """Return True if an application m-section is for data channels."""
    profile, formats = remote.media.profile, remote.media.fmt
    if profile == "DTLS/SCTP":
        return len(formats) == 1 and str(formats[0]).isdigit() and int(formats[0]) < 65536
    return profile == "UDP/DTLS/SCTP" and formats == ["webrtc-datachannel"]


@dataclass(frozen=True)
class StaleOffer:
    """The last offer that was rolled back: the peer may have applied it and answer late."""

    plan: list[PlannedSection] = field(default_factory=list)
    #: The m-sections before it.
    sections: list[MediaSection] = field(default_factory=list)
    #: The ICE username fragment in it.
    username: str | None = None

    @property
    def is_consistent(self) -> bool:
        """True if the plan fits these m-sections."""
        return len(self.plan) >= len(self.sections) and all(
            planned.section is section or section.rejected
            for planned, section in zip(self.plan, self.sections, strict=False)
        )

    def follows(self, sections: Sequence[MediaSection]) -> bool:
        """Return True if the m-sections are still those from before the offer."""
        return self.sections == sections

    def repeat(self, plan: Sequence[PlannedSection]) -> list[PlannedSection]:
        """Return a plan with the same m-sections, because the peer may have applied this one.

        The m-section of a track that was removed since stays empty.
        """
        repeated = list(plan)
        for index, before in enumerate(self.plan):
            if index >= len(repeated) or repeated[index].section is not before.section:
                again = PlannedSection(before.section, before.codecs, before.extensions)
                repeated[index : index + 1] = [again]
            repeated[index].accepted = before.accepted
            local = before.local
            if local is not None and not local.removed and local.section is None:
                repeated[index].local, repeated[index].sender = local, before.sender
        return repeated


class AnswerTo(enum.Enum):
    """The local offer an answer was applied to."""

    NONE = "none"
    PENDING = "the pending offer"
    STALE = "an offer that was rolled back"


@dataclass(frozen=True)
class Outcome:
    """The result of applying a description: the accepted parts and the next steps.

    Attributes:
        answer_to: The offer an answer was applied to, NONE if it was not applied.
        changes: The remote tracks that were added and removed, in the order of the m-sections.
        answer: The answer to send to an offer.
        offer_again: Another local offer is needed.
        restart_ice: Another local offer must restart ICE.
        restarted_ice: The peer's offer has restarted ICE.
        pending_stands: The offer made since the stale one is still pending.
        is_superseded: The answer to a stale offer was ignored, because the peer will answer the
            pending one, which repeats it.
        error: The reason why an answer could not be applied.
    """

    answer_to: AnswerTo = AnswerTo.NONE
    changes: list[RemoteChange] = field(default_factory=list)
    answer: RTCSessionDescription | None = None
    offer_again: bool = False
    restart_ice: bool = False
    restarted_ice: bool = False
    pending_stands: bool = False
    is_superseded: bool = False
    error: Exception | None = None


def reject_unused_in_answer(plan: Sequence[PlannedSection], offer: RemoteDescription) -> None:
    """Reject the m-sections on which the peer has sent, and neither side sends any more."""
    accepted = {planned.section.mid for planned in plan if planned.accepted}
    group = [mid for mid in offer.bundle if mid in accepted]
    for planned, remote in zip(plan, offer.sections, strict=True):
        carries = remote.sends or planned.outgoing is not None
        if _is_rejectable(planned, group) and planned.section.used_by_peer and not carries:
            planned.accepted = False


def reject_unused_in_offer(plan: Sequence[PlannedSection], *, peer_is_artico_sync: bool) -> None:
    """Reject the m-sections on which neither side sends, except the spare ones.

    Args:
        peer_is_artico_sync: An artico_sync peer needs no spare ones: it puts its tracks on
            m-sections of its own.
    """
    group = [planned.section.mid for planned in plan if planned.accepted]
    spare = {"audio": SPARE_SECTIONS, "video": SPARE_SECTIONS}
    for planned in sorted(plan, key=lambda one: one.section.use_order):
        section = planned.section
        if section.transceiver is None or not _is_rejectable(planned, group):
            continue
        if not section.used_by_peer and not peer_is_artico_sync and spare[section.kind]:
            spare[section.kind] -= 1
        elif planned.outgoing is None and not section.sending and not section.receiving:
            planned.accepted = False


def _is_rejectable(planned: PlannedSection, group: Sequence[str]) -> bool:
    """Return True for media, except the m-section with the transport of all (RFC 9143 7)."""
    return planned.accepted and planned.section.is_media and planned.section.mid in group[1:]
