"""The signals of one call that wait to be applied; loop thread."""

from __future__ import annotations

import asyncio
from typing import Any

from artico_sync._protocol.messages import Signal
from artico_sync._protocol.settings import Settings


class SignalInbox:
    """A queue, limited in signals and in characters: a call may ring for as long as it likes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signals: asyncio.Queue[Signal] = asyncio.Queue()
        #: Of all the signals in it.
        self.characters = 0

    def __len__(self) -> int:
        return self._signals.qsize()

    def put(self, signal: Signal) -> bool:
        """Keep a signal; False where there is no room for it."""
        if (
            len(self) >= self._settings.maximum_buffered_signals
            or self.characters + signal.characters > self._settings.maximum_buffered_characters
        ):
            return False
        self.characters += signal.characters
        self._signals.put_nowait(signal)
        return True

    async def take(self) -> dict[str, Any]:
        """Wait for the oldest signal, as negotiation takes it."""
        signal = await self._signals.get()
        self.characters -= signal.characters
        return signal.body
