"""Sharing and unsharing with a page any number of times leaves the descriptions small.

Every round is alike: if each track had an m-section of its own, their number would grow by at least
one a round. So 20 rounds, which are more than the spare m-sections, prove as much as the 300 that
would reach the limit.
"""

from __future__ import annotations

import random
import re

import pytest

from artico_sync._webrtc.sdp.offer_answer import SPARE_SECTIONS
from tests.browser.chromium import Chromium
from tests.browser.repetitions import rounds
from tests.browser.tab import INITIATORS, Tab, agree, read, with_browser
from tests.negotiating import End, Signal, Still, until

ROUNDS = rounds(20)
KINDS = (["audio"], ["video"], ["audio", "video"])
#: The data channel, the shared tracks, those shared a moment ago, and the spares of each kind.
MOST = 1 + 6 + 6 + 2 * SPARE_SECTIONS


async def media_lines(tab: Tab) -> int:
    """The m-lines of the page's descriptions, with those that are out of use."""
    found = await tab.evaluate(
        "() => [peer.pc.localDescription, peer.pc.remoteDescription]"
        ".map(({ sdp }) => sdp.match(/^m=/gm).length)"
    )
    assert found[0] == found[1]
    return int(found[0])


@INITIATORS
@pytest.mark.timeout(150)
def test_a_page_shares_again_and_again(browser: Chromium, browser_calls: bool) -> None:
    async def test(tab: Tab, end: End) -> None:
        for number in range(ROUNDS):
            kinds = KINDS[number % 3]
            stream = await tab.evaluate("(kinds) => peer.share('x', kinds)", kinds)
            await tab.settle()
            assert list(end.streams.values()) == [stream] * len(kinds)
            await tab.evaluate("() => peer.remove('x')")
            await tab.settle()
            assert end.streams == {}
            assert await media_lines(tab) <= 3

    with_browser(browser, browser_calls, test)


@INITIATORS
@pytest.mark.timeout(150)
def test_an_artico_sync_peer_shares_again_and_again(browser: Chromium, browser_calls: bool) -> None:
    async def test(tab: Tab, end: End) -> None:
        for number in range(ROUNDS):
            tracks = [Still(kind) for kind in KINDS[number % 3]]
            for track in tracks:
                end.negotiation.add_track(track, "x")
            await tab.settle()
            assert await tab.evaluate("() => peer.remote()") == {"x": len(tracks)}
            for track in tracks:
                end.negotiation.remove_track(track)
            await tab.settle()
            assert await tab.evaluate("() => peer.remote()") == {}
            assert await media_lines(tab) <= MOST
        # The last tracks, on recycled m-sections, are received by both peers.
        video = Still("video")
        end.negotiation.add_track(video, "last")
        await tab.evaluate("() => peer.share('last', ['video', 'audio'])")
        await tab.settle()
        await tab.decodes(video)
        assert len(end.streams) == 2

    with_browser(browser, browser_calls, test)


@INITIATORS
@pytest.mark.timeout(150)
def test_both_share_again_and_again(browser: Chromium, browser_calls: bool) -> None:
    async def test(tab: Tab, end: End) -> None:
        chance = random.Random(11)
        local_streams: dict[str, list[Still]] = {}
        page_streams: dict[str, tuple[str, int]] = {}
        for number in range(ROUNDS):
            if len(page_streams) > 2 or (page_streams and chance.random() < 0.5):
                name = chance.choice(list(page_streams))
                del page_streams[name]
                await tab.evaluate("(name) => peer.remove(name)", name)
            if len(local_streams) > 2 or (local_streams and chance.random() < 0.5):
                for track in local_streams.pop(chance.choice(list(local_streams))):
                    end.negotiation.remove_track(track)
            local_streams[f"o{number}"] = [Still(kind) for kind in chance.choice(KINDS)]
            for track in local_streams[f"o{number}"]:
                end.negotiation.add_track(track, f"o{number}")
            kinds = chance.choice(KINDS)
            stream = await tab.evaluate(
                "([name, kinds]) => peer.share(name, kinds)", [f"t{number}", kinds]
            )
            page_streams[f"t{number}"] = stream, len(kinds)
            if number % 3:
                await tab.settle()
                await agree(tab, end, local_streams, page_streams)
                assert await media_lines(tab) <= MOST
        await tab.settle()
        await agree(tab, end, local_streams, page_streams)
        for tracks in local_streams.values():
            for track in tracks:
                await tab.decodes(track)

    with_browser(browser, browser_calls, test)


@INITIATORS
def test_tracks_added_while_m_lines_are_given_up_are_not_lost(
    browser: Chromium, browser_calls: bool
) -> None:
    """A page's `addTrack` takes a transceiver that an offer on its way to it is going to stop."""

    async def test(tab: Tab, end: End) -> None:
        gone = [Still("video") for _ in range(SPARE_SECTIONS + 3)]
        for track in gone:
            end.negotiation.add_track(track, "gone")
        await tab.settle()
        for track in gone:
            end.negotiation.remove_track(track)
        await tab.settle()
        held: list[Signal] = []
        deliver, end.deliver = end.deliver, held.append
        assert deliver is not None
        video = Still("video")
        end.negotiation.add_track(video, "x")
        await until(lambda: held)
        assert re.findall(r"^m=video (\d+)", held[0]["data"]["sdp"], re.M).count("0") == 3
        kinds = ["video"] * SPARE_SECTIONS
        stream = await tab.evaluate("(kinds) => peer.share('y', kinds)", kinds)
        end.deliver = deliver
        for signal in held:
            deliver(signal)
        await tab.settle()
        assert list(end.streams.values()) == [stream] * SPARE_SECTIONS
        await tab.decodes(video)
        await read(end, stream)

    with_browser(browser, browser_calls, test)
