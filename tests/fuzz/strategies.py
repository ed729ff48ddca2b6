"""Strategies for input of a hostile peer, from nonsense to nearly valid."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = ("type", "data", "sdp", "candidate", "sdpMid", "sdpMLineIndex", "usernameFragment",
         "reason", "detail", "agent", "offer", "cmd", "payload", "streamId", "metadata",
         )  # fmt: skip
WORDS = ("sdp", "offer", "answer", "candidate", "ringing", "bye", "rollback", "pranswer",
         "artico_sync", "[artico]", "stream-meta", "hangup", "rejected", "0", "call:")  # fmt: skip

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 70000)
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(WORDS)
)

#: Whatever JSON can say.
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)

ADDRESSES = st.sampled_from(
    ["127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::1", "fe80::1%lo", "1.2.3",
     "x.local", "00000000-0000-0000-0000-000000000000.local", "example.invalid", "", "٣"]
)  # fmt: skip

#: Candidates that are nearly right.
CANDIDATES = st.builds(
    lambda *words: " ".join(str(word) for word in words),
    st.sampled_from(["candidate:1", "candidate:", "a=candidate:1", "1", "candidate:" + "x" * 60]),
    st.sampled_from([1, 2, 0, -1, 256, "x"]),
    st.sampled_from(["udp", "UDP", "tcp", "quic", ""]),
    st.sampled_from([2130706431, 0, -1, 2**40, "x"]),
    ADDRESSES,
    st.sampled_from([9, 1, 5000, 65535, 0, 65536, -1, "x", "1e3"]),
    st.sampled_from(["typ", "type", ""]),
    st.sampled_from(["host", "srflx", "relay", "prflx", "nothing"]),
    st.sampled_from(["", "raddr 1.2.3.4 rport 5", "tcptype active", "ufrag x", "generation"]),
)

CANDIDATE_SIGNALS = st.fixed_dictionaries(
    {"type": st.just("candidate")},
    optional={
        "data": st.none()
        | JSON
        | st.fixed_dictionaries(
            {"candidate": CANDIDATES | SCALARS},
            optional={
                "sdpMid": st.sampled_from(["0", "a0", "", "x"]) | SCALARS,
                "sdpMLineIndex": st.integers(-1, 300) | SCALARS,
                "usernameFragment": SCALARS,
            },
        )
    },
)

SIGNALS: st.SearchStrategy[Any] = (
    JSON
    | CANDIDATE_SIGNALS
    | st.fixed_dictionaries(
        {"type": st.sampled_from(WORDS) | SCALARS},
        optional={"data": JSON, "agent": SCALARS},
    )
    | st.fixed_dictionaries(
        {
            "type": st.just("sdp"),
            "data": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["offer", "answer", "rollback", ""]) | SCALARS,
                    "sdp": st.text(max_size=100) | SCALARS,
                },
                optional={"offer": SCALARS},
            ),
        }
    )
)


@st.composite
def mutations(draw: st.DrawFn, text: str) -> str:
    """A description with some of its lines damaged, gone, doubled or in another order."""
    lines = text.split("\r\n")
    for _ in range(draw(st.integers(1, 6))):
        if not lines:
            break
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.integers(0, 8))
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, draw(st.sampled_from(lines)))
        elif kind == 2:
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 3:
            words = lines[at].split(" ")
            words[draw(st.integers(0, len(words) - 1))] = draw(
                st.sampled_from(["", "0", "-1", "65536", "99999999999999999999", "x", "*", "\x00"])
            )
            lines[at] = " ".join(words)
        elif kind == 4:
            cut = draw(st.integers(0, len(lines[at])))
            lines[at] = lines[at][:cut] + draw(st.text(max_size=5)) + lines[at][cut:]
        elif kind == 5:
            lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
        elif kind == 6:
            lines[at] = lines[at] * draw(st.sampled_from([2, 50]))
        elif kind == 7:
            name, _, _ = lines[at].partition(":")
            lines[at] = f"{name}:{draw(st.text(max_size=20))}"
        else:
            lines.insert(at, draw(st.sampled_from(EXTRA_LINES)))
    return draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"])).join(lines)


EXTRA_LINES = (
    "a=group:BUNDLE 0 1 2 a0 b0",
    "a=setup:holdconn",
    "a=ice-lite",
    "a=ice-ufrag:",
    "a=ice-pwd:short",
    "a=fingerprint:sha-256 00:11",
    "a=fingerprint:md5 00:11",
    "a=rtpmap:96 VP8/90000",
    "a=rtpmap:300 opus/0/0",
    "a=fmtp:96 apt=97;apt=96",
    "a=extmap:0 x",
    "a=extmap:15/sendonly urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=msid:- -",
    "a=ssrc-group:FID 1 2",
    "a=ssrc:0 cname:x",
    "a=sctp-port:0",
    "a=max-message-size:-1",
    "a=rid:hi send",
    "a=simulcast:send hi;lo",
    "a=inactive",
    "a=bundle-only",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "m=video 0 UDP/TLS/RTP/SAVPF 96",
    "m=text 9 RTP/AVP 0",
    "a=candidate:1 1 udp 1 127.0.0.1 9 typ host",
    "a=end-of-candidates",
    "a=rtcp-mux",
    "a=mid:",
)
