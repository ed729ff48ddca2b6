"""Keeps the candidates that servers have found alive while a call rings; loop thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

logger = logging.getLogger(__name__)

#: Seconds between two messages to a server: NATs forget a port that is not used for half a minute,
#: and a call may ring for longer (RFC 8445 section 5.1.1.4).
INTERVAL = 15.0
#: Seconds for which the answers are waited for.
PATIENCE = 5.0

Speak = Callable[[], Coroutine[Any, Any, None]]


class KeepAlive:
    """Speaks to servers at intervals until it is stopped; its owner closes it."""

    def __init__(self) -> None:
        self._servers: list[Speak] = []
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def add(self, speak: Speak) -> None:
        """Have `speak` called from now on; whatever it raises is of no consequence."""
        self._servers.append(speak)
        if self._task is None and not self._stopped:
            self._task = asyncio.create_task(self._run(), name="keep candidates alive")

    def stop(self) -> None:
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                async with asyncio.timeout(PATIENCE):
                    attempts = [speak() for speak in self._servers]
                    await asyncio.gather(*attempts, return_exceptions=True)
            except TimeoutError:
                logger.info("a server that found a candidate does not answer any more")
