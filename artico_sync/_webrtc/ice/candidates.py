"""ICE candidates: their shapes in signals, SDP and aiortc, and which of them can be checked."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TypedDict

from aioice import Candidate
from aiortc.rtcicetransport import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp


class CandidateSignal(TypedDict):
    """A candidate in the shape of a browser's `RTCIceCandidate.toJSON()`."""

    candidate: str
    sdpMid: str | None
    sdpMLineIndex: int | None
    usernameFragment: str | None


@dataclass(frozen=True)
class RemoteCandidate:
    """A candidate signaled by the peer, and the ICE generation it belongs to."""

    candidate: RTCIceCandidate
    username: str | None


CANDIDATE_CHARACTERS_MAXIMUM = 1024
PRIORITY_MAXIMUM = 2**32 - 1
CANDIDATE_TYPES = frozenset({"host", "srflx", "prflx", "relay"})
_MDNS_NAME = re.compile(r"[0-9A-Za-z-]{1,63}\.local")
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")


def parse_candidate_attribute(text: str) -> RTCIceCandidate | None:
    """Parse `candidate:...`; return None if it is well formed but unusable (TCP, RTCP).

    Raises:
        ValueError: It is malformed.
    """
    if len(text) > CANDIDATE_CHARACTERS_MAXIMUM:
        raise ValueError("the candidate is too long")
    words = text.strip().removeprefix("a=").removeprefix("candidate:").split()
    if len(words) < 8 or words[6] != "typ":
        raise ValueError("the candidate is malformed")
    candidate = candidate_from_sdp(" ".join(words))
    if not _FOUNDATION.fullmatch(candidate.foundation):
        raise ValueError("the candidate's foundation is malformed")
    if not 0 <= candidate.priority <= PRIORITY_MAXIMUM or not 0 <= candidate.port < 1 << 16:
        raise ValueError("the candidate has a number out of range")
    if candidate.type not in CANDIDATE_TYPES:
        raise ValueError("the candidate is of an unknown type")
    if not _MDNS_NAME.fullmatch(candidate.ip):
        ipaddress.ip_address(candidate.ip)
    if candidate.component != 1 or candidate.protocol.lower() != "udp" or candidate.port == 0:
        return None
    return candidate


def parse_candidate_signal(data: object) -> RemoteCandidate | None:
    """Parse a candidate signal; return None if unusable (TCP) or the end of candidates.

    Raises:
        ValueError: It is malformed.
    """
    if data is None:
        return None
    if not isinstance(data, dict):
        raise ValueError("the candidate is not an object")
    text = data.get("candidate")
    if text is None or text == "":
        return None
    mid, index = data.get("sdpMid"), data.get("sdpMLineIndex")
    username = data.get("usernameFragment")
    if not isinstance(text, str) or not isinstance(mid, str | None):
        raise ValueError("the candidate is not text")
    if not isinstance(index, int | None) or not isinstance(username, str | None):
        raise ValueError("the candidate has a field of a wrong type")
    candidate = parse_candidate_attribute(text)
    if candidate is None:
        return None
    candidate.sdpMid = mid
    candidate.sdpMLineIndex = index
    return RemoteCandidate(candidate, username or _username_extension(text))


def _username_extension(text: str) -> str | None:
    words = text.split()
    return words[words.index("ufrag") + 1] if "ufrag" in words[:-1] else None


def candidate_signal(
    candidate: RTCIceCandidate, mid: str, index: int, username: str
) -> CandidateSignal:
    """Return a local candidate in the shape that a browser's `addIceCandidate` accepts."""
    return {
        "candidate": f"candidate:{candidate_to_sdp(candidate)}",
        "sdpMid": mid,
        "sdpMLineIndex": index,
        "usernameFragment": username,
    }


def is_usable(candidate: Candidate) -> bool:
    """Return whether checks from a UDP socket can reach a candidate."""
    return (
        candidate.component == 1
        and candidate.transport.lower() == "udp"
        and 0 < candidate.port < 65536
        and 0 <= candidate.priority <= PRIORITY_MAXIMUM
        and candidate.type in CANDIDATE_TYPES
    )


def is_address(host: str) -> bool:
    """Return whether `host` is a unicast address without a scope."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_multicast or "%" in host)
