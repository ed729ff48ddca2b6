"""Tests of the sending side with a peer that sends anything."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artico_sync import CallClosedError
from artico_sync.file_transfer import FileSender
from artico_sync.files.messages import build_message
from tests.conftest import TIME_UNIT
from tests.unit.files.harness import ID, FakeCall, ReceiverHarness, offer

TIMEOUT = 20.0 * TIME_UNIT


class RepeatingCall(FakeCall):
    """A call whose peer repeats its replies while a file is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sender = FileSender(self)  # type: ignore[arg-type]
        self.memory = math.inf

    def send(self, text: str | bytes, timeout: float | None = None) -> None:
        if isinstance(text, str):
            super().send(text)
            self.reply("accept", offset=0)
        else:
            self.memory = allocated_by(
                lambda: repeat_1000_times(lambda: self.reply("accept", offset=0))
            )
            self.reply("done")

    def flush(self) -> None:
        """Do nothing: `send` is synchronous."""

    def reply(self, cmd: str, **members: Any) -> None:
        """Pass a reply of 1 kB to the sender."""
        assert self.sender.take(build_message(cmd, self.sent[-1]["id"], more="x" * 1000, **members))


def test_sending_after_close_raises(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    call = FakeCall()
    sender = FileSender(call)  # type: ignore[arg-type]
    sender.close()
    for _ in range(2):
        with pytest.raises(CallClosedError):
            sender.send(tmp_path / "a.txt", timeout=TIMEOUT)


def test_other_messages_are_not_taken(receiving: ReceiverHarness) -> None:
    receiving.exchange(offer(b"data"))
    for message in (
        "hello",
        "",
        "null",
        "5",
        '{"type":"[artico]"}',
        b"",
        b"12345678data",
        "[" * 9999,
        build_message("offer", ID).replace('"offer"', "[]"),
        build_message("offer", ID).replace('"offer"', "null"),
    ):
        assert not receiving.receiver.take(message)
        assert not FileSender(receiving.call).take(message)  # type: ignore[arg-type]


def test_unexpected_replies_are_not_queued() -> None:
    sender = FileSender(FakeCall())  # type: ignore[arg-type]
    reply = build_message("done", ID, reason="x" * 1000)
    assert allocated_by(lambda: repeat_1000_times(lambda: sender.take(reply))) < 100_000


def test_repeated_replies_are_queued_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("content")
    call = RepeatingCall()
    call.sender.send(tmp_path / "a.txt", timeout=TIMEOUT)
    assert call.memory < 100_000


def repeat_1000_times(action: Callable[[], object]) -> None:
    for _ in range(1000):
        action()


def allocated_by(action: Callable[[], object]) -> int:
    """Return the number of bytes still allocated after an action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
