"""Negotiation with Chromium itself: sharing, unsharing and glare from both sides, ICE restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from artico_sync._protocol.settings import Settings
from tests.browser.chromium import Chromium
from tests.browser.repetitions import rounds
from tests.browser.tab import INITIATORS, Tab, agree, read, with_browser
from tests.negotiating import End, Signal, Still

ROUNDS = rounds(10)
#: Seconds a signal takes one way, and the number of rounds of sharing.
SLOW_SIGNAL = 0.2
SLOW_ROUNDS = rounds(8)


@INITIATORS
def test_sharing_unsharing_and_sharing_again(browser: Chromium, browser_calls: bool) -> None:
    async def test(tab: Tab, end: End) -> None:
        video, audio = Still("video"), Still("audio")
        end.negotiation.add_track(video, "ours")
        end.negotiation.add_track(audio, "ours")
        await tab.settle()
        events = await tab.evaluate("() => peer.events")
        assert ["track", "video", video.id, "ours"] in events
        assert ["track", "audio", audio.id, "ours"] in events
        await tab.decodes(video)
        await tab.decodes(audio)

        page_stream = await tab.evaluate("() => peer.share('x', ['audio', 'video'])")
        await tab.settle()
        assert sorted(end.streams.values()) == [page_stream, page_stream]
        await read(end, page_stream)

        # The description that follows once crashed the tab.
        end.negotiation.remove_track(video)
        await tab.settle()
        assert await tab.evaluate("() => peer.remote()") == {"ours": 1}
        await tab.evaluate("() => peer.remove('x')")
        await tab.settle()
        assert end.streams == {}

        end.negotiation.add_track(video, "ours")
        await tab.evaluate("() => peer.add('x')")
        await tab.settle()
        assert await tab.evaluate("() => peer.remote()") == {"ours": 2}
        events = await tab.evaluate("() => peer.events")
        assert events.count(["track", "video", video.id, "ours"]) == 2
        await tab.decodes(video)
        assert sorted(end.streams.values()) == [page_stream, page_stream]
        await read(end, page_stream)

    with_browser(browser, browser_calls, test)


@INITIATORS
@pytest.mark.timeout(120)
def test_both_sides_share_and_unshare_at_once(browser: Chromium, browser_calls: bool) -> None:
    async def test(tab: Tab, end: End) -> None:
        chance = random.Random(3)
        local_streams: dict[str, list[Still]] = {}
        page_streams: dict[str, tuple[str, int]] = {}
        for number in range(ROUNDS):
            kinds = [["audio"], ["video"], ["audio", "video"]]
            tracks = [Still(kind) for kind in chance.choice(kinds)]
            chosen = chance.choice(kinds)
            for track in tracks:
                end.negotiation.add_track(track, f"o{number}")
            local_streams[f"o{number}"] = tracks
            stream = await tab.evaluate(
                "([name, kinds]) => peer.share(name, kinds)", [f"t{number}", chosen]
            )
            page_streams[f"t{number}"] = stream, len(chosen)
            if number % 2:
                # Not settled yet: the removals join the negotiation under way.
                name = chance.choice(list(local_streams))
                for track in local_streams.pop(name):
                    end.negotiation.remove_track(track)
                name = chance.choice(list(page_streams))
                del page_streams[name]
                await tab.evaluate("(name) => peer.remove(name)", name)
            if number % 3:
                await tab.settle()
        await tab.settle()
        await agree(tab, end, local_streams, page_streams)

    with_browser(browser, browser_calls, test)


@INITIATORS
@pytest.mark.timeout(120)
def test_both_share_while_signals_take_longer_than_an_offer_is_held(
    browser: Chromium, browser_calls: bool
) -> None:
    """All answers of the page come late, and none names the offer it belongs to.

    An answer that comes after a rolled-back offer crosses an answer to the page, which the page
    refuses; both sides must agree in the end.
    """

    async def test(tab: Tab, end: End) -> None:
        loop = asyncio.get_running_loop()
        under_way: list[int] = []

        def slow(put: Callable[[Signal], object]) -> Callable[[Signal], None]:
            def arrive(signal: Signal) -> None:
                under_way.remove(id(signal))
                put(signal)

            def send(signal: Signal) -> None:
                under_way.append(id(signal))
                loop.call_later(SLOW_SIGNAL, arrive, signal)

            return send

        assert end.deliver is not None
        end.deliver = slow(end.deliver)
        setattr(end.inbox, "put_nowait", slow(end.inbox.put_nowait))
        local_streams: dict[str, int] = {}
        page_streams: dict[str, int] = {}

        async def agreed() -> bool:
            counts: dict[str, int] = {}
            for stream in end.streams.values():
                counts[stream] = counts.get(stream, 0) + 1
            # A page that takes a track back before it was answered may keep its old name.
            if under_way or not await tab.evaluate("() => peer.settled()"):
                return False
            return (
                counts == page_streams
                and await tab.evaluate("() => peer.remote()") == local_streams
            )

        kept: list[Still] = []
        for number in range(SLOW_ROUNDS):
            mine, their = [["video"], ["audio", "video"], ["audio"]][number % 3], ["video"]
            if number % 2:
                their.append("audio")
            gone, kept = kept, [Still(kind) for kind in mine]
            for track in gone:
                end.negotiation.remove_track(track)
            for track in kept:
                end.negotiation.add_track(track, f"o{number}")
            if number:
                await tab.evaluate("(name) => peer.remove(name)", f"t{number - 1}")
            stream = await tab.evaluate(
                "([name, kinds]) => peer.share(name, kinds)", [f"t{number}", their]
            )
            local_streams, page_streams = {f"o{number}": len(kept)}, {stream: len(their)}
            await tab.until(agreed, f"agreement in round {number}")
        for track in kept:
            await tab.decodes(track)
        assert end.errors == []

    hasty = Settings(offer_timeout=SLOW_SIGNAL, offer_attempts=8)
    with_browser(browser, browser_calls, test, hasty, page_may_refuse=True)


@INITIATORS
@pytest.mark.parametrize("restarted_by", ["browser", "python", "both"])
def test_an_ice_restart_keeps_the_call(
    browser: Chromium, browser_calls: bool, restarted_by: str
) -> None:
    async def test(tab: Tab, end: End) -> None:
        before = end.connection.remote_username
        if restarted_by != "python":
            await tab.evaluate("() => peer.pc.restartIce()")
        if restarted_by != "browser":
            end.negotiation.restart_ice()
        await tab.settle()
        assert end.connection.remote_username != before

        async def connected() -> bool:
            state = await tab.evaluate("() => peer.pc.iceConnectionState")
            return state in ("connected", "completed")

        await tab.until(connected, "the new path")
        video = Still("video")
        end.negotiation.add_track(video, "after")
        await tab.settle()
        await tab.decodes(video)

    with_browser(browser, browser_calls, test)
