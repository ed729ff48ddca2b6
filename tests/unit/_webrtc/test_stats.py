"""The poller of statistics."""

from __future__ import annotations

import asyncio
from typing import Any

from artico_sync._webrtc.stats import StatsPoller


def test_statistics_are_reported_until_the_poller_is_closed() -> None:
    async def test() -> None:
        collected = 0
        reported: list[dict[str, Any]] = []

        async def collect() -> dict[str, Any]:
            nonlocal collected
            collected += 1
            return {"number": collected}

        poller = StatsPoller(collect, reported.append)
        poller.start(0.01)
        async with asyncio.timeout(20):
            while len(reported) < 3:
                await asyncio.sleep(0.005)
        await poller.close()
        assert reported[:3] == [{"number": 1}, {"number": 2}, {"number": 3}]
        count = len(reported)
        await asyncio.sleep(0.05)
        assert len(reported) == count

    asyncio.run(test())


def test_a_new_interval_replaces_the_old_one() -> None:
    async def test() -> None:
        reported: list[dict[str, Any]] = []

        async def collect() -> dict[str, Any]:
            return {}

        poller = StatsPoller(collect, reported.append)
        poller.start(0.01)
        poller.start(60.0)
        await asyncio.sleep(0.05)
        assert reported == []
        await poller.close()

    asyncio.run(test())


def test_a_poller_that_was_not_started_can_be_closed() -> None:
    async def collect() -> dict[str, Any]:
        return {}

    asyncio.run(StatsPoller(collect, lambda numbers: None).close())
