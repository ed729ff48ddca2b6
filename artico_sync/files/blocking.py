"""Sending and receiving a file in one blocking call; user threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.call import Call
from artico_sync.files.messages import (
    ANSWERS,
    Body,
    FileProgress,
    FileTransferError,
    OnProgress,
    parse,
)
from artico_sync.files.receiver import FileReceiver
from artico_sync.files.sender import FileSender

logger = logging.getLogger("artico_sync.files")

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

    It reads the call's messages meanwhile. A file that was interrupted goes on where it ended when
    it is sent again.

    Example:
        >>> from pathlib import Path
        >>> receiver = FileReceiver(incoming, "inbox")
        >>> taking = incoming.on("data", receiver.take)
        >>> send_file(call, "letter.txt")
        >>> Path("inbox/letter.txt").read_text()
        'Dear Bob, '

    Args:
        call: An open call.
        path: The file.
        name: What to call it at the other end; else its own name.
        on_progress: Told how far it is, on this thread.
        on_message: Given the messages that are not about the file; without it they are dropped,
            with a warning in the log.
        timeout: Seconds to wait for each answer of the peer; None for ever.

    Raises:
        FileTransferError: The peer refused it, or it did not arrive whole.
        ArticoTimeoutError: The peer does not answer; most likely it takes no files.
        CallClosedError: The call ended first.
        NotOpenError: The call is not open yet.
        OSError: The file cannot be read.
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
    """Block until one file has come into `folder`, whole and checked by its hash.

    Example:
        >>> import threading
        >>> sending = threading.Thread(target=send_file, args=(incoming, "letter.txt"))
        >>> sending.start()
        >>> receive_file(call, "inbox", timeout=5).name
        'letter.txt'
        >>> sending.join()

    Args:
        call: An open call.
        folder: An existing folder; nothing is written outside it.
        maximum_size: Bytes; larger files are refused.
        on_progress: Told how far it is, on this thread.
        on_message: Given the messages that are not about the file; without it they are dropped,
            with a warning in the log.
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
