"""The peers of one test, made with what tests want and closed at its end; user threads."""

from __future__ import annotations

from typing import Any, Protocol

from artico_sync.artico import Artico

#: Nothing outside this machine is asked: peers of one test need no STUN server to meet.
RTC_CONFIG: dict[str, object] = {"iceServers": []}
#: Seconds a peer of a test gets to deliver what was sent when the test is over.
CLOSE_LIMIT = 1.0


class Closable(Protocol):
    """Something that a test made and that must end with it."""

    def close(self) -> None: ...


class TestClient(Artico):
    """An `Artico` for tests: without STUN servers, and quick to close.

    Args:
        options: As for `Artico`.
    """

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, url: str | None = None, **options: Any) -> None:
        options.setdefault("rtc_config", dict(RTC_CONFIG))
        super().__init__(url, **options)

    def close(self, timeout: float | None = CLOSE_LIMIT) -> None:
        super().close(timeout)


class Peers:
    """What a test made, to be closed in reverse order."""

    def __init__(self) -> None:
        self._made: list[Closable] = []

    def add(self, peer: Closable) -> None:
        """Have `peer` closed with the others."""
        self._made.append(peer)

    def close(self) -> None:
        """Close all of them; the first error is raised when all are closed."""
        errors: list[Exception] = []
        while self._made:
            try:
                self._made.pop().close()
            except Exception as error:
                # The others must be closed all the same.
                errors.append(error)
        if errors:
            raise errors[0]
