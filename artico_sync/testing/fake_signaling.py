"""Signalling that can also send what no client would, and stop listening to one call; user
threads."""

from __future__ import annotations

from functools import partial
from typing import Any

from artico_sync.signaling import Message, Signaling


class FakeSignaling(Signaling):
    """Passes everything on to another signalling, except where the fake peer's script differs.

    Args:
        inner: Carries the signals.
    """

    def __init__(self, inner: Signaling) -> None:
        super().__init__(inner.id)
        self._inner = inner
        self._muted: set[str] = set()
        for event in self.EVENTS:
            inner.on(event, partial(self._pass_on, event))

    def mute(self, session: str) -> None:
        """Neither send nor hear signals of that session any more."""
        self._muted.add(session)

    def connect(self) -> None:
        self._state = "connecting"
        self._inner.connect()

    def disconnect(self) -> None:
        self._inner.disconnect()
        self._state = "disconnected"

    def signal(self, message: Message) -> bool | None:
        if message.get("session") in self._muted:
            return None
        return self._inner.signal(message)

    def join(self, room: str, metadata: str | None = None) -> None:
        self._inner.join(room, metadata)

    def send_raw(self, target: str, session: str, signal: object) -> None:
        """Send whatever is given in the place of a signal."""
        self._inner.signal({"target": target, "session": session, "signal": signal})

    def _pass_on(self, event: str, *arguments: Any) -> None:
        if event == "signal" and arguments[0].get("session") in self._muted:
            return
        self.emit(event, *arguments)
