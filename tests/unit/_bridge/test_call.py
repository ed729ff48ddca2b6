"""The accounts of a call: messages read, and statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from artico_sync._bridge.call import HISTORY_LENGTH, CallStatistics, ReadAccount
from artico_sync._protocol.bounds import OVERHEAD


class RecordingSession:
    """Records the bytes released in place of a session."""

    def __init__(self) -> None:
        self.released: list[int] = []

    def release(self, size: int) -> None:
        self.released.append(size)


class ImmediatePortal:
    """Runs functions at once in place of posting them to the loop."""

    def post(self, function: Callable[..., object], *arguments: object) -> None:
        function(*arguments)


def test_messages_read_are_reported_in_steps() -> None:
    session: Any = RecordingSession()
    portal: Any = ImmediatePortal()
    account = ReadAccount(portal, 8000, lambda: session)
    message = "x" * (400 - OVERHEAD)
    account.on_read(message)
    account.on_read(message)
    assert session.released == []
    account.on_read(message)
    assert session.released == [1200]
    account.on_read("")
    account.report()
    assert session.released == [1200, OVERHEAD]


def test_nothing_is_reported_before_there_is_a_session() -> None:
    portal: Any = ImmediatePortal()
    account = ReadAccount(portal, 8000, lambda: None)
    account.on_read(b"x" * 2000)
    session: Any = RecordingSession()
    later = ReadAccount(portal, 8000, lambda: session)
    later.report()
    assert session.released == [0]


def test_the_history_has_plain_values_and_is_bounded() -> None:
    portal: Any = ImmediatePortal()
    statistics = CallStatistics(portal, lambda: None, ReadAccount(portal, 8000, lambda: None))
    for number in range(HISTORY_LENGTH + 1):
        statistics.append({"number": number, "streams": [], "local": {}})
    rows = statistics.history()
    assert len(rows) == HISTORY_LENGTH and rows[0]["number"] == 1
    assert set(rows[0]) == {"time", "number"} and math.isfinite(rows[0]["time"])
    rows[0]["number"] = None
    assert statistics.history()[0]["number"] == 1
    assert statistics.age >= 0
