"""Recycling of m-sections that are not used any more, with signals lost in between."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest
from aiortc.mediastreams import MediaStreamTrack

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from tests.descriptions import (
    AUDIO,
    DATA,
    VIDEO,
    alone,
    answer,
    lines_of,
    offer_of,
    payload_types_of,
    section,
)
from tests.negotiating import End, Signal, Still, settle, until, with_call

HASTY = Settings(offer_timeout=0.3, offer_attempts=10)
#: Few m-sections: tracks that need more would be dropped, and never arrive.
NARROW = dataclasses.replace(HASTY, maximum_media_lines=8)


async def share_and_unshare(sender: End, receiver: End, kinds: tuple[str, ...]) -> None:
    tracks = [Still(kind) for kind in kinds]
    for track in tracks:
        sender.negotiation.add_track(track, "s")
    await settle(sender, receiver)
    assert receiver.streams == {track.id: "s" for track in tracks}
    for track in tracks:
        sender.negotiation.remove_track(track)
    await settle(sender, receiver)
    assert receiver.streams == {}


@pytest.mark.slow
@pytest.mark.parametrize("side", ["caller", "callee"])
def test_one_side_shares_again_and_again(side: str) -> None:
    async def test(caller: End, callee: End) -> None:
        ends = (caller, callee) if side == "caller" else (callee, caller)
        for number in range(24):
            await share_and_unshare(*ends, (("audio",), ("video",), ("video", "audio"))[number % 3])
        assert ends[0].descriptions("offer")[-1].count("\nm=") == 3
        assert caller.errors == callee.errors == []

    with_call(test, dataclasses.replace(HASTY, maximum_media_lines=3))


@pytest.mark.slow
def test_both_sides_share_again_and_again() -> None:
    async def test(caller: End, callee: End) -> None:
        chance = random.Random(5)
        shared: dict[End, dict[MediaStreamTrack, str]] = {caller: {}, callee: {}}
        for number in range(30):
            for end, tracks in shared.items():
                if len(tracks) > 1 or (tracks and chance.random() < 0.4):
                    gone = chance.choice(list(tracks))
                    del tracks[gone]
                    end.negotiation.remove_track(gone)
                track = Still(chance.choice(["audio", "video"]))
                tracks[track] = f"s{number}"
                end.negotiation.add_track(track, f"s{number}")
            await settle(caller, callee)
            assert callee.streams == {t.id: name for t, name in shared[caller].items()}
            assert caller.streams == {t.id: name for t, name in shared[callee].items()}
        assert caller.errors == callee.errors == []

    with_call(test, dataclasses.replace(NARROW, maximum_media_lines=10))


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["offer", "answer"])
def test_what_is_lost_while_a_line_is_used_again_is_made_good(lost: str) -> None:
    async def test(caller: End, callee: End) -> None:
        sender = caller if lost == "offer" else callee
        deliver = sender.deliver
        assert deliver is not None

        def lose_one(signal: Signal) -> None:
            sender.deliver = deliver

        for _ in range(3):
            await share_and_unshare(caller, callee, ("video", "audio"))
            sender.deliver = lose_one
            first, second = Still("video"), Still("audio")
            caller.negotiation.add_track(first, "one")
            callee.negotiation.add_track(second, "two")
            await until(lambda: first.id in callee.streams and second.id in caller.streams)
            await settle(caller, callee)
            caller.negotiation.remove_track(first)
            callee.negotiation.remove_track(second)
            await settle(caller, callee)
            assert caller.streams == callee.streams == {}
        assert caller.errors == callee.errors == []

    with_call(test, NARROW)


@pytest.mark.slow
def test_a_late_answer_to_an_offer_that_used_a_line_again() -> None:
    """Both sides put a track on the same rejected m-section; the answer to the caller is late."""

    async def test(caller: End, callee: End) -> None:
        await share_and_unshare(caller, callee, ("audio", "audio"))
        held: list[Signal] = []
        to_callee = caller.deliver
        assert to_callee is not None
        caller_track, callee_track = Still("audio"), Still("video")
        caller.deliver = held.append
        answers = len(caller.descriptions("answer"))
        callee.negotiation.add_track(callee_track, "theirs")
        caller.negotiation.add_track(caller_track, "ours")
        await until(lambda: len(caller.descriptions("answer")) > answers)
        assert callee_track.id in caller.streams
        caller.deliver = to_callee
        for signal in held:
            to_callee(signal)
        await until(lambda: caller_track.id in callee.streams and callee_track.id in caller.streams)
        await settle(caller, callee)
        await share_and_unshare_beside(caller, callee)
        assert caller.errors == callee.errors == []

    with_call(test, NARROW, javascript=True)


async def share_and_unshare_beside(caller: End, callee: End) -> None:
    before = callee.streams
    track = Still("video")
    caller.negotiation.add_track(track, "beside")
    await settle(caller, callee)
    assert callee.streams == {**before, track.id: "beside"}
    caller.negotiation.remove_track(track)
    await settle(caller, callee)
    assert callee.streams == before


def ports(sdp: str) -> list[bool]:
    return [line.split()[1] != "0" for line in lines_of(sdp)]


def mids(sdp: str) -> list[str]:
    return re.findall(r"a=mid:(\S+)", sdp)


def gone(template: str, mid: str) -> str:
    return re.sub("a=(sendrecv|sendonly)", "a=inactive", section(template, mid))


def test_what_the_peer_unshared_is_rejected_and_used_again() -> None:
    async def test(connection: PeerConnection) -> None:
        data = section(DATA, "0")
        await answer(connection, offer_of(data, section(AUDIO, "1"), section(VIDEO, "2")))
        left = await answer(connection, offer_of(data, section(AUDIO, "1"), gone(VIDEO, "2")))
        assert ports(left) == [True, True, False]
        assert "a=group:BUNDLE 0 1\r" in left
        # A local offer leaves it rejected, or puts a local track there.
        assert ports((await connection.create_offer()).sdp) == [True, True, False]
        await connection.rollback()
        connection.add_local_track(Still("video"), "s")
        offered = (await connection.create_offer()).sdp
        assert ports(offered) == [True, True, True] and mids(offered)[:2] == ["0", "1"]
        assert mids(offered)[2] != "2"
        # A payload type keeps its meaning, although no m-section in use has it.
        assert payload_types_of(offered)["VP8"] == {39}
        await connection.rollback()
        # The peer may recycle it as well, for any kind.
        again = offer_of(data, section(AUDIO, "1"), section(AUDIO, "3"))
        assert ports(await answer(connection, again)) == [True, True, True]

    alone(test)


def test_the_m_line_of_the_transport_is_never_rejected() -> None:
    async def test(connection: PeerConnection) -> None:
        await answer(connection, offer_of(section(AUDIO, "0"), section(VIDEO, "1")))
        left = await answer(connection, offer_of(gone(AUDIO, "0"), gone(VIDEO, "1")))
        assert ports(left) == [True, False]
        assert ports((await connection.create_offer()).sdp) == [True, False]

    alone(test)


def test_without_a_group_there_is_one_transport_and_it_stays() -> None:
    async def test(connection: PeerConnection) -> None:
        for audio in (section(AUDIO, "0"), gone(AUDIO, "0")):
            text = offer_of(audio).replace("a=group:BUNDLE 0\n", "")
            assert ports(await answer(connection, text)) == [True]

    alone(test)


def test_an_m_line_we_send_on_stays_when_the_peer_sends_no_more() -> None:
    async def test(caller: End, callee: End) -> None:
        caller_track, callee_track = Still("video"), Still("video")
        caller.negotiation.add_track(caller_track, "ours")
        callee.negotiation.add_track(callee_track, "theirs")
        await settle(caller, callee)
        callee.negotiation.remove_track(callee_track)
        await settle(caller, callee)
        assert callee.streams == {caller_track.id: "ours"}
        caller.negotiation.add_track(callee_track, "more")
        await settle(caller, callee)
        assert callee.streams == {caller_track.id: "ours", callee_track.id: "more"}

    with_call(test)
