"""Stands in for the call of a file transfer in tests of one side; test thread."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from artico_sync.files import FileProgress, FileReceiver
from artico_sync.files.messages import build

ID = "00112233445566aa"


def offer(content: bytes, name: str = "a.bin", **changed: Any) -> str:
    members = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return build("offer", ID, **{**members, **changed})


class Replies:
    """Stands in for a call in tests of one side: keeps what is sent on it."""

    session = "call:test"
    target = "peer"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, text: str, timeout: float | None = None) -> None:
        self.sent.append(json.loads(text))


class Receiving:
    """A receiver with no call, and what it told."""

    def __init__(self, folder: Path, call: Replies | None = None, **options: Any) -> None:
        self.call = call or Replies()
        self.progress: list[FileProgress] = []
        self.receiver = FileReceiver(
            self.call,  # type: ignore[arg-type]
            folder,
            on_progress=self.progress.append,
            **options,
        )

    def give(self, *messages: str | bytes) -> list[dict[str, Any]]:
        """Its answers to these."""
        before = len(self.call.sent)
        for message in messages:
            assert self.receiver.take(message)
        return self.call.sent[before:]
