"""Files between Python peers over an ordinary call: resumable, checked by hash; user threads.

The sender offers a file in a text message; only a peer that answers gets bytes, so that one that
knows nothing of this sees one line of JSON and no more. Text messages are
`{"type":"artico_sync/file","cmd":...,"id":...}`:

=========  ========  =======================================================================
cmd        by        members
=========  ========  =======================================================================
`offer`    sender    `name`, `size` in bytes, `sha256` of the content
`accept`   receiver  `offset`: the bytes it has from an earlier attempt
`refuse`   receiver  `reason`
`abort`    sender    it gives up; the receiver keeps what came
`done`     receiver  the file is there, and is what was announced
`failed`   receiver  `reason`; `"hash"` where the content is not what was announced
=========  ========  =======================================================================

After `accept` come the bytes from there on, in binary messages of at most 64 KiB: the eight bytes
of the id, then content.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from artico_sync.errors import CallError

TYPE = "artico_sync/file"
MESSAGE = 64 * 1024
ID_BYTES = 8
CONTENT = MESSAGE - ID_BYTES
ANSWERS = frozenset({"accept", "refuse", "done", "failed"})

Body = dict[str, Any]


class FileTransferError(CallError):
    """A file was refused, or did not arrive whole.

    Example:
        >>> receiver = FileReceiver(incoming, "inbox", maximum_size=3)
        >>> taking = incoming.on("data", receiver.take)
        >>> send_file(call, "letter.txt")
        Traceback (most recent call last):
        artico_sync.files.messages.FileTransferError: ...
    """


@dataclass(frozen=True)
class FileProgress:
    """How far a file is: what `on_progress` is told.

    Example:
        >>> receiver = FileReceiver(incoming, "inbox")
        >>> taking = incoming.on("data", receiver.take)
        >>> def show(progress):
        ...     if progress.state == "done":
        ...         print(progress.name, progress.moved, "of", progress.size)
        >>> send_file(call, "letter.txt", on_progress=show)
        letter.txt 10 of 10

    Attributes:
        state: Of these, `"begun"` and `"done"` or `"failed"` come once.
        name: What the file is called.
        size: Bytes in all.
        moved: Bytes that are there, those of an earlier attempt included.
        path: Where it is, for the receiver of one that came.
        reason: Why it failed.
    """

    state: Literal["begun", "moving", "done", "failed"]
    name: str
    size: int
    moved: int
    path: Path | None = None
    reason: str | None = None


OnProgress = Callable[[FileProgress], object]


def parse(message: str | bytes) -> Body | None:
    """The body of a text message of this protocol; None for every other message."""
    if not isinstance(message, str) or TYPE not in message[:64]:
        return None
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("type") != TYPE:
        return None
    return body if isinstance(body.get("cmd"), str) else None


def build(cmd: str, transfer: str, **members: Any) -> str:
    """A text message of this protocol."""
    return json.dumps({"type": TYPE, "cmd": cmd, "id": transfer, **members}, separators=(",", ":"))


class Report:
    """Tells the user how far a file is."""

    def __init__(self, on_progress: OnProgress | None, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._on_progress = on_progress

    def __call__(
        self,
        state: Literal["begun", "moving", "done", "failed"],
        moved: int,
        *,
        path: Path | None = None,
        reason: str | None = None,
    ) -> None:
        if self._on_progress is not None:
            self._on_progress(FileProgress(state, self.name, self.size, moved, path, reason))
