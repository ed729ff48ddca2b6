"""ICE candidates between the JavaScript shape and aiortc's; loop thread, no state."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TypedDict

from aiortc.rtcicetransport import RTCIceCandidate
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp


class CandidateSignal(TypedDict):
    """A candidate as `RTCIceCandidate.toJSON()` of a browser gives it."""

    candidate: str
    sdpMid: str | None
    sdpMLineIndex: int | None
    usernameFragment: str | None


@dataclass(frozen=True)
class RemoteCandidate:
    """A candidate the peer signalled, and the ICE generation it belongs to."""

    candidate: RTCIceCandidate
    username: str | None


MAXIMUM_CANDIDATE = 1024
_TYPES = ("host", "srflx", "prflx", "relay")
_MDNS_NAME = re.compile(r"[0-9A-Za-z-]{1,63}\.local")
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")


def parse_candidate_attribute(text: str) -> RTCIceCandidate | None:
    """Read `candidate:...`; None for one that is well formed but no use to us (TCP, RTCP).

    Raises:
        ValueError: It is malformed.
    """
    if len(text) > MAXIMUM_CANDIDATE:
        raise ValueError("the candidate is too long")
    words = text.strip().removeprefix("a=").removeprefix("candidate:").split()
    if len(words) < 8 or words[6] != "typ":
        raise ValueError("the candidate is malformed")
    candidate = candidate_from_sdp(" ".join(words))
    if not _FOUNDATION.fullmatch(candidate.foundation):
        raise ValueError("the candidate's foundation is malformed")
    if not 0 <= candidate.priority < 1 << 32 or not 0 <= candidate.port < 1 << 16:
        raise ValueError("the candidate has a number out of range")
    if candidate.type not in _TYPES:
        raise ValueError("the candidate is of an unknown type")
    if not _MDNS_NAME.fullmatch(candidate.ip):
        ipaddress.ip_address(candidate.ip)
    if candidate.component != 1 or candidate.protocol.lower() != "udp" or candidate.port == 0:
        return None
    return candidate


def parse_candidate_signal(data: object) -> RemoteCandidate | None:
    """Read a candidate signal; None when it says nothing of use (end of candidates, TCP).

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
    """A local candidate in the shape a browser's `addIceCandidate` takes."""
    return {
        "candidate": f"candidate:{candidate_to_sdp(candidate)}",
        "sdpMid": mid,
        "sdpMLineIndex": index,
        "usernameFragment": username,
    }
