"""Harness for tests of one side of a file transfer, without a connection."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from artico_sync.file_transfer import FileProgress, FileReceiver
from artico_sync.files.messages import build_message

ID = "00112233445566aa"


def offer(content: bytes, name: str = "a.bin", **changed: Any) -> str:
    """Return an offer of a file with that content, with some members changed."""
    members = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return build_message("offer", ID, **{**members, **changed})


def content_message(content: bytes) -> bytes:
    """Return a message with a part of the file offered by `offer`."""
    return bytes.fromhex(ID) + content


class FakeCall:
    """Stands in for a call; keeps the text messages sent on it."""

    session = "call:test"
    target = "peer"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, text: str, timeout: float | None = None) -> None:
        self.sent.append(json.loads(text))


class ReceiverHarness:
    """A receiver on a fake call, and the progress it reported."""

    def __init__(self, folder: Path, call: FakeCall | None = None, **options: Any) -> None:
        self.call = call or FakeCall()
        self.progress: list[FileProgress] = []
        self.receiver = FileReceiver(
            self.call,  # type: ignore[arg-type]
            folder,
            on_progress=self.progress.append,
            **options,
        )

    def exchange(self, *messages: str | bytes) -> list[dict[str, Any]]:
        """Pass messages to the receiver; return its replies."""
        before = len(self.call.sent)
        for message in messages:
            assert self.receiver.take(message)
        return self.call.sent[before:]
