"""Parts of descriptions as browsers write them, and functions to read descriptions."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from aiortc import RTCConfiguration

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sdp.parser import parse_description
from tests.negotiating import run

SETTINGS = Settings()
NO_SERVERS = RTCConfiguration(iceServers=[])
MID_URI = "urn:ietf:params:rtp-hdrext:sdes:mid"
SEND_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
TRANSPORT = """\
a=ice-ufrag:KK5b
a=ice-pwd:LAkaggjXafOZeHNLJOiM7/IV
a=fingerprint:sha-256 55:0E:C5:6D:CF:91:0F:44:3A:00:24:5A:64:A0:15:16:B5:8E:11:C6:23:75:A3:11:07:BB\
:4C:A8:EA:0A:98:01
a=setup:actpass
"""
HEAD = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE {}\na=msid-semantic: WMS\n"
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\na=mid:{}\na=sctp-port:5000\n" + TRANSPORT
AUDIO = """\
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9
a=mid:{}
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendrecv
a=msid:stream audio-track
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=rtpmap:9 G722/8000
a=ssrc:1215746153 cname:x
"""
VIDEO = """\
m=video 9 UDP/TLS/RTP/SAVPF 39 40 45
a=mid:{}
a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid
a=sendonly
a=msid:- video-track
a=rtcp-mux
a=rtpmap:39 VP8/90000
a=rtcp-fb:39 nack pli
a=rtpmap:40 rtx/90000
a=fmtp:40 apt=39
a=rtpmap:45 AV1/90000
a=ssrc-group:FID 2377331915 2863142970
a=ssrc:2377331915 cname:x
a=ssrc:2863142970 cname:x
"""


def offer_of(*sections: str, bundle: str | None = None) -> str:
    mids = [match[1] for section in sections for match in re.finditer(r"a=mid:(\S+)", section)]
    return HEAD.format(" ".join(mids) if bundle is None else bundle) + "".join(sections)


def section(template: str, mid: str) -> str:
    text = template.format(mid)
    return text if template is DATA else text + TRANSPORT


def lines_of(sdp: str) -> list[str]:
    return ["m=" + part for part in sdp.replace("\r\n", "\n").split("\nm=")[1:]]


def extensions_of(text: str) -> dict[str, int]:
    return {uri: int(number) for number, uri in re.findall(r"a=extmap:(\d+) (\S+)", text)}


def payload_types_of(text: str) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for number, name in re.findall(r"a=rtpmap:(\d+) ([^/\s]+)", text):
        found.setdefault(name, set()).add(int(number))
    return found


def alone(test: Callable[[PeerConnection], Awaitable[None]]) -> None:
    async def body() -> None:
        connection = PeerConnection(NO_SERVERS, SETTINGS)
        try:
            await test(connection)
        finally:
            await connection.close()

    run(body)


async def answer(connection: PeerConnection, sdp: str) -> str:
    outcome = await connection.answer_offer(parse_description("offer", sdp, SETTINGS))
    assert outcome.answer is not None
    return outcome.answer.sdp
