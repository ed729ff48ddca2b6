"""Sending files: `FileSender`, and `send_file` for one blocking call."""

from __future__ import annotations

import logging
import os
import queue
import secrets
from typing import BinaryIO

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallClosedError, CallError
from artico_sync.files.messages import (
    ID_BYTES,
    MAX_CONTENT_BYTES,
    REPLY_COMMANDS,
    Body,
    FileTransferError,
    OnMessage,
    OnProgress,
    ProgressNotifier,
    build_message,
    parse_message,
    pass_on,
)
from artico_sync.files.received_file import hash_file

logger = logging.getLogger(__name__)


class FileSender:
    """Sends files on one call, one after the other.

    The thread that reads the call's messages passes each to `take`; `send` is called on another
    thread. `send_file` does both on one thread.

    Example:
        >>> receiver = FileReceiver(incoming, "inbox")
        >>> handler = incoming.on("data", receiver.take)
        >>> sender = FileSender(call)
        >>> replies = call.on("data", sender.take)
        >>> sender.send("letter.txt", timeout=5)

    Args:
        call: An open call.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._replies = _ReplyQueue(None)
        self._closed = False

    def take(self, message: str | bytes) -> bool:
        """Handle a message of the call if it is a reply of the peer about a file.

        Example:
            >>> FileSender(call).take("hello")
            False

        Args:
            message: Any message of the call.

        Returns:
            True if it was such a reply. Any other message is left to the caller.
        """
        body = parse_message(message)
        if body is None or body.get("cmd") not in REPLY_COMMANDS:
            return False
        self._replies.enqueue_reply(body)
        return True

    def close(self) -> None:
        """End a `send` in progress with `CallClosedError`; called when the call has ended.

        Example:
            >>> sender = FileSender(call)
            >>> handler = call.on("close", sender.close)
        """
        self._closed = True
        self._replies.end()

    def _next_reply(self, deadline: Deadline) -> Body:
        try:
            body = self._replies.next_reply(deadline.remaining())
        except queue.Empty:
            raise deadline.error("the peer's answer about a file", peer=self._call.target) from None
        if body is None:
            raise CallClosedError(
                "The call ended before the file was sent.", peer=self._call.target
            )
        return body

    def send(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = 30,
    ) -> None:
        """Send a file and block until the peer has received it and checked its hash.

        Example:
            >>> receiver = FileReceiver(incoming, "inbox")
            >>> handler = incoming.on("data", receiver.take)
            >>> sender = FileSender(call)
            >>> replies = call.on("data", sender.take)
            >>> from pathlib import Path
            >>> sender.send("letter.txt", name="to-bob.txt", timeout=5)
            >>> Path("inbox/to-bob.txt").read_text()
            'Dear Bob, '

        Args:
            path: The file to send.
            name: The name offered to the peer; by default the file's own name.
            on_progress: Called with a `FileProgress`, on this thread.
            timeout: Seconds to wait for each reply of the peer; None waits without limit.

        Raises:
            FileTransferError: The peer refused the file, or it did not arrive complete.
            ArticoTimeoutError: The peer did not reply; most likely it does not accept files.
            CallClosedError: The call ended first. Sending the file again resumes the transfer.
            OSError: The file cannot be read.
        """
        name = os.path.basename(path) if name is None else name
        with open(path, "rb") as file:
            size, digest = hash_file(file)
            offer = {"name": name, "size": size, "sha256": digest.hexdigest()}
            progress = ProgressNotifier(on_progress, name, size)
            offset, reason = self._transfer(file, offer, progress, timeout)
            if reason == "hash" and offset > 0:
                # The bytes the peer had from an earlier attempt were not part of this file; it
                # has deleted them.
                offset, reason = self._transfer(file, offer, progress, timeout)
        if reason is not None:
            progress.notify("failed", size, reason=reason)
            text = "its content changed on the way" if reason == "hash" else reason
            raise self._error(f"The peer did not accept {name}: {text}.")
        progress.notify("done", size)

    def _transfer(
        self, file: BinaryIO, offer: Body, progress: ProgressNotifier, timeout: float | None
    ) -> tuple[int, str | None]:
        """Offer and send a file; return the offset it began at, and why it failed or None."""
        transfer_id = secrets.token_hex(ID_BYTES)
        self._replies = _ReplyQueue(transfer_id)
        # `close` sets `_closed` before it ends the queue, so that either it or this line ends
        # the new one.
        if self._closed:
            self._replies.end()
        self._call.send(build_message("offer", transfer_id, **offer))
        try:
            reply = self._expect_reply(transfer_id, ("accept", "refuse"), timeout)
            if reply["cmd"] == "refuse":
                return 0, _reason_of(reply)
            offset = reply.get("offset")
            if type(offset) is not int or not 0 <= offset <= progress.size:
                raise self._error(f"The peer asked to resume at an invalid offset: {offset!r:.50}.")
            progress.notify("begun", offset)
            result = self._send_content(file, transfer_id, offset, progress)
            if result is None:
                self._call.flush()
                result = self._expect_reply(transfer_id, ("done", "failed"), timeout)
            return offset, None if result["cmd"] == "done" else _reason_of(result)
        except BaseException:
            self._abort(transfer_id)
            raise
        finally:
            self._replies = _ReplyQueue(None)

    def _send_content(
        self, file: BinaryIO, transfer_id: str, offset: int, progress: ProgressNotifier
    ) -> Body | None:
        """Send the content from `offset` on; return the peer's reply if it ended the transfer."""
        prefix = bytes.fromhex(transfer_id)
        file.seek(offset)
        while offset < progress.size:
            content = file.read(min(MAX_CONTENT_BYTES, progress.size - offset))
            if not content:
                raise self._error(f"{progress.name} became shorter while it was sent.")
            self._call.send(prefix + content)
            offset += len(content)
            progress.notify("moving", offset)
            try:
                return self._expect_reply(transfer_id, ("done", "failed"), 0)
            except ArticoTimeoutError:
                continue
        return None

    def _expect_reply(
        self, transfer_id: str, commands: tuple[str, ...], timeout: float | None
    ) -> Body:
        deadline = Deadline(timeout)
        while True:
            body = self._next_reply(deadline)
            if body.get("id") == transfer_id and body["cmd"] in commands:
                return body

    def _abort(self, transfer_id: str) -> None:
        try:
            self._call.send(build_message("abort", transfer_id), timeout=0)
        except (CallError, ArticoTimeoutError) as error:
            logger.debug("could not notify the peer that a file transfer was aborted: %s", error)

    def _error(self, text: str) -> FileTransferError:
        return FileTransferError(text, session=self._call.session, peer=self._call.target)


class _ReplyQueue:
    """The peer's replies about one transfer; each command counts once, which bounds the queue.

    Args:
        transfer_id: The transfer's id; None if there is none, in which case nothing is queued.
    """

    def __init__(self, transfer_id: str | None) -> None:
        self._transfer_id = transfer_id
        self._received_commands: set[str] = set()
        self._queue: queue.SimpleQueue[Body | None] = queue.SimpleQueue()

    def enqueue_reply(self, body: Body) -> None:
        """Queue a reply; called by the one thread that reads the call's messages."""
        command = body["cmd"]
        if (
            self._transfer_id is None
            or body.get("id") != self._transfer_id
            or command in self._received_commands
        ):
            return
        self._received_commands.add(command)
        self._queue.put(body)

    def end(self) -> None:
        """Make `next_reply` return None once the queue is empty."""
        self._queue.put(None)

    def next_reply(self, timeout: float | None) -> Body | None:
        """Wait for the next reply; None at the end.

        Raises:
            queue.Empty: None arrived in time.
        """
        return self._queue.get(timeout=timeout)


def _reason_of(body: Body) -> str:
    reason = body.get("reason")
    return reason[:200] if isinstance(reason, str) else "no reason given"


class _ReadingSender(FileSender):
    """A sender that reads the call's messages itself."""

    def __init__(self, call: Call, on_message: OnMessage | None) -> None:
        super().__init__(call)
        self._on_message = on_message

    def _next_reply(self, deadline: Deadline) -> Body:
        while True:
            message = self._call.recv(deadline.remaining())
            body = parse_message(message)
            if body is not None and body.get("cmd") in REPLY_COMMANDS:
                return body
            pass_on(message, self._on_message)


def send_file(
    call: Call,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    on_progress: OnProgress | None = None,
    on_message: OnMessage | None = None,
    timeout: float | None = 30,
) -> None:
    """Send a file to a Python peer; block until the peer has received it and checked its hash.

    Reads the call's messages until then. Sending a file again resumes an interrupted transfer.

    Example:
        >>> from pathlib import Path
        >>> receiver = FileReceiver(incoming, "inbox")
        >>> handler = incoming.on("data", receiver.take)
        >>> send_file(call, "letter.txt")
        >>> Path("inbox/letter.txt").read_text()
        'Dear Bob, '

    Args:
        call: An open call.
        path: The file to send.
        name: The name offered to the peer; by default the file's own name.
        on_progress: Called with a `FileProgress`, on this thread.
        on_message: Called with each message that is not about the file; without it such messages
            are dropped, with a warning in the log.
        timeout: Seconds to wait for each reply of the peer; None waits without limit.

    Raises:
        FileTransferError: The peer refused the file, or it did not arrive complete.
        ArticoTimeoutError: The peer did not reply; most likely it does not accept files.
        CallClosedError: The call ended first.
        NotOpenError: The call is not open yet.
        OSError: The file cannot be read.
    """
    sender = _ReadingSender(call, on_message)
    sender.send(path, name=name, on_progress=on_progress, timeout=timeout)
