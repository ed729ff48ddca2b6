"""Numbers about a call at regular times; loop thread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

Stats = dict[str, Any]


class StatsPoller:
    """Asks for the numbers and tells them on.

    Args:
        stats: Where they come from.
        tell: Where they go.
    """

    def __init__(
        self, stats: Callable[[], Awaitable[Stats]], tell: Callable[[Stats], None]
    ) -> None:
        self._stats = stats
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    def start(self, interval: float) -> None:
        """Tell them every `interval` seconds, in place of what was asked for before."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._watch(interval))

    async def close(self) -> None:
        """Stop; returns when nothing runs any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            self._tell(await self._stats())
