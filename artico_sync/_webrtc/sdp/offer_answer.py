"""What an offer or an answer is going to mean for each m-line; pure, changes nothing; loop thread.

Everything that can be refused is refused here, before anything has been touched.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from aiortc.codecs import CODECS, HEADER_EXTENSIONS, is_rtx
from aiortc.rtcpeerconnection import find_common_header_extensions, is_codec_compatible
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from artico_sync._webrtc.sdp.media_sections import MediaSection, PlannedSection, payload_types
from artico_sync._webrtc.sdp.parser import DescriptionError, RemoteDescription, RemoteSection
from artico_sync._webrtc.sdp.rtp_ids import PAYLOAD_TYPES, SHORT_EXTENSION_IDS, RtpIdAllocator


def identifiers_in_use(
    lines: Sequence[MediaSection], remote: RemoteDescription | None
) -> RtpIdAllocator:
    """The payload types and header-extension ids that have a meaning already."""
    identifiers = RtpIdAllocator()
    for line in lines:
        identifiers.note(line.codecs, line.extensions)
    for theirs in remote.lines if remote is not None else ():
        identifiers.note(theirs.media.rtp.codecs, theirs.media.rtp.headerExtensions)
    return identifiers


def plan_answer(lines: Sequence[MediaSection], offer: RemoteDescription) -> list[PlannedSection]:
    """What we make of an offer.

    Raises:
        DescriptionError: It cannot follow on what was negotiated before.
    """
    if len(offer.lines) < len(lines):
        raise DescriptionError("the offer has fewer m-lines than before")
    plan: list[PlannedSection] = []
    known = {line.mid: index for index, line in enumerate(lines)}
    with_data = False
    for index, remote in enumerate(offer.lines):
        line = lines[index] if index < len(lines) else None
        if line is not None and line.rejected and line.mid != remote.mid:
            line = None  # a rejected m-line may be used again, for anything
        if line is None:
            if remote.mid in known:
                raise DescriptionError("a mid moved to another m-line")
            line = MediaSection(remote.mid, remote.kind, ours=False)
        elif line.mid != remote.mid or line.kind != remote.kind:
            raise DescriptionError("an m-line changed its mid or its kind")
        planned = PlannedSection(line, line.codecs, line.extensions)
        planned.accepted = not remote.rejected and is_carried(remote, offer)
        if line.kind == "application":
            planned.accepted = planned.accepted and not with_data and is_data(remote)
            with_data = with_data or planned.accepted
        elif line.is_media:
            narrow(planned, remote, offered=None)
        else:
            planned.accepted = False
        plan.append(planned)
    return plan


def apply_answer(plan: Sequence[PlannedSection], answer: RemoteDescription) -> None:
    """Narrow an offer's plan down to what the answer leaves of it.

    Raises:
        DescriptionError: It does not answer that offer.
    """
    offered = [(planned.line.mid, planned.line.kind) for planned in plan]
    if offered != [(line.mid, line.kind) for line in answer.lines]:
        raise DescriptionError("the answer's m-lines are not the offer's")
    for planned, remote in zip(plan, answer.lines, strict=True):
        if planned.line.is_media and remote.receives and not planned.sends:
            raise DescriptionError("the answer takes a track that was not offered")
        if not planned.accepted or remote.rejected:
            planned.accepted = False
            continue
        if not is_carried(remote, answer):
            raise DescriptionError("the answer wants a second transport")
        if planned.line.is_media:
            narrow(planned, remote, offered=set(payload_types(planned.codecs)))


def narrow(planned: PlannedSection, remote: RemoteSection, *, offered: set[int] | None) -> None:
    """Keep the codecs and header extensions both sides have; without any, give up the m-line."""
    if not planned.accepted:
        return
    kind = planned.line.kind
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
    """The peer's codecs that we have too, in its order, under its payload types.

    Args:
        listed: The payload types the m-line names.

    aiortc's own function puts payload types of its own for those from 35 to 63, which browsers
    use when the others have run out.
    """
    common: list[RTCRtpCodecParameters] = []
    bases: dict[int, int] = {}
    used: set[int] = set()
    for theirs in offered:
        number = theirs.payloadType
        if number is None or number not in PAYLOAD_TYPES or number in used or number not in listed:
            continue
        used.add(number)
        if is_rtx(theirs):
            if bases.get(_base_of(theirs)) == theirs.clockRate:
                common.append(copy.deepcopy(theirs))
            continue
        ours = next((codec for codec in CODECS[kind] if is_codec_compatible(codec, theirs)), None)
        if ours is not None:
            codec = copy.deepcopy(ours)
            codec.payloadType = number
            codec.rtcpFeedback = [f for f in codec.rtcpFeedback if f in theirs.rtcpFeedback]
            common.append(codec)
            bases[number] = codec.clockRate
    return common


def _base_of(codec: RTCRtpCodecParameters) -> int:
    base = codec.parameters.get("apt")
    return base if isinstance(base, int) else -1


def is_carried(remote: RemoteSection, description: RemoteDescription) -> bool:
    """Whether an m-line shares the one transport; without BUNDLE only one m-line can."""
    if description.bundle:
        return remote.mid in description.bundle
    usable = [line for line in description.lines if not line.rejected]
    data = [line for line in usable if line.kind == "application"]
    return remote is (data or usable)[0]


def is_data(remote: RemoteSection) -> bool:
    """Whether an application m-line is one of data channels."""
    profile, formats = remote.media.profile, remote.media.fmt
    if profile == "DTLS/SCTP":
        return len(formats) == 1 and str(formats[0]).isdigit() and int(formats[0]) < 65536
    return profile == "UDP/DTLS/SCTP" and formats == ["webrtc-datachannel"]
