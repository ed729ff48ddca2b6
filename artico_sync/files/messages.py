"""The file transfer protocol: messages on the wire, and the progress reported to the program.

The sender offers a file in a text message and sends content only to a peer that accepts, so a peer
without this protocol sees one line of JSON and nothing more. Text messages are
`{"type":"artico_sync/file","cmd":...,"id":...}`:

=========  ========  =======================================================================
cmd        by        members
=========  ========  =======================================================================
`offer`    sender    `name`, `size` in bytes, `sha256` of the content
`accept`   receiver  `offset`: number of bytes it has from an earlier attempt
`refuse`   receiver  `reason`
`abort`    sender    none; the receiver keeps the bytes received so far
`done`     receiver  none; the file is complete and its hash is correct
`failed`   receiver  `reason`; `"hash"` if the content does not match the offer
=========  ========  =======================================================================

After `accept` the content from `offset` on follows in binary messages of at most 64 KiB: the
eight bytes of the id, then content.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from artico_sync.errors import CallError

logger = logging.getLogger(__name__)

MESSAGE_TYPE = "artico_sync/file"
MAX_MESSAGE_BYTES = 64 * 1024
ID_BYTES = 8
MAX_CONTENT_BYTES = MAX_MESSAGE_BYTES - ID_BYTES
#: Commands that the receiver sends.
REPLY_COMMANDS = frozenset({"accept", "refuse", "done", "failed"})

Body: TypeAlias = dict[str, Any]
State: TypeAlias = Literal["begun", "moving", "done", "failed"]


class FileTransferError(CallError):
    """A file was refused, or did not arrive complete.

    Example:
        >>> receiver = FileReceiver(incoming, "inbox", maximum_size=3)
        >>> handler = incoming.on("data", receiver.take)
        >>> send_file(call, "letter.txt")
        Traceback (most recent call last):
        artico_sync.files.messages.FileTransferError: ...
    """


@dataclass(frozen=True)
class FileProgress:
    """The progress of one file, the argument of `on_progress`.

    Example:
        >>> receiver = FileReceiver(incoming, "inbox")
        >>> handler = incoming.on("data", receiver.take)
        >>> def show(progress):
        ...     if progress.state == "done":
        ...         print(progress.name, progress.moved, "of", progress.size)
        >>> send_file(call, "letter.txt", on_progress=show)
        letter.txt 10 of 10

    Attributes:
        state: `"begun"` once, `"moving"` any number of times, then `"done"` or `"failed"` once.
        name: The name of the file.
        size: Size of the file in bytes.
        moved: Bytes transferred so far, including those of an earlier attempt.
        path: Where the received file is; set on the receiver's side when `state` is `"done"`.
        reason: Why the transfer failed; set when `state` is `"failed"`.
    """

    state: State
    name: str
    size: int
    moved: int
    path: Path | None = None
    reason: str | None = None


OnProgress: TypeAlias = Callable[[FileProgress], object]
OnMessage: TypeAlias = Callable[["str | bytes"], object]


def parse_message(message: str | bytes) -> Body | None:
    """Return the body of a text message of this protocol, or None for any other message."""
    if not isinstance(message, str) or MESSAGE_TYPE not in message[:64]:
        return None
    try:
        body = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("type") != MESSAGE_TYPE:
        return None
    return body if isinstance(body.get("cmd"), str) else None


def build_message(command: str, transfer_id: str, **members: Any) -> str:
    """Return a text message of this protocol."""
    return json.dumps(
        {"type": MESSAGE_TYPE, "cmd": command, "id": transfer_id, **members},
        separators=(",", ":"),
    )


def pass_on(message: str | bytes, on_message: OnMessage | None) -> None:
    """Give a message of another subject to the program, or log that it is dropped."""
    if on_message is None:
        logger.warning(
            "dropping a message received during a file transfer; pass on_message to receive it"
        )
    else:
        on_message(message)


class ProgressNotifier:
    """Calls a program's `on_progress` for one file.

    Args:
        on_progress: The program's function, or None.
        name: The name of the file.
        size: Size of the file in bytes.
    """

    def __init__(self, on_progress: OnProgress | None, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self._on_progress = on_progress

    def notify(
        self, state: State, moved: int, *, path: Path | None = None, reason: str | None = None
    ) -> None:
        """Report the progress after `moved` bytes."""
        if self._on_progress is not None:
            self._on_progress(FileProgress(state, self.name, self.size, moved, path, reason))
