"""Negotiation with Chromium itself: sharing, unsharing and glare from both sides, ICE restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiortc.mediastreams import MediaStreamTrack
from playwright.sync_api import Page

from artico_sync.engine.rtc.media_lines import RemoteTrackAdded
from tests.interop.chromium import Chromium
from tests.negotiating import End, Signal, Still, run

SCRIPT = (Path(__file__).parent / "raw_peer.js").read_text(encoding="utf-8")
LIMIT = 25.0
PATIENCE_MS = 10
ROUNDS = 10

INITIATORS = pytest.mark.parametrize("browser_calls", [True, False], ids=["browser", "python"])


class Tab:
    """A page with a raw peer in it, and the carrying of signals; the test's loop."""

    def __init__(self, browser: Chromium, page: Page, end: End) -> None:
        self._browser = browser
        self._page = page
        self._end = end
        self._outgoing: list[Signal] = []
        self._under_way = False
        self.crashed = False
        page.on("crash", self._on_crash)
        end.deliver = self._outgoing.append

    def _on_crash(self, _: object) -> None:
        self.crashed = True

    async def evaluate(self, script: str, argument: Any = None) -> Any:
        return await asyncio.to_thread(self._browser.run, self._page.evaluate, script, argument)

    async def carry(self) -> None:
        """Carry signals both ways until cancelled."""
        while True:
            incoming, self._outgoing[:] = list(self._outgoing), []
            self._under_way = bool(incoming)
            found = await self.evaluate(
                "([signals, patience]) => peer.exchange(signals, patience)",
                [incoming, PATIENCE_MS],
            )
            for signal in found:
                self._end.inbox.put_nowait(signal)
            self._under_way = bool(found)

    @property
    def quiet(self) -> bool:
        return not self._outgoing and not self._under_way

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str) -> Any:
        """Wait for a condition that may ask the page."""
        try:
            async with asyncio.timeout(LIMIT):
                while not (found := await condition()):
                    assert not self.crashed, "the tab crashed"
                    await asyncio.sleep(PATIENCE_MS / 1000)
                return found
        except TimeoutError:
            errors = await self.evaluate("() => peer.errors")
            pytest.fail(f"waited for {what}; {errors} {self._end.errors}", pytrace=False)

    async def settle(self) -> None:
        """Wait until neither side has anything left to negotiate."""
        quiet = 0

        async def settled() -> bool:
            nonlocal quiet
            state = await self.evaluate(
                "async () => { await new Promise((go) => setTimeout(go, 5));"
                " return peer.pc.signalingState }"
            )
            quiet = quiet + 1 if state == "stable" and self.quiet and self._end.settled else 0
            return quiet >= 5

        await self.until(settled, "both sides to settle")

    async def decodes(self, track: MediaStreamTrack) -> None:
        """Wait until the page receives more of a track than it has by now."""
        before = (await self.evaluate("() => peer.received()")).get(track.id, 0)

        async def more() -> bool:
            found = await self.evaluate("() => peer.received()")
            return bool(found.get(track.id, 0) > before + 2)

        await self.until(more, f"the page to decode {track.kind}")


def with_browser(
    browser: Chromium, browser_calls: bool, test: Callable[[Tab, End], Awaitable[None]]
) -> None:
    """Run a test with an open call to a page."""
    page = browser.open_page()
    browser.run(page.evaluate, SCRIPT)

    async def body() -> None:
        end = End(polite=browser_calls)
        tab = Tab(browser, page, end)
        await tab.evaluate("(initiator) => makePeer(initiator)", browser_calls)
        carrier = asyncio.ensure_future(tab.carry())
        try:
            if not browser_calls:
                end.open_channel()

            async def opened() -> bool:
                return bool(
                    end.is_open and await tab.evaluate("() => peer.channel?.readyState === 'open'")
                )

            await tab.until(opened, "the channel to open")
            await tab.settle()
            await test(tab, end)
            end.say("still there")

            async def heard() -> bool:
                events = await tab.evaluate("() => peer.events")
                return ["message", "still there"] in events

            await tab.until(heard, "the channel to carry text at the end")
            assert await tab.evaluate("() => peer.errors") == []
            assert end.errors == []
            assert not tab.crashed
        finally:
            carrier.cancel()
            await asyncio.wait([carrier])
            await end.close()

    try:
        run(body)
    finally:
        browser.run(page.context.close)


async def read(end: End, stream_id: str) -> None:
    """Read a frame of every track of a stream the browser shares now."""
    for change in end.changes:
        if isinstance(change, RemoteTrackAdded) and change.stream_id == stream_id:
            if change.track.readyState == "live":
                await asyncio.wait_for(change.track.recv(), LIMIT)


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

        theirs = await tab.evaluate("() => peer.share('x', ['audio', 'video'])")
        await tab.settle()
        assert sorted(end.streams.values()) == [theirs, theirs]
        await read(end, theirs)

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
        assert sorted(end.streams.values()) == [theirs, theirs]
        await read(end, theirs)

    with_browser(browser, browser_calls, test)


@INITIATORS
@pytest.mark.timeout(120)
def test_both_sides_share_and_unshare_at_once(browser: Chromium, browser_calls: bool) -> None:
    async def test(tab: Tab, end: End) -> None:
        chance = random.Random(3)
        ours: dict[str, list[Still]] = {}
        theirs: dict[str, tuple[str, int]] = {}
        for number in range(ROUNDS):
            kinds = [["audio"], ["video"], ["audio", "video"]]
            tracks = [Still(kind) for kind in chance.choice(kinds)]
            chosen = chance.choice(kinds)
            for track in tracks:
                end.negotiation.add_track(track, f"o{number}")
            ours[f"o{number}"] = tracks
            stream = await tab.evaluate(
                "([name, kinds]) => peer.share(name, kinds)", [f"t{number}", chosen]
            )
            theirs[f"t{number}"] = stream, len(chosen)
            if number % 2:
                # Not settled yet: the removals join the negotiation under way.
                name = chance.choice(list(ours))
                for track in ours.pop(name):
                    end.negotiation.remove_track(track)
                name = chance.choice(list(theirs))
                del theirs[name]
                await tab.evaluate("(name) => peer.remove(name)", name)
            if number % 3:
                await tab.settle()
        await tab.settle()
        remote = await tab.evaluate("() => peer.remote()")
        assert remote == {name: len(tracks) for name, tracks in ours.items()}
        counts: dict[str, int] = {}
        for stream in end.streams.values():
            counts[stream] = counts.get(stream, 0) + 1
        assert counts == dict(theirs.values())

    with_browser(browser, browser_calls, test)


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
