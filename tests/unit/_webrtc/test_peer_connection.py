"""The peer connection with remote descriptions of all kinds, and the numbers in local ones."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InvalidStateError

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sdp.parser import DescriptionError, parse_description
from tests.descriptions import (
    AUDIO,
    DATA,
    HEAD,
    MID_URI,
    NO_SERVERS,
    SEND_TIME_URI,
    SETTINGS,
    TRANSPORT,
    VIDEO,
    alone,
    answer,
    extensions_of,
    lines_of,
    offer_of,
    payload_types_of,
    section,
)
from tests.negotiating import LIMIT, End, Still, run, settle, until, with_call

# Numbers


def test_a_browsers_numbers_are_kept_for_every_m_line() -> None:
    async def test(connection: PeerConnection) -> None:
        first = offer_of(section(DATA, "0"), section(AUDIO, "1"), section(VIDEO, "2"))
        lines = lines_of(await answer(connection, first))
        assert [line.split()[0] for line in lines] == ["m=application", "m=audio", "m=video"]
        connection.add_local_track(Still("video"), "s")
        connection.add_local_track(Still("audio"), "s")
        offered = (await connection.create_offer()).sdp
        again = lines_of(offered)
        for before, after in zip(lines, again, strict=False):
            assert payload_types_of(before) == payload_types_of(after)
            assert extensions_of(before) == extensions_of(after)
        assert len(again) == 5
        types = payload_types_of(offered)
        assert types["opus"] == {111} and types["VP8"] == {39} and types["G722"] == {9}
        # 40 is the peer's RTX for 39; 45 and 63 are unknown codecs and stay reserved.
        assert 40 in types["rtx"]
        taken = [number for numbers in types.values() for number in numbers]
        assert len(taken) == len(set(taken)) and not {45, 63} & set(taken)
        numbers = {name: set[int]() for name in ("mid", "time", "level")}
        for line in again:
            for uri, number in extensions_of(line).items():
                name = "mid" if uri == MID_URI else "time" if uri == SEND_TIME_URI else "level"
                numbers[name].add(number)
        assert numbers == {"mid": {4}, "time": {7}, "level": {1}}
        assert offered.count("a=setup:actpass") == 5

    alone(test)


def test_numbers_of_a_first_media_offer_never_contradict_chromium() -> None:
    async def test(connection: PeerConnection) -> None:
        connection.open_channel("dc")
        connection.add_local_track(Still("audio"), "s")
        connection.add_local_track(Still("video"), "s")
        text = (await connection.create_offer()).sdp
        assert set(extensions_of(text).values()) <= {2, 9, 12}
        types = payload_types_of(text)
        assert types["opus"] == {111} and types["VP8"] == {96}
        assert re.findall(r"a=mid:(\S+)", text) == ["a0", "a1", "a2"]

    alone(test)


def test_mids_are_never_used_twice() -> None:
    async def test(connection: PeerConnection) -> None:
        connection.open_channel("dc")
        seen: set[str] = set()
        for _ in range(3):
            offered = re.findall(r"a=mid:(\S+)", (await connection.create_offer()).sdp)
            assert not seen & set(offered)
            seen |= set(offered)
            await connection.rollback()
            await connection.rollback()

    alone(test)


# Unusual but valid offers


@pytest.mark.parametrize(
    "sections,ports",
    [
        ([section(AUDIO, "0")], [True]),
        ([section(DATA, "data"), section(DATA, "more")], [True, False]),
        (
            [section(DATA, "0"), section(VIDEO, "1").replace("VP8", "VP7").replace("AV1", "AV2")],
            [True, False],
        ),
        (
            [section(DATA, "0"), "m=text 9 UDP/TLS/RTP/SAVPF 98\na=mid:1\na=rtpmap:98 t140/1000\n"],
            [True, False],
        ),
        (
            [section(DATA, "0"), "m=audio 0 UDP/TLS/RTP/SAVPF 0\na=inactive\na=mid:1\n"],
            [True, False],
        ),
        (
            [section(DATA, "0"), AUDIO.format("1").replace(" 9 ", " 0 ", 1) + "a=bundle-only\n"],
            [True, True],
        ),
        ([section(DATA, "0"), "m=application 9 TCP/MSRP *\na=mid:1\n"], [True, False]),
        ([section(DATA, "0").replace("a=sctp-port:5000\n", "")], [True]),
        (
            [section(DATA, "0").replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000")],
            [True],
        ),
        ([section(DATA, "0") + "a=max-message-size:0\n"], [True]),
        (
            [
                section(DATA, "0")
                + "a=candidate:nonsense\na=candidate:1 1 udp 1 x.local 9 typ host\n"
            ],
            [True],
        ),
        ([section(DATA, "0"), section(AUDIO, "1").replace("a=fmtp:63", "a=fmtp:64")], [True, True]),
        (
            [
                section(DATA, "0"),
                section(AUDIO, "1").replace("a=ssrc:1215746153 cname:x", "a=ssrc:5"),
            ],
            [True, True],
        ),
        (
            [section(DATA, "0"), section(AUDIO, "1").replace("extmap:1 ", "extmap:1/sendonly ")],
            [True, True],
        ),
    ],
)
def test_every_valid_offer_is_answered_line_by_line(sections: list[str], ports: list[bool]) -> None:
    async def test(connection: PeerConnection) -> None:
        lines = lines_of(await answer(connection, offer_of(*sections)))
        assert [line.split()[1] != "0" for line in lines] == ports
        for line, asked in zip(lines, sections, strict=True):
            assert re.findall(r"a=mid:\S+", line) == re.findall(r"a=mid:\S+", asked)
            assert line.split()[0] == asked.split()[0]
        assert connection.signaling_state == "stable"
        # Negotiation continues from there.
        connection.add_local_track(Still("audio"), "s")
        again = lines_of((await connection.create_offer()).sdp)
        for line, asked, used in zip(again, sections, ports, strict=False):
            # A rejected m-section may have been recycled.
            if re.findall(r"a=mid:\S+", line) == re.findall(r"a=mid:\S+", asked):
                assert (line.split()[1] != "0") == used
            else:
                assert not used

    alone(test)


def test_without_bundle_only_the_data_line_is_taken() -> None:
    async def test(connection: PeerConnection) -> None:
        text = offer_of(section(AUDIO, "0"), section(DATA, "1")).replace("a=group:BUNDLE 0 1\n", "")
        lines = lines_of(await answer(connection, text))
        assert [line.split()[1] != "0" for line in lines] == [False, True]

    alone(test)


def test_a_rejected_line_can_become_another() -> None:
    async def test(connection: PeerConnection) -> None:
        dead = "m=audio 0 UDP/TLS/RTP/SAVPF 0\na=inactive\na=mid:1\n"
        await answer(connection, offer_of(section(DATA, "0"), dead))
        lines = lines_of(
            await answer(connection, offer_of(section(DATA, "0"), section(VIDEO, "2")))
        )
        assert lines[1].startswith("m=video 9") and "a=mid:2" in lines[1]

    alone(test)


@pytest.mark.parametrize(
    "msid,stream,track",
    [
        ("a=msid:stream video-track\n", "stream", "video-track"),
        ("a=msid:first t\na=msid:second t\n", "first", "t"),
        ("a=msid:- lonely\n", None, "lonely"),
        ("a=msid:only-a-stream\n", "only-a-stream", None),
        ("", None, None),
    ],
)
def test_streams_are_named_as_browsers_read_them(
    msid: str, stream: str | None, track: str | None
) -> None:
    async def test(connection: PeerConnection) -> None:
        line = section(VIDEO, "1").replace("a=msid:- video-track\n", msid)
        offer = parse_description("offer", offer_of(section(DATA, "0"), line), SETTINGS)
        changes = (await connection.answer_offer(offer)).changes
        assert len(changes) == 1
        assert stream is None or changes[0].stream_id == stream
        assert track is None or changes[0].track_id == track
        assert changes[0].stream_id and changes[0].track.id == changes[0].track_id
        changes = (await connection.answer_offer(offer)).changes
        assert changes == []

    alone(test)


def test_another_track_on_the_same_line_is_another_track() -> None:
    async def test(connection: PeerConnection) -> None:
        async def apply(line: str) -> list[tuple[str, str]]:
            text = offer_of(section(DATA, "0"), line)
            changes = (
                await connection.answer_offer(parse_description("offer", text, SETTINGS))
            ).changes
            tracks.extend(change.track for change in changes)
            return [(type(change).__name__[11:], change.track_id) for change in changes]

        tracks: list[object] = []
        line = section(VIDEO, "1")
        assert await apply(line) == [("Added", "video-track")]
        assert await apply(line.replace("video-track", "other")) == [
            ("Removed", "video-track"),
            ("Added", "other"),
        ]
        assert tracks[1] is tracks[0] and tracks[2] is not tracks[0]
        assert await apply(line.replace("sendonly", "inactive")) == [("Removed", "other")]
        assert await apply(line) == [("Added", "video-track")]

    alone(test)


# Descriptions that must not be applied


GOOD = offer_of(section(DATA, "0"), section(AUDIO, "1"))
BAD_ALONE: list[object] = [
    None,
    5,
    b"v=0",
    [],
    "",
    "hello",
    "v=0\n",
    "v=0\nm=audio\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\n",
    "v=0\n" + "m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\n" * 2,
    GOOD + "a=rtpmap:not-a-number opus/48000\n",
    GOOD.replace("a=ice-ufrag", "a=ufrag"),
    GOOD.replace("a=ice-pwd:LAkaggjXafOZeHNLJOiM7/IV", "a=ice-pwd:short"),
    GOOD.replace("a=fingerprint", "a=finger"),
    GOOD.replace("sha-256", "md5"),
    GOOD.replace("a=setup", "a=setdown"),
    GOOD.replace("a=mid:1", "a=mid:0"),
    GOOD.replace("a=mid:1\n", ""),
    GOOD.replace("a=mid:1", "a=mid:" + "x" * 40),
    GOOD.replace("111 63 9", "111 63 999999"),
    GOOD.replace("111 63 9", "a b c"),
    GOOD + "a=x:" + "x" * 5000 + "\n",
    GOOD + "a=ssrc:1 cname:x\n" * 2000,
    GOOD + "x" * SETTINGS.maximum_sdp,
    HEAD.format("0") + "".join(section(DATA, str(n)) for n in range(300)),
]


@pytest.mark.parametrize("text", BAD_ALONE, ids=range(len(BAD_ALONE)))
@pytest.mark.parametrize("kind", ["offer", "answer"])
def test_malformed_descriptions_are_refused(kind: str, text: object) -> None:
    with pytest.raises(DescriptionError):
        parse_description(kind, text, SETTINGS)


@pytest.mark.parametrize("kind", [None, 5, "", "pranswer", "rollback", ["offer"]])
def test_unknown_types_are_refused(kind: object) -> None:
    with pytest.raises(DescriptionError):
        parse_description(kind, GOOD, SETTINGS)


BAD_NEXT: dict[str, Callable[[str], str]] = {
    "fewer m-lines": lambda text: text[: text.index("m=audio")],
    "another mid": lambda text: text.replace("a=mid:1", "a=mid:7"),
    "swapped mids": lambda text: (
        text.replace("mid:0", "mid:x").replace("mid:1", "mid:0").replace("mid:x", "mid:1")
    ),
    "another kind": lambda text: text.replace("m=audio", "m=video"),
    "another fingerprint": lambda text: text.replace("55:0E", "55:0F"),
    "another DTLS role": lambda text: text.replace("a=setup:actpass", "a=setup:active"),
}


@pytest.mark.parametrize("change", BAD_NEXT)
def test_offers_that_cannot_follow_change_nothing(change: str) -> None:
    async def test(connection: PeerConnection) -> None:
        await answer(connection, GOOD)
        with pytest.raises(DescriptionError):
            await answer(connection, BAD_NEXT[change](GOOD))
        assert connection.signaling_state == "stable"
        assert len(connection.transceivers) == 1
        assert len(lines_of(await answer(connection, GOOD))) == 2

    alone(test)


def test_answers_that_do_not_fit_change_nothing() -> None:
    async def test(caller: End, callee: End) -> None:
        track = Still("audio")
        good: list[str] = []
        deliver = callee.deliver
        assert deliver is not None
        callee.deliver = lambda signal: good.append(signal["data"]["sdp"])
        caller.negotiation.add_track(track, "s")
        await until(lambda: good)
        text = good[0]
        for bad in (
            text[: text.index("m=audio")],
            text.replace("a=mid:a1", "a=mid:zz"),
            text.replace("m=audio", "m=video"),
            text.replace("a=setup:active", "a=setup:actpass"),
            text.replace("a=setup:active", "a=setup:passive"),
            re.sub("(a=fingerprint:sha-256 )(.*)", lambda m: m[1] + m[2][::-1], text),
            re.sub("a=ice-ufrag:....", "a=ice-ufrag:abcd", text),
            "v=0",
        ):
            await caller.negotiation.receive(
                {"type": "sdp", "data": {"type": "answer", "sdp": bad}}
            )
            assert caller.connection.signaling_state == "have-local-offer"
        callee.deliver = deliver
        deliver({"type": "sdp", "data": {"type": "answer", "sdp": text}})
        await settle(caller, callee)
        assert callee.streams == {track.id: "s"}
        assert caller.errors == []

    with_call(test, Settings(offer_timeout=LIMIT))


def test_garbage_does_not_harm_a_call() -> None:
    async def test(caller: End, callee: End) -> None:
        for text in BAD_ALONE:
            for kind in ("offer", "answer", "pranswer", None):
                for end in (caller, callee):
                    description: dict[str, object] = {"type": kind, "sdp": text}
                    await end.negotiation.receive({"type": "sdp", "data": description})
        odd: list[dict[str, object]] = [
            {},
            {"type": 5},
            {"type": "sdp"},
            {"type": "sdp", "data": []},
        ]
        for signal in odd:
            await callee.negotiation.receive(signal)
        assert caller.connection.signaling_state == callee.connection.signaling_state == "stable"

    with_call(test)


def test_a_data_transport_that_is_given_up_counts_as_lost() -> None:
    async def test(connection: PeerConnection) -> None:
        connection.sctp_transport.on_peer_unresponsive()
        assert connection.lost

    alone(test)


def test_a_closed_connection_negotiates_nothing() -> None:
    async def test(connection: PeerConnection) -> None:
        await connection.close()
        with pytest.raises(InvalidStateError):
            await connection.create_offer()
        with pytest.raises(InvalidStateError):
            await answer(connection, GOOD)
        await connection.rollback()

    alone(test)


ODD_LINES = [
    "a=",
    "a=mid:",
    "a=rtpmap:",
    "a=rtpmap:111 opus/0/0",
    "a=rtpmap:70 VP8/90000",
    "a=rtpmap:300 VP8/90000",
    "a=fmtp:111 minptime=x",
    "a=rtcp-fb:* nack",
    "a=extmap:0 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:99999999999 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=ssrc:99999999999 cname:x",
    "a=ssrc-group:FID 1",
    "a=group:BUNDLE",
    "a=sctp-port:999999",
    "c=IN IP4 x",
    "a=inactive",
]
SCRAPS = ["", "0", "-1", "9" * 21, " ", ":", "/", "\0", "\u00e9", "\u0663", "\u2028", "a=", "m="]


def damage(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(lines))
        match chance.randrange(5):
            case 0:
                del lines[place : place + chance.randint(1, 3)]
                lines = lines or [""]
            case 1:
                lines.insert(place, chance.choice(lines))
            case 2:
                lines[place] *= chance.randint(2, 50)
            case 3:
                lines.insert(place, chance.choice(ODD_LINES))
            case _:
                at = chance.randrange(len(lines[place]) + 1)
                rest = lines[place][at + chance.randint(0, 3) :]
                lines[place] = lines[place][:at] + chance.choice(SCRAPS) + rest
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(10))
def test_damaged_offers_are_applied_whole_or_not_at_all(seed: int) -> None:
    async def test(connection: PeerConnection) -> None:
        chance = random.Random(seed)
        whole = offer_of(section(DATA, "0"), section(AUDIO, "1"), section(VIDEO, "2"))
        for _ in range(60):
            try:
                await answer(connection, damage(whole, chance))
            except DescriptionError:
                pass
            assert connection.signaling_state == "stable"
        connection.add_local_track(Still("audio"), "s")
        # The next local description is valid, whatever was applied.
        parse_description("offer", (await connection.create_offer()).sdp, SETTINGS)

    alone(test)


def test_the_largest_description_is_read_quickly() -> None:
    lines = ["a=rtpmap:111 opus/48000", "a=rtcp-fb:* nack"] * 250
    text = HEAD.format("0") + "".join(
        AUDIO.format(str(number)) + "\n".join(lines) + "\n" + TRANSPORT for number in range(256)
    )
    started = time.thread_time()
    try:
        parse_description("offer", text[: SETTINGS.maximum_sdp - 200], SETTINGS)
    except DescriptionError:
        pass
    assert time.thread_time() - started < 2.0


# Bare aiortc at the other end


def test_plain_aiortc_answers_and_offers() -> None:
    async def body() -> None:
        ours, plain = PeerConnection(NO_SERVERS, SETTINGS), RTCPeerConnection(NO_SERVERS)
        channel = ours.open_channel("dc")
        ours.add_local_track(Still("audio"), "s")
        offer = await ours.create_offer()
        await plain.setRemoteDescription(offer)
        await plain.setLocalDescription(await plain.createAnswer())
        await ours.apply_answer(parse_description("answer", plain.localDescription.sdp, SETTINGS))
        await until(lambda: channel.ready_state == "open")
        plain.addTrack(Still("audio"))
        await plain.setLocalDescription(await plain.createOffer())
        outcome = await ours.answer_offer(
            parse_description("offer", plain.localDescription.sdp, SETTINGS)
        )
        assert outcome.answer is not None
        await plain.setRemoteDescription(RTCSessionDescription(outcome.answer.sdp, "answer"))
        assert [change.kind for change in outcome.changes] == ["audio"]
        await plain.close()
        await ours.close()

    run(body)
