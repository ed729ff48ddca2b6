"""Perfect negotiation between two artico_sync ends, and with peers that behave like browsers."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest
from aiortc.mediastreams import MediaStreamTrack

from artico_sync._engine import answer_tracker
from artico_sync._engine.answer_tracker import NegotiationError
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.sdp.media_sections import RemoteTrackAdded, RemoteTrackRemoved
from tests.negotiating import (
    LIMIT,
    End,
    Signal,
    Still,
    as_javascript,
    call,
    join,
    run,
    settle,
    until,
    with_call,
)

HASTY = Settings(offer_timeout=0.2, offer_attempts=3)


def is_offer(signal: Signal) -> bool:
    return bool(signal["type"] == "sdp" and signal["data"]["type"] == "offer")


def kinds(end: End) -> list[tuple[str, str]]:
    names = {RemoteTrackAdded: "added", RemoteTrackRemoved: "removed"}
    return [(names[type(change)], change.kind) for change in end.changes]


def test_a_call_opens_and_carries_text_both_ways() -> None:
    async def test(caller: End, callee: End) -> None:
        caller.say("hello")
        callee.say("and back")
        await until(lambda: "hello" in callee.texts and "and back" in caller.texts)
        assert (
            caller.connection.connection_state == callee.connection.connection_state == "connected"
        )

    with_call(test)


def test_the_first_offer_carries_host_candidates() -> None:
    async def body() -> None:
        end = End(polite=False)
        end.open_channel()
        await until(lambda: end.sent)
        assert "a=candidate:" in end.descriptions("offer")[0]
        assert "typ host" in end.descriptions("offer")[0]
        await end.close()

    run(body)


@pytest.mark.parametrize("name", ["", "-", "two words", "line\r\na=end", "\u00e9", "x" * 257])
def test_ids_that_cannot_go_over_the_wire_are_refused(name: str) -> None:
    async def body() -> None:
        end = End(polite=False)
        with pytest.raises(ValueError):
            end.negotiation.add_track(Still("video"), name)
        await end.close()

    run(body)


def test_sharing_and_unsharing() -> None:
    async def test(caller: End, callee: End) -> None:
        video, audio = Still("video"), Still("audio")
        caller.negotiation.add_track(video, "one")
        caller.negotiation.add_track(audio, "one")
        await settle(caller, callee)
        assert callee.streams == {video.id: "one", audio.id: "one"}
        assert kinds(callee) == [("added", "video"), ("added", "audio")]
        frame = await asyncio.wait_for(callee.changes[0].track.recv(), 10)
        assert (frame.width, frame.height) == (64, 48)  # type: ignore[union-attr]

        caller.negotiation.remove_track(video)
        await settle(caller, callee)
        assert callee.streams == {audio.id: "one"}
        assert callee.changes[0].track.readyState == "ended"
        assert video.readyState == "live"

        caller.negotiation.add_track(video, "two")
        await settle(caller, callee)
        assert callee.streams == {audio.id: "one", video.id: "two"}
        again = callee.changes[-1].track
        assert again is not callee.changes[0].track
        await asyncio.wait_for(again.recv(), 10)

    with_call(test)


def test_what_is_shared_or_offered_as_the_peer_goes_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body() -> None:
        caller, callee = await call()
        caller.deliver = callee.deliver = None
        caller.negotiation.add_track(Still("audio"), "theirs")
        await until(lambda: len(caller.descriptions("offer")) == 2)
        closed = asyncio.Event()
        dtls = callee.connection._transports.dtls
        others = dtls.listeners("statechange")

        def share() -> None:
            # As soon as the DTLS close alert arrives, before the connection begins to close.
            if dtls.state == "closed":
                callee.negotiation.add_track(Still("video"), "ours")
                callee.inbox.put_nowait(caller.sent[-1])
                closed.set()

        dtls.remove_all_listeners("statechange")
        for listener in (share, *others):
            dtls.on("statechange", listener)

        await caller.connection.close()
        await asyncio.wait_for(closed.wait(), LIMIT)
        for _ in range(100):  # passes of the loop, more than making an offer takes
            await asyncio.sleep(0)
        assert not callee.errors
        assert not callee.descriptions("offer")
        assert len(callee.descriptions("answer")) == 1
        await caller.close()
        await callee.close()

    run(body)
    assert not [r.getMessage() for r in caplog.records if r.levelno > logging.INFO]


def test_both_sides_share_at_the_same_moment() -> None:
    async def test(caller: End, callee: End) -> None:
        caller_track, callee_track = Still("video"), Still("video")
        caller.negotiation.add_track(caller_track, "ours")
        callee.negotiation.add_track(callee_track, "theirs")
        await settle(caller, callee)
        assert caller.streams == {callee_track.id: "theirs"}
        assert callee.streams == {caller_track.id: "ours"}
        await asyncio.wait_for(caller.changes[0].track.recv(), 10)
        await asyncio.wait_for(callee.changes[0].track.recv(), 10)

    with_call(test)


@pytest.mark.slow
def test_many_rounds_of_everything_at_once() -> None:
    async def test(caller: End, callee: End) -> None:
        chance = random.Random(7)
        shared: dict[End, dict[MediaStreamTrack, str]] = {caller: {}, callee: {}}
        for number in range(30):
            for end in (caller, callee):
                tracks = shared[end]
                if tracks and chance.random() < 0.4:
                    gone = chance.choice(list(tracks))
                    del tracks[gone]
                    end.negotiation.remove_track(gone)
                else:
                    track = Still(chance.choice(["audio", "video"]))
                    tracks[track] = f"s{number}"
                    end.negotiation.add_track(track, f"s{number}")
            if chance.random() < 0.5:
                await settle(caller, callee)
            else:
                await asyncio.sleep(chance.random() * 0.02)
        await settle(caller, callee)
        for end, other in ((caller, callee), (callee, caller)):
            assert other.streams == {track.id: name for track, name in shared[end].items()}
        assert caller.errors == callee.errors == []

    with_call(test)


def test_unshared_lines_are_used_again_between_our_own() -> None:
    async def test(caller: End, callee: End) -> None:
        for number in range(5):
            track = Still("audio")
            caller.negotiation.add_track(track, f"s{number}")
            await settle(caller, callee)
            assert callee.streams == {track.id: f"s{number}"}
            caller.negotiation.remove_track(track)
            await settle(caller, callee)
            assert callee.streams == {}
        assert caller.descriptions("offer")[-1].count("\nm=") == 2

    with_call(test)


def test_replacing_a_track_negotiates_nothing() -> None:
    async def test(caller: End, callee: End) -> None:
        old, new = Still("video"), Still("video")
        caller.negotiation.add_track(old, "one")
        await settle(caller, callee)
        offers = len(caller.descriptions("offer"))
        assert caller.negotiation.replace_track(old, new)
        assert not caller.negotiation.replace_track(old, new)
        with pytest.raises(ValueError):
            caller.negotiation.replace_track(new, Still("audio"))
        await asyncio.wait_for(callee.changes[0].track.recv(), 10)
        assert len(caller.descriptions("offer")) == offers
        caller.negotiation.add_track(Still("audio"), "one")
        await settle(caller, callee)
        # The peer still knows the track by its first id.
        assert old.id in callee.streams and len(callee.streams) == 2
        caller.negotiation.remove_track(new)
        await settle(caller, callee)
        assert len(callee.streams) == 1

    with_call(test)


def test_tracks_added_and_removed_before_any_offer_never_appear() -> None:
    async def test(caller: End, callee: End) -> None:
        track = Still("video")
        caller.negotiation.add_track(track, "one")
        caller.negotiation.remove_track(track)
        await settle(caller, callee)
        assert callee.changes == []

    with_call(test)


def test_a_callee_may_share_before_the_call_is_answered() -> None:
    async def body() -> None:
        caller, callee = End(polite=False), End(polite=True)
        join(caller, callee)
        track = Still("audio")
        callee.negotiation.add_track(track, "early")
        await asyncio.sleep(0)
        assert callee.sent == []
        caller.open_channel()
        await until(lambda: caller.streams == {track.id: "early"})
        await settle(caller, callee)
        await caller.close()
        await callee.close()

    run(body)


# Peers that do not answer


@pytest.mark.slow
def test_an_unanswered_offer_is_made_again_and_then_reported() -> None:
    async def test(caller: End, callee: End) -> None:
        deliver, caller.deliver = caller.deliver, None
        before = len(caller.descriptions("offer"))
        track = Still("video")
        caller.negotiation.add_track(track, "one")
        await until(lambda: caller.errors)
        assert isinstance(caller.errors[0], NegotiationError)
        assert len(caller.descriptions("offer")) - before == HASTY.offer_attempts
        assert caller.connection.signaling_state == "stable"
        caller.deliver = deliver
        caller.negotiation.request_offer()
        await settle(caller, callee)
        assert callee.streams == {track.id: "one"}
        assert len(caller.errors) == 1

    with_call(test, HASTY)


def test_a_single_lost_offer_is_made_good() -> None:
    async def test(caller: End, callee: End) -> None:
        deliver = caller.deliver
        assert deliver is not None

        def lose_one(signal: Signal) -> None:
            caller.deliver = deliver

        caller.deliver = lose_one
        track = Still("video")
        caller.negotiation.add_track(track, "one")
        await until(lambda: callee.streams == {track.id: "one"})
        await settle(caller, callee)
        assert caller.errors == []

    with_call(test, HASTY)


@pytest.mark.slow
def test_a_peer_that_is_away_is_waited_for() -> None:
    """The server reports it as absent; the attempts for a connected peer would be used up first."""

    async def test(caller: End, callee: End) -> None:
        deliver = caller.deliver
        caller.deliver = lambda signal: caller.negotiation.on_delivery_report(False)
        track = Still("video")
        caller.negotiation.add_track(track, "one")
        offers = len(caller.descriptions("offer")) + 2 * HASTY.offer_attempts
        await until(lambda: len(caller.descriptions("offer")) > offers)
        assert caller.errors == []
        caller.deliver = deliver
        await until(lambda: callee.streams == {track.id: "one"})
        await settle(caller, callee)
        assert caller.errors == []

    with_call(test, HASTY)


@pytest.mark.slow
def test_the_news_that_a_peer_is_away_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(caller: End, callee: End) -> None:
        monkeypatch.setattr(answer_tracker, "PEER_RETURN_SECONDS", 2 * HASTY.offer_timeout)
        caller.deliver = lambda signal: caller.negotiation.on_delivery_report(False)
        caller.negotiation.add_track(Still("video"), "one")
        await until(lambda: caller.errors)
        caller.deliver = None

    with_call(test, HASTY)


@pytest.mark.slow
def test_ringing_is_no_reason_to_offer_again() -> None:
    async def body() -> None:
        end = End(polite=False, settings=HASTY)
        end.open_channel()
        await asyncio.sleep(HASTY.offer_timeout * 3)
        assert len(end.descriptions("offer")) == 1
        assert end.errors == []
        await end.close()

    run(body)


@pytest.mark.slow
@pytest.mark.parametrize("javascript", [False, True])
def test_the_ignored_offer_is_answered_when_the_local_one_stays_unanswered(
    javascript: bool,
) -> None:
    """Chromium may refuse an offer while it waits for an answer to its own."""

    async def test(caller: End, callee: End) -> None:
        deliver = caller.deliver
        assert deliver is not None
        # The callee never sees the first offer, so it waits for the answer to its own.
        caller.deliver = None
        caller_track, callee_track = Still("audio"), Still("video")
        caller.negotiation.add_track(caller_track, "ours")
        await until(lambda: caller.connection.signaling_state == "have-local-offer")
        callee.negotiation.add_track(callee_track, "theirs")
        await until(lambda: callee.connection.signaling_state == "have-local-offer")
        caller.deliver = deliver
        await until(lambda: callee_track.id in caller.streams and caller_track.id in callee.streams)
        await settle(caller, callee)
        assert caller.errors == callee.errors == []

    with_call(test, dataclasses.replace(HASTY, offer_timeout=0.3), javascript=javascript)


@pytest.mark.slow
def test_a_browser_that_is_slow_goes_on_from_our_offer() -> None:
    """The peer's offer is ignored in glare, and its answer comes after the usual time."""

    async def test(caller: End, callee: End) -> None:
        held: list[Signal] = []
        to_callee = caller.deliver
        assert to_callee is not None
        caller_track, callee_track = Still("audio"), Still("video")
        caller.deliver = held.append
        callee.negotiation.add_track(callee_track, "theirs")
        caller.negotiation.add_track(caller_track, "ours")
        await until(lambda: caller.descriptions("offer")[1:])
        await asyncio.sleep(2 * caller.settings.offer_timeout)  # the test is about this delay
        caller.deliver = to_callee
        for signal in held:
            to_callee(signal)
        await until(lambda: caller_track.id in callee.streams and callee_track.id in caller.streams)
        await settle(caller, callee)
        offers = caller.descriptions("offer")
        # Neither repeated nor rolled back, or the browser would refuse the answer to its own.
        assert offers.count(offers[1]) == 1
        assert len(caller.descriptions("answer")) <= 1
        assert caller.errors == callee.errors == []

    with_call(test, dataclasses.replace(HASTY, offer_timeout=0.5), javascript=True)


@pytest.mark.slow
def test_a_browser_that_refuses_our_answer_is_not_left_waiting() -> None:
    """A late copy of the local offer rolls back the peer's offer, which is answered already."""

    async def test(caller: End, callee: End) -> None:
        to_caller, to_callee = callee.deliver, caller.deliver
        assert to_caller is not None and to_callee is not None
        answers: list[Signal] = []
        late: list[Signal] = []

        caller_track, callee_track = Still("audio"), Still("video")
        callee.deliver = answers.append
        caller.negotiation.add_track(caller_track, "ours")
        await until(lambda: caller.descriptions("offer")[1:])
        caller.deliver = late.append
        await until(lambda: any(is_offer(signal) for signal in late))  # a copy
        callee.deliver = to_caller
        for signal in answers:
            to_caller(signal)
        await until(lambda: caller.connection.signaling_state == "stable")
        callee.negotiation.add_track(callee_track, "theirs")
        # No answer to the copy comes in time, so the peer's offer is answered.
        await until(lambda: callee_track.id in caller.streams)
        await until(lambda: caller.descriptions("answer"))
        # A browser may have announced everything in its answer to the copy: no offer follows.
        callee.deliver = lambda signal: None if is_offer(signal) else to_caller(signal)
        offers = len(caller.descriptions("offer"))
        caller.deliver = to_callee
        for signal in late:
            to_callee(signal)
        await until(lambda: len(caller.descriptions("offer")) > offers)
        callee.deliver = to_caller
        await until(lambda: caller_track.id in callee.streams and callee_track.id in caller.streams)
        await settle(caller, callee)
        assert caller.errors == callee.errors == []
        assert callee.connection.signaling_state == "stable"

    settings = dataclasses.replace(HASTY, offer_timeout=0.3, offer_attempts=10)
    with_call(test, settings, javascript=True)


@pytest.mark.slow
@pytest.mark.parametrize("copies", [0, 1], ids=["", "after a copy"])
def test_a_late_answer_undoes_what_was_taken_in_its_place(copies: int) -> None:
    """A slow polite peer rolls back, and its answer comes after the impolite end did so too."""

    async def test(caller: End, callee: End) -> None:
        held: list[Signal] = []
        to_callee = caller.deliver
        assert to_callee is not None
        caller_track, callee_track = Still("audio"), Still("video")
        # Both offer; the callee's answer is delayed for long.
        caller.deliver = held.append
        callee.negotiation.add_track(callee_track, "theirs")
        caller.negotiation.add_track(caller_track, "ours")
        await until(lambda: caller.descriptions("answer"))
        # By now the caller has rolled back and answered the callee's offer; that is not there yet.
        assert callee_track.id in caller.streams
        sdp = callee.descriptions("offer")[-1]
        offer = {"type": "sdp", "data": {"type": "offer", "sdp": sdp}}
        for _ in range(copies):
            caller.inbox.put_nowait(as_javascript(offer))
        await caller.inbox.join()
        caller.deliver = to_callee
        for signal in held:
            to_callee(signal)
        await until(lambda: caller_track.id in callee.streams and callee_track.id in caller.streams)
        await settle(caller, callee)
        assert caller.errors == callee.errors == []

    settings = dataclasses.replace(HASTY, offer_timeout=0.3, offer_attempts=10)
    with_call(test, settings, javascript=True)


@pytest.mark.slow
def test_a_browser_that_answers_no_copy_is_not_misunderstood() -> None:
    """An impolite peer drops a copy that arrives while it answers the offer."""

    async def test(caller: End, callee: End) -> None:
        held: list[Signal] = []
        to_caller = callee.deliver
        assert to_caller is not None
        first, second, third = Still("audio"), Still("audio"), Still("video")
        callee.deliver = held.append
        callee.negotiation.add_track(first, "one")
        await until(lambda: sum(map(is_offer, held)) == 2)
        callee.deliver = to_caller
        copy = [signal for signal in held if is_offer(signal)][1]
        for signal in held:
            if signal is not copy:
                to_caller(signal)
        callee.negotiation.add_track(second, "two")
        await until(lambda: second.id in caller.streams)
        caller.negotiation.add_track(third, "theirs")
        await until(lambda: third.id in callee.streams)
        await settle(caller, callee)
        # Its answer to the second offer was not applied to the copy: no track is added twice.
        assert kinds(caller) == [("added", "audio")] * 2
        assert caller.errors == callee.errors == []

    with_call(test, dataclasses.replace(HASTY, offer_timeout=0.5), javascript=True)


@pytest.mark.parametrize("javascript", [False, True])
def test_a_slow_answer_counts_for_the_offer_made_again(javascript: bool) -> None:
    async def test(caller: End, callee: End) -> None:
        held: list[Signal] = []
        to_callee = caller.deliver
        assert to_callee is not None
        first, second = Still("audio"), Still("video")
        caller.deliver = held.append
        caller.negotiation.add_track(first, "one")
        before = len(caller.descriptions("offer"))
        await until(lambda: len(caller.descriptions("offer")) == before + 1)
        caller.negotiation.remove_track(first)
        caller.negotiation.add_track(second, "two")
        await until(lambda: len(caller.descriptions("offer")) == before + 2)
        caller.deliver = to_callee
        for signal in held:
            to_callee(signal)
        await until(lambda: callee.streams == {second.id: "two"})
        await settle(caller, callee)
        assert len(caller.descriptions("offer")) <= before + 4
        assert caller.errors == callee.errors == []

    settings = dataclasses.replace(HASTY, offer_timeout=0.3, offer_attempts=10)
    with_call(test, settings, javascript=javascript)


@pytest.mark.slow
@pytest.mark.parametrize("slow", ["caller", "callee", "both"])
def test_signals_that_take_longer_than_an_offer_waits_wedge_nothing(slow: str) -> None:
    """Each side withdrew the offer that the other was about to answer, and then neither offered."""

    async def test(caller: End, callee: End) -> None:
        loop, chance = asyncio.get_running_loop(), random.Random(3)

        def late(end: End, receive: Callable[[Signal], None]) -> Callable[[Signal], None]:
            last = 0.0

            def carry(signal: Signal) -> None:
                nonlocal last
                delay = chance.random() * 0.4 if chance.random() < 0.3 and not over else 0.003
                last = max(last + 0.0001, loop.time() + delay)
                loop.call_at(last, receive, signal)

            return carry

        over = False
        for name, end in (("caller", caller), ("callee", callee)):
            assert end.deliver is not None
            if slow in (name, "both"):
                end.deliver = late(end, end.deliver)
        shared: dict[End, dict[MediaStreamTrack, str]] = {caller: {}, callee: {}}
        for number in range(25):
            for end, tracks in shared.items():
                for gone in [track for track in tracks if chance.random() < 0.4]:
                    del tracks[gone]
                    end.negotiation.remove_track(gone)
                for _ in range(chance.randrange(3)):
                    track = Still(chance.choice(["audio", "video"]))
                    tracks[track] = f"s{number}"
                    end.negotiation.add_track(track, f"s{number}")
            await asyncio.sleep(chance.random() * 0.1)
        over = True
        for end, other in ((caller, callee), (callee, caller)):
            wanted = {track.id: name for track, name in shared[end].items()}
            await until(lambda: other.streams == wanted)
        await settle(caller, callee)
        assert caller.errors == callee.errors == []

    with_call(test, Settings(offer_timeout=0.15, offer_attempts=20))


def test_stale_answers_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async def test(caller: End, callee: End) -> None:
        caller.negotiation.add_track(Still("audio"), "one")
        await settle(caller, callee)
        for answer in [s for s in callee.sent if s["type"] == "sdp"]:
            await caller.negotiation.receive(answer)
            await caller.negotiation.receive(as_javascript(answer))
        assert caller.connection.signaling_state == "stable"
        assert caller.errors == []

    with_call(test)
    assert "Traceback" not in caplog.text


# Loss and return of signaling


def test_what_was_asked_for_while_signaling_was_lost_happens_after_its_return() -> None:
    async def test(caller: End, callee: End) -> None:
        caller.negotiation.suspend()
        track = Still("video")
        sent = len(caller.sent)
        caller.negotiation.add_track(track, "one")
        await asyncio.sleep(0.05)
        assert len(caller.sent) == sent
        caller.negotiation.resume()
        await settle(caller, callee)
        assert callee.streams == {track.id: "one"}

    with_call(test)


@pytest.mark.parametrize("lost", ["offer", "answer"])
def test_a_description_lost_with_the_signaling_is_made_good(lost: str) -> None:
    async def test(caller: End, callee: End) -> None:
        sender = caller if lost == "offer" else callee
        deliver = sender.deliver
        before = len(sender.descriptions(lost))
        sender.deliver = None
        track = Still("video")
        caller.negotiation.add_track(track, "one")
        await until(lambda: len(sender.descriptions(lost)) > before)
        caller.negotiation.suspend()
        callee.negotiation.suspend()
        sender.deliver = deliver
        callee.negotiation.resume()
        caller.negotiation.resume()
        await until(lambda: callee.streams == {track.id: "one"})
        await settle(caller, callee)
        assert caller.errors == callee.errors == []

    with_call(test, Settings(offer_timeout=30))


def test_the_first_offer_is_sent_again_when_signaling_returns_while_it_rings() -> None:
    async def body() -> None:
        caller = End(polite=False)
        caller.open_channel()
        await until(lambda: caller.sent)
        caller.negotiation.suspend()
        callee = End(polite=True)
        join(caller, callee)
        caller.negotiation.resume()
        await until(lambda: caller.is_open and callee.is_open)
        await caller.close()
        await callee.close()

    run(body)


# ICE


def test_candidates_before_the_description_wait_for_it() -> None:
    async def body() -> None:
        caller, callee = End(polite=False), End(polite=True)
        caller.open_channel()
        await until(lambda: caller.sent)
        offer = caller.sent[0]
        lines = offer["data"]["sdp"].split("\r\n")
        found = [line for line in lines if line.startswith("a=candidate:")]
        username = next(line for line in lines if line.startswith("a=ice-ufrag:"))
        offer["data"]["sdp"] = "\r\n".join(line for line in lines if line not in found)
        for line in found:
            await callee.negotiation.receive(
                {
                    "type": "candidate",
                    "data": {
                        "candidate": line[2:],
                        "sdpMid": "a0",
                        "sdpMLineIndex": 0,
                        "usernameFragment": username.partition(":")[2],
                    },
                }
            )
        join(caller, callee)
        callee.inbox.put_nowait(offer)
        await until(lambda: caller.is_open and callee.is_open)
        await caller.close()
        await callee.close()

    run(body)


ODD_CANDIDATES: list[Any] = [
    None,
    {"candidate": "", "sdpMid": "0"},
    {"candidate": None},
    {"candidate": "candidate:1 1 tcp 1518280447 192.0.2.7 9 typ host tcptype active"},
    {"candidate": "candidate:1 1 udp 1 5b8291ad-b772-4e82-9f0c-009f054c78da.local 50000 typ host"},
    {"candidate": "candidate:1 1 udp 1 fe80::1%eth0 50000 typ host"},
    {"candidate": "candidate:1 2 udp 1 192.0.2.7 50000 typ host"},
    {"candidate": "candidate:"},
    {"candidate": "candidate:1 1 udp 99999999999 192.0.2.7 50000 typ host"},
    {"candidate": "candidate:1 1 udp 1 192.0.2.7 70000 typ host"},
    {"candidate": "candidate:1 1 udp 1 not-an-address 50000 typ host"},
    {"candidate": "candidate:1 1 udp 1 192.0.2.7 50000 typ alien"},
    {"candidate": "x" * 100_000},
    {"candidate": 5},
    {"candidate": "candidate:1 1 udp 1 192.0.2.7 50000 typ host", "sdpMid": 5},
    {"candidate": "candidate:1 1 udp 1 192.0.2.7 50000 typ host", "sdpMLineIndex": "0"},
    {"candidate": "candidate:1 1 udp 1 192.0.2.7 50000 typ host", "usernameFragment": []},
    [],
    "candidate",
]


def test_no_candidate_harms() -> None:
    async def test(caller: End, callee: End) -> None:
        for data in ODD_CANDIDATES:
            await caller.negotiation.receive({"type": "candidate", "data": data})
            await callee.negotiation.receive({"type": "candidate", "data": data})
        for number in range(2000):
            text = f"candidate:1 1 udp {number} 127.0.0.1 {40000 + number} typ host"
            data = {"candidate": text, "usernameFragment": "nobody"}
            await caller.negotiation.receive({"type": "candidate", "data": data})
        assert caller.errors == []

    with_call(test)


# The end


@pytest.mark.parametrize("passes", range(0, 12, 2))
def test_closing_at_any_moment_leaves_nothing(passes: int) -> None:
    async def body() -> None:
        caller, callee = End(polite=False), End(polite=True)
        join(caller, callee)
        caller.negotiation.add_track(Still("video"), "one")
        caller.open_channel()
        for _ in range(passes):
            await asyncio.sleep(0.0015)
        await asyncio.gather(caller.close(), callee.close())
        caller.negotiation.request_offer()
        caller.negotiation.resume()
        await caller.negotiation.receive({"type": "sdp", "data": None})

    run(body)


def test_closing_in_the_midst_of_offers() -> None:
    async def body() -> None:
        caller, callee = await call()
        caller.negotiation.add_track(Still("video"), "one")
        callee.negotiation.add_track(Still("video"), "two")
        caller.negotiation.restart_ice()
        await asyncio.sleep(0)
        await callee.close()
        await caller.close()

    run(body)
