"""A page with a raw peer against an artico_sync negotiation; the test carries the signals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiortc.mediastreams import MediaStreamTrack
from playwright.sync_api import Page

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.sdp.media_sections import RemoteTrackAdded
from tests.browser.chromium import Chromium
from tests.negotiating import End, Signal, Still, run

SCRIPT = (Path(__file__).parent / "raw_peer.js").read_text(encoding="utf-8")
LIMIT = 25.0
POLL_MS = 10
#: Errors of a page that gets a description for another signaling state than its own.
REFUSALS = ("sdp: InvalidStateError", "sdp: InvalidAccessError")

INITIATORS = pytest.mark.parametrize("browser_calls", [True, False], ids=["browser", "python"])


class Tab:
    """A page with a raw peer in it, and the exchange of signals, on the loop of the test."""

    def __init__(self, browser: Chromium, page: Page, end: End) -> None:
        self._browser = browser
        self._page = page
        self._end = end
        self._outgoing: list[Signal] = []
        self._under_way = False
        # Exchanges with the page so far, and how many of the last found nothing to carry.
        self._exchanges = self._idle = 0
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
                "([signals, limit]) => peer.exchange(signals, limit)",
                [incoming, POLL_MS],
            )
            for signal in found:
                self._end.inbox.put_nowait(signal)
            self._under_way = bool(found)
            self._exchanges += 1
            self._idle = 0 if incoming or found else self._idle + 1

    @property
    def quiet(self) -> bool:
        return not self._outgoing and not self._under_way

    async def until(self, condition: Callable[[], Awaitable[Any]], what: str) -> Any:
        """Wait for a condition that may ask the page."""
        try:
            async with asyncio.timeout(LIMIT):
                while not (found := await condition()):
                    assert not self.crashed, "the tab crashed"
                    await asyncio.sleep(POLL_MS / 1000)
                return found
        except TimeoutError:
            errors = await self.evaluate("() => peer.errors")
            pytest.fail(f"waited for {what}; {errors} {self._end.errors}", pytrace=False)

    async def settle(self) -> None:
        """Wait until neither side has anything left to negotiate."""
        quiet = begun = 0

        async def settled() -> bool:
            nonlocal quiet, begun
            page_settled = await self.evaluate(
                "async () => { await new Promise((go) => setTimeout(go, 5));"
                " return peer.settled() }"
            )
            still = page_settled and self.quiet and self._end.settled
            if still and not quiet:
                begun = self._exchanges
            quiet = quiet + 1 if still else 0
            # Signals that an exchange has fetched may not have reached this thread yet.
            return quiet >= 5 and self._exchanges >= begun + 2 and self._idle >= 2

        await self.until(settled, "both sides to settle")

    async def decodes(self, track: MediaStreamTrack) -> None:
        """Wait until the page receives more of a track than it has by now."""
        before = (await self.evaluate("() => peer.received()")).get(track.id, 0)

        async def more() -> bool:
            found = await self.evaluate("() => peer.received()")
            return bool(found.get(track.id, 0) > before + 2)

        await self.until(more, f"the page to decode {track.kind}")


def with_browser(
    browser: Chromium,
    browser_calls: bool,
    test: Callable[[Tab, End], Awaitable[None]],
    settings: Settings | None = None,
    *,
    page_may_refuse: bool = False,
) -> None:
    """Run a test with an open call to a page.

    Args:
        page_may_refuse: Allow the page to report descriptions that come too late for its state.
    """
    page = browser.open_page()
    browser.run(page.evaluate, SCRIPT)

    async def body() -> None:
        end = End(polite=browser_calls, settings=settings)
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
            errors = await tab.evaluate("() => peer.errors")
            if page_may_refuse:
                errors = [error for error in errors if not error.startswith(REFUSALS)]
            assert not errors and not end.errors, (errors, end.errors)
            assert not tab.crashed
        finally:
            carrier.cancel()
            await asyncio.wait([carrier])
            await end.close()

    try:
        run(body)
    finally:
        browser.give_back(page)


async def read(end: End, stream_id: str) -> None:
    """Read a frame of every track of a stream the browser shares now."""
    for change in end.changes:
        if isinstance(change, RemoteTrackAdded) and change.stream_id == stream_id:
            if change.track.readyState == "live":
                await asyncio.wait_for(change.track.recv(), LIMIT)


async def agree(
    tab: Tab, end: End, local_streams: dict[str, list[Still]], page_streams: dict[str, Any]
) -> None:
    """Check that each side has received the tracks that the other one shares."""
    remote = await tab.evaluate("() => peer.remote()")
    assert remote == {name: len(tracks) for name, tracks in local_streams.items()}
    counts: dict[str, int] = {}
    for stream in end.streams.values():
        counts[stream] = counts.get(stream, 0) + 1
    wanted = dict(page_streams.values())
    described: dict[str, int] = await tab.evaluate("() => peer.described()")
    assert counts == described
    if counts != wanted and sum(counts.values()) == sum(wanted.values()):
        pytest.xfail("Chromium's own fault: a track has kept the id of a stream taken back before")
    assert counts == wanted
