"""Payload types and header extension ids of one connection.

All m-sections share one transport, so each number has one meaning as long as the connection lives:
a tab of Chromium crashes when a new offer changes it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from aiortc.codecs import CODECS, HEADER_EXTENSIONS, is_rtx
from aiortc.rtcpeerconnection import is_codec_compatible
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpHeaderExtensionParameters,
)
from aiortc.rtp import DYNAMIC_PAYLOAD_TYPES

#: Payload types that differ from RTCP packet types on one port (RFC 5761 4).
PAYLOAD_TYPES = frozenset((*range(64), *range(96, 128)))
#: Ids for two-byte headers, and for the one-byte headers that are sent (RFC 8285).
EXTENSION_IDS = range(1, 256)
SHORT_EXTENSION_IDS = range(1, 15)

_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

#: Ids for the first negotiation. In glare Chromium compares the ids with those of the offer that it
#: rolls back. It assigns ids in the order of its extensions: 2 is always abs-send-time, 9 is
#: sdes:mid or unused, 12 is unused.
_EXTENSION_IDS = {_MID: 9, _SEND_TIME: 2, _AUDIO_LEVEL: 12}
#: The payload types that Chromium uses.
_PAYLOAD_TYPES = {
    ("audio/opus", None): 111,
    ("video/vp8", None): 96,
    ("video/h264", "42001f"): 102,
    ("video/h264", "42e01f"): 108,
}
#: Payload types to choose from if the preferred one is in use (RFC 5761 4).
_SPARE_PAYLOAD_TYPES = (*reversed(DYNAMIC_PAYLOAD_TYPES), *range(63, 34, -1))


class RtpIdAllocator:
    """Payload types and header extension ids in use, and free ones for new m-sections.

    Only numbers that fit a packet are reserved, which limits their number.
    """

    def __init__(self) -> None:
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._extensions: dict[str, int] = {}
        #: The values of `_extensions`, as a set because a peer may send many.
        self._extension_ids: set[int] = set()

    def reserve(
        self,
        codecs: Iterable[RTCRtpCodecParameters],
        extensions: Iterable[RTCRtpHeaderExtensionParameters],
    ) -> None:
        """Reserve the numbers in a description, except those reserved for something else."""
        for codec in codecs:
            number = codec.payloadType
            if number is not None and number in PAYLOAD_TYPES:
                self._codecs.setdefault(number, codec)
        for extension in extensions:
            self._reserve_extension(extension.uri, extension.id)

    def _reserve_extension(self, uri: str, number: int) -> None:
        if number not in EXTENSION_IDS or number in self._extension_ids or uri in self._extensions:
            return
        self._extensions[uri] = number
        self._extension_ids.add(number)

    def reserve_from(self, earlier: RtpIdAllocator) -> None:
        """Also reserve ids used earlier, unless they are in use for something else now."""
        self.reserve(
            earlier._codecs.values(),
            [RTCRtpHeaderExtensionParameters(id=n, uri=u) for u, n in earlier._extensions.items()],
        )

    def copy(self) -> RtpIdAllocator:
        """Return a copy, for an offer that may be rolled back."""
        same = RtpIdAllocator()
        same.reserve_from(self)
        return same

    def codecs(self, kind: str) -> list[RTCRtpCodecParameters]:
        """Return the codecs to offer on a new m-section."""
        offered: list[RTCRtpCodecParameters] = []
        for template in CODECS[kind]:
            codec = copy.deepcopy(template)
            if is_rtx(codec):
                base = offered[-1].payloadType or 0
                codec.parameters = {"apt": base}
                codec.payloadType = self._retransmission_type(codec, base)
            else:
                codec.payloadType = self._payload_type(codec)
            offered.append(codec)
            self._codecs.setdefault(codec.payloadType, codec)
        return offered

    def extensions(self, kind: str) -> list[RTCRtpHeaderExtensionParameters]:
        """Return the header extensions to offer on a new m-section."""
        offered = []
        for template in HEADER_EXTENSIONS[kind]:
            number = self._extension_id(template.uri)
            if number is not None:
                self._reserve_extension(template.uri, number)
                offered.append(RTCRtpHeaderExtensionParameters(id=number, uri=template.uri))
        return offered

    def _extension_id(self, uri: str) -> int | None:
        if uri in self._extensions:
            return self._extensions[uri]
        wanted = _EXTENSION_IDS.get(uri)
        candidates = [*([wanted] if wanted is not None else []), *reversed(SHORT_EXTENSION_IDS)]
        return next((n for n in candidates if n not in self._extension_ids), None)

    def _payload_type(self, codec: RTCRtpCodecParameters) -> int:
        if codec.payloadType is not None and codec.payloadType not in DYNAMIC_PAYLOAD_TYPES:
            return codec.payloadType
        for number, known in self._codecs.items():
            if is_codec_compatible(codec, known):
                return number
        profile = codec.parameters.get("profile-level-id")
        key = (codec.mimeType.lower(), None if profile is None else str(profile))
        return self._free(_PAYLOAD_TYPES.get(key))

    def _retransmission_type(self, codec: RTCRtpCodecParameters, base: int) -> int:
        for number, known in self._codecs.items():
            if is_rtx(known) and known.parameters.get("apt") == base:
                return number
        return self._free(base + 1)

    def _free(self, wanted: int | None) -> int:
        if wanted is not None and wanted not in self._codecs:
            return wanted
        number: int
        for number in _SPARE_PAYLOAD_TYPES:
            if number not in self._codecs:
                return number
        raise ValueError("the peer uses all payload types")
