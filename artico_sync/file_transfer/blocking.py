"""Sending and receiving a file in one blocking call; user threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from artico_sync.bridge.waiting import Deadline
from artico_sync.call import Call
from artico_sync.file_transfer.messages import (
    ANSWERS,
    Body,
    FileProgress,
    FileTransferError,
    OnProgress,
    parse,
)
from artico_sync.file_transfer.receiver import FileReceiver
from artico_sync.file_transfer.sender import FileSender

logger = logging.getLogger("artico_sync.file_transfer")

OnMessage = Callable[["str | bytes"], object]


class _ReadingSender(FileSender):
    """Reads the call's messages by itself while it sends."""

    def __init__(self, call: Call, on_message: OnMessage | None) -> None:
        super().__init__(call)
        self._on_message = on_message

    def _next(self, deadline: Deadline) -> Body:
        while True:
            message = self._call.recv(deadline.remaining())
            body = parse(message)
            if body is not None and body.get("cmd") in ANSWERS:
                return body
            _pass_on(message, self._on_message)


def _pass_on(message: str | bytes, on_message: OnMessage | None) -> None:
    if on_message is None:
        logger.warning("dropping a message that came between those of a file: give on_message")
    else:
        on_message(message)


def send_file(
    call: Call,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    on_progress: OnProgress | None = None,
    on_message: OnMessage | None = None,
    timeout: float | None = 30,
) -> None:
    """Send a file to a Python peer that takes files; blocks until it is there and checked.

    Reads the call's messages meanwhile; those that are not about the file go to `on_message`. For
    the other arguments and what it raises see `FileSender.send`.
    """
    sender = _ReadingSender(call, on_message)
    sender.send(path, name=name, on_progress=on_progress, timeout=timeout)


def receive_file(
    call: Call,
    folder: str | os.PathLike[str],
    *,
    maximum_size: int | None = None,
    on_progress: OnProgress | None = None,
    on_message: OnMessage | None = None,
    timeout: float | None = None,
) -> Path:
    """Block until one file has come into `folder`, whole and checked.

    Args:
        on_message: Given the messages that are not about the file.
        timeout: Seconds for all of it; None for ever.

    Returns:
        Where it is.

    Raises:
        FileTransferError: It did not arrive whole; what came is kept for another attempt.
        CallClosedError: The call ended first, with the same.
        ArticoTimeoutError: The time ran out, with the same.
        NotADirectoryError: There is no such folder.
    """
    deadline = Deadline(timeout)
    last: list[FileProgress] = []

    def note(progress: FileProgress) -> None:
        last[:] = [progress]
        if on_progress is not None:
            on_progress(progress)

    receiver = FileReceiver(call, folder, maximum_size=maximum_size, on_progress=note)
    try:
        while True:
            message = call.recv(deadline.remaining())
            if not receiver.take(message):
                _pass_on(message, on_message)
            elif last and last[0].path is not None:
                return last[0].path
            elif last and last[0].state == "failed":
                raise FileTransferError(
                    f"{last[0].name} did not come: {last[0].reason}.",
                    session=call.session,
                    peer=call.target,
                )
    finally:
        receiver.close()
