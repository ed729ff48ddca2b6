"""Parsing and validation of the peer's session descriptions (RFC 8866, RFC 8829).

aiortc's parser trusts its input. `parse_description` limits the size of a description, refuses what
could do damage, and drops the lines that the parser cannot read.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

from aiortc import sdp
from aiortc.codecs import CODECS
from aiortc.rtcdtlstransport import RTCDtlsParameters
from aiortc.rtcicetransport import RTCIceCandidate, RTCIceParameters

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.ice.candidates import parse_candidate_attribute
from artico_sync._webrtc.sdp.rtp_ids import EXTENSION_IDS, PAYLOAD_TYPES

logger = logging.getLogger(__name__)

#: Maximum number of lines of an m-section; the largest of Chromium has about 150.
MAXIMUM_SECTION_LINES = 600
#: Maximum number of characters of a line.
MAXIMUM_LINE_LENGTH = 4096
MEDIA_KINDS = ("audio", "video")
FINGERPRINT_ALGORITHMS = ("sha-256", "sha-384", "sha-512")
#: The RTCP feedback that a supported codec can use. Other feedback is dropped because the parser
#: compares each with every codec.
FEEDBACK = frozenset(
    " ".join(filter(None, (feedback.type, feedback.parameter)))
    for codecs in CODECS.values()
    for codec in codecs
    for feedback in codec.rtcpFeedback
)

#: At most as long as the header extension for it (RFC 8843 15).
_MID = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,16}")
_MEDIA_LINE = re.compile(r"m=([a-z]{1,16}) ([0-9]{1,5}) ([A-Z/]{3,32}) ([^ ].*)")
_NUMBER = re.compile(r"[0-9]{1,10}")
_ICE_TEXT = re.compile(r"[A-Za-z0-9+/]{4,256}")


class DescriptionError(ValueError):
    """A session description that cannot be applied."""


@dataclass
class RemoteSection:
    """An m-section of a remote description."""

    mid: str
    kind: str
    media: sdp.MediaDescription
    rejected: bool
    #: The direction as seen by the peer.
    direction: str
    #: The stream ids and the track id, None if the peer gives none.
    stream_ids: tuple[str, ...] = ()
    track_id: str | None = None

    @property
    def sends(self) -> bool:
        return not self.rejected and self.direction in ("sendonly", "sendrecv")

    @property
    def receives(self) -> bool:
        return not self.rejected and self.direction in ("recvonly", "sendrecv")


@dataclass
class RemoteDescription:
    """A remote offer or answer that is valid in itself."""

    type: str
    sections: list[RemoteSection]
    bundle: tuple[str, ...]
    #: None if every m-section is rejected.
    ice: RTCIceParameters | None
    dtls: RTCDtlsParameters | None
    candidates: list[RTCIceCandidate] = field(default_factory=list)
    #: The origin line, by which an artico_sync peer is recognized.
    origin: str = ""
    #: A hash of the text.
    identity: int = 0

    @property
    def fingerprints(self) -> frozenset[tuple[str, str]]:
        if self.dtls is None:
            return frozenset()
        return frozenset((f.algorithm.lower(), f.value.upper()) for f in self.dtls.fingerprints)


def parse_description(kind: object, text: object, settings: Settings) -> RemoteDescription:
    """Parse an offer or answer.

    Raises:
        DescriptionError: The text is not a description, is too large, or is incomplete.
    """
    if kind not in ("offer", "answer") or not isinstance(kind, str):
        raise DescriptionError(f"unknown type of description: {kind!r:.40}")
    if not isinstance(text, str):
        raise DescriptionError("the description is not text")
    if len(text) > settings.maximum_sdp:
        raise DescriptionError(f"the description has {len(text)} characters")
    session_lines, sections = _split(text, settings.maximum_media_lines)
    cleaned = [_clean_section(section) for section in sections]
    joined = "\r\n".join(_clean_session(session_lines) + [line for s in cleaned for line in s])
    try:
        parsed = sdp.SessionDescription.parse(joined + "\r\n")
    except Exception as error:
        # Any exception, because the parser raises what its indexing, assertions and conversions
        # happen to raise. Nothing has been changed yet.
        raise DescriptionError(f"unreadable description: {error!r:.200}") from error
    description = _assemble(kind, parsed, sections)
    description.identity = hash(text)
    return description


def _split(text: str, maximum: int) -> tuple[list[str], list[list[str]]]:
    lines = re.split(r"\r\n|\n|\r", text)
    if not lines or lines[0].strip() != "v=0":
        raise DescriptionError("the description does not begin with v=0")
    session: list[str] = []
    sections: list[list[str]] = []
    for line in lines:
        if len(line) > MAXIMUM_LINE_LENGTH:
            raise DescriptionError("the description has a line that is too long")
        if line.startswith("m="):
            sections.append([line])
        elif line:
            (sections[-1] if sections else session).append(line)
        if len(sections) > maximum or len((sections or [session])[-1]) > MAXIMUM_SECTION_LINES:
            raise DescriptionError("the description has too many lines")
    if not sections:
        raise DescriptionError("the description has no m-section")
    return session, sections


def _attribute(line: str) -> tuple[str, str]:
    name, _, value = line[2:].partition(":")
    return name, value


def _clean_session(lines: list[str]) -> list[str]:
    cleaned = []
    for line in lines:
        if line[:2] in ("v=", "o=", "s=", "t="):
            cleaned.append(line)
        elif line.startswith("a="):
            name, value = _attribute(line)
            if _is_readable(name, value, frozenset()):
                cleaned.append(line)
    return cleaned


def _clean_section(lines: list[str]) -> list[str]:
    """Return the lines of an m-section that aiortc's parser can read and that are needed."""
    match = _MEDIA_LINE.fullmatch(lines[0].rstrip())
    if match is None:
        raise DescriptionError(f"unreadable m-line: {lines[0]!r:.80}")
    if match[1] not in (*MEDIA_KINDS, "application"):
        return [f"m={match[1]} {match[2]} {match[3]} {match[4]}"] + [
            line for line in lines[1:] if line.startswith("a=mid:")
        ]
    payload_types = frozenset(
        _number(value.split(" ", 1)[0])
        for name, value in (_attribute(line) for line in lines[1:])
        if name == "rtpmap"
    ).intersection(PAYLOAD_TYPES)
    cleaned = [lines[0].rstrip()]
    mapped: set[int] = set()
    feedback: set[str] = set()
    for line in lines[1:]:
        name, value = _attribute(line)
        if not line.startswith("a=") or not _is_readable(name, value, payload_types):
            continue
        if name == "rtpmap":
            number = _number(value.split(" ", 1)[0])
            if number is None:
                raise DescriptionError(f"an rtpmap without a payload type: {value!r:.80}")
            if number in mapped or number not in PAYLOAD_TYPES:
                continue
            mapped.add(number)
        elif name == "rtcp-fb":
            line = "a=rtcp-fb:" + " ".join(value.split())
            if line in feedback:
                continue
            feedback.add(line)
        elif name == "extmap":
            line = "a=extmap:" + " ".join(value.split()[:2])
        cleaned.append(line)
    return cleaned


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _is_readable(name: str, value: str, payload_types: frozenset[int | None]) -> bool:
    """Return True if aiortc's parser can read an attribute, and it is needed."""
    words = value.split()
    match name:
        case "candidate" | "end-of-candidates" | "rtcp" | "sctpmap":
            return False  # candidates are parsed separately, the others are not needed
        case "extmap":
            return len(words) >= 2 and _number(words[0].partition("/")[0]) in EXTENSION_IDS
        case "fmtp":
            return len(words) >= 2 and _number(words[0]) in payload_types
        case "rtcp-fb":
            return " ".join(words[1:]) in FEEDBACK
        case "ssrc":
            return len(words) >= 2 and ":" in words[1] and bool(_NUMBER.fullmatch(words[0]))
        case "ssrc-group":
            return bool(words) and all(_NUMBER.fullmatch(word) for word in words[1:])
        case "setup":
            return value in sdp.DTLS_SETUP_ROLE
        case "fingerprint":
            return len(words) == 2
        case "max-message-size" | "sctp-port":
            return _NUMBER.fullmatch(value) is not None
    return True


def _assemble(
    kind: str, parsed: sdp.SessionDescription, sections: list[list[str]]
) -> RemoteDescription:
    bundle = next((group.items for group in parsed.group if group.semantic == "BUNDLE"), [])
    remote_sections: list[RemoteSection] = []
    seen: set[str] = set()
    for media, section in zip(parsed.media, sections, strict=True):
        mid = media.rtp.muxId
        if not mid or not _MID.fullmatch(mid) or mid in seen:
            raise DescriptionError("an m-section without a mid of its own")
        seen.add(mid)
        rejected = media.port == 0 and "a=bundle-only" not in section
        stream_ids, track_id = _read_msid(section, media)
        remote_sections.append(
            RemoteSection(
                mid=mid,
                kind=media.kind,
                media=media,
                rejected=rejected,
                direction=media.direction or "sendrecv",
                stream_ids=stream_ids,
                track_id=track_id,
            )
        )
    tagged = _transport_section(remote_sections, tuple(str(item) for item in bundle))
    description = RemoteDescription(
        type=kind,
        sections=remote_sections,
        bundle=tuple(str(item) for item in bundle),
        ice=None if tagged is None else tagged.media.ice,
        dtls=None if tagged is None else tagged.media.dtls,
        origin=parsed.origin or "",
    )
    if tagged is not None:
        _check_transport(description)
        description.candidates = _read_candidates(
            sections, remote_sections, description.bundle, tagged
        )
    return description


def _transport_section(
    sections: list[RemoteSection], bundle: tuple[str, ...]
) -> RemoteSection | None:
    """Return the m-section with the transport for all: the first of the BUNDLE group in use."""
    usable = {section.mid: section for section in sections if not section.rejected}
    ordered = [usable[mid] for mid in bundle if mid in usable] or list(usable.values())
    complete = [
        section
        for section in ordered
        if section.media.dtls and section.media.ice and section.media.ice.usernameFragment
    ]
    return next(iter(complete or ordered), None)


def _check_transport(description: RemoteDescription) -> None:
    ice, dtls = description.ice, description.dtls
    if ice is None or not _ICE_TEXT.fullmatch(ice.usernameFragment or ""):
        raise DescriptionError("the ICE username fragment is missing or malformed")
    if not _ICE_TEXT.fullmatch(ice.password or "") or len(ice.password or "") < 22:
        raise DescriptionError("the ICE password is missing or malformed")
    if dtls is None:
        raise DescriptionError("the DTLS setup attribute is missing")
    if not any(f.algorithm.lower() in FINGERPRINT_ALGORITHMS for f in dtls.fingerprints):
        raise DescriptionError("there is no DTLS fingerprint of a supported algorithm")
    if description.type == "answer" and dtls.role not in ("client", "server"):
        raise DescriptionError("an answer must be 'active' or 'passive'")


def _read_msid(
    section: list[str], media: sdp.MediaDescription
) -> tuple[tuple[str, ...], str | None]:
    """Return the stream ids and the track id of an m-section; `-` stands for no stream."""
    values = [line[len("a=msid:") :] for line in section if line.startswith("a=msid:")]
    if not values:
        values = [ssrc.msid for ssrc in media.ssrc if ssrc.msid]
    streams: list[str] = []
    track_id: str | None = None
    for value in values:
        words = value.split()
        if words and words[0] != "-" and words[0] not in streams:
            streams.append(words[0])
        if track_id is None and len(words) > 1:
            track_id = words[1]
    return tuple(streams), track_id


def _read_candidates(
    sections: list[list[str]],
    remote_sections: list[RemoteSection],
    bundle: tuple[str, ...],
    tagged: RemoteSection,
) -> list[RTCIceCandidate]:
    found: list[RTCIceCandidate] = []
    seen: set[str] = set()
    for remote, lines in zip(remote_sections, sections, strict=True):
        if remote is not tagged and remote.mid not in bundle:
            continue
        for text in lines:
            if not text.startswith("a=candidate:") or text in seen:
                continue
            seen.add(text)
            try:
                candidate = parse_candidate_attribute(text[2:])
            except ValueError as error:
                logger.debug("dropped a candidate of a description: %s", error)
                continue
            if candidate is not None:
                candidate.sdpMid = remote.mid
                found.append(candidate)
    return found
