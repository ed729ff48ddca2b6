"""Payload types and header-extension ids of one connection; loop thread.

All m-lines share one transport, so each number may have one meaning only, for as long as the
connection lives: Chromium's tab crashes when a re-offer gives one another meaning.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from aiortc.codecs import CODECS, HEADER_EXTENSIONS, is_rtx
from aiortc.rtcpeerconnection import is_codec_compatible
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpHeaderExtensionParameters
from aiortc.rtp import DYNAMIC_PAYLOAD_TYPES

#: What can be told from RTCP on one port (RFC 5761).
PAYLOAD_TYPES = frozenset((*range(64), *range(96, 128)))
#: What fits a two-byte header, and what fits the one-byte header that we write (RFC 8285).
EXTENSION_IDS = range(1, 256)
SHORT_EXTENSION_IDS = range(1, 15)

_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

#: Ids for where nothing has been negotiated. Both sides may offer at once, and Chromium, giving
#: way, holds our ids against those of the offer it takes back. It numbers in the order in which
#: it meets the extensions: 2 is always abs-send-time, 9 is sdes:mid or nothing, 12 is nothing.
_EXTENSION_IDS = {_MID: 9, _SEND_TIME: 2, _AUDIO_LEVEL: 12}
#: Chromium's own payload types.
_PAYLOAD_TYPES = {
    ("audio/opus", None): 111,
    ("video/vp8", None): 96,
    ("video/h264", "42001f"): 102,
    ("video/h264", "42e01f"): 108,
}
#: Where a payload type comes from when the wanted one is taken (RFC 5761, section 4).
_SPARE_PAYLOAD_TYPES = (*reversed(DYNAMIC_PAYLOAD_TYPES), *range(63, 34, -1))


class RtpIdAllocator:
    """Which payload types and header-extension ids are taken, and by what.

    Numbers that no packet can carry are not remembered, so there are never more than fit a packet.
    """

    def __init__(self) -> None:
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._extensions: dict[str, int] = {}
        #: The values of `_extensions`: a peer may name so many that no search must depend on them.
        self._extension_ids: set[int] = set()

    def note(
        self,
        codecs: Iterable[RTCRtpCodecParameters],
        extensions: Iterable[RTCRtpHeaderExtensionParameters],
    ) -> None:
        """Take down what a description uses; what was there first stays."""
        for codec in codecs:
            number = codec.payloadType
            if number is not None and number in PAYLOAD_TYPES:
                self._codecs.setdefault(number, codec)
        for extension in extensions:
            self._note_extension(extension.uri, extension.id)

    def _note_extension(self, uri: str, number: int) -> None:
        if number not in EXTENSION_IDS or number in self._extension_ids or uri in self._extensions:
            return
        self._extensions[uri] = number
        self._extension_ids.add(number)

    def recall(self, earlier: RtpIdAllocator) -> None:
        """Take down what had a meaning before, where that does not contradict what has one now."""
        self.note(
            earlier._codecs.values(),
            [RTCRtpHeaderExtensionParameters(id=n, uri=u) for u, n in earlier._extensions.items()],
        )

    def copy(self) -> RtpIdAllocator:
        """The same, to be changed by an offer that may come to nothing."""
        same = RtpIdAllocator()
        same.recall(self)
        return same

    def codecs(self, kind: str) -> list[RTCRtpCodecParameters]:
        """The codecs to offer on a new m-line."""
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
        """The header extensions to offer on a new m-line."""
        offered = []
        for template in HEADER_EXTENSIONS[kind]:
            number = self._extension_id(template.uri)
            if number is not None:
                self._note_extension(template.uri, number)
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
        raise ValueError("the peer uses every payload type there is")
