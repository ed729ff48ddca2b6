"""The sending side of a file transfer; user threads."""

from __future__ import annotations

import logging
import os
import queue
import secrets
from typing import BinaryIO

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallClosedError, CallError
from artico_sync.files.digests import hash_file
from artico_sync.files.messages import (
    ANSWERS,
    CONTENT,
    ID_BYTES,
    Body,
    FileTransferError,
    OnProgress,
    Report,
    build,
    parse,
)

logger = logging.getLogger("artico_sync.files")


class FileSender:
    """Sends files on one call, one after the other.

    Whoever reads the call's messages gives each to `take`, on another thread than `send`;
    `send_file` does both by itself.

    Example:
        >>> receiver = FileReceiver(incoming, "inbox")
        >>> taking = incoming.on("data", receiver.take)
        >>> sender = FileSender(call)
        >>> answers = call.on("data", sender.take)
        >>> sender.send("letter.txt", timeout=5)

    Args:
        call: An open call.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._answers = _Answers(None)
        self._closed = False

    def take(self, message: str | bytes) -> bool:
        """Take an answer of the peer, from the thread that reads the call's messages.

        Example:
            >>> FileSender(call).take("hello")
            False

        Args:
            message: Any message of the call.

        Returns:
            Whether it was one; any other is not the sender's business.
        """
        body = parse(message)
        if body is None or body.get("cmd") not in ANSWERS:
            return False
        self._answers.put(body)
        return True

    def close(self) -> None:
        """The call is over, no answer comes any more: a `send` under way ends with that.

        Example:
            >>> sender = FileSender(call)
            >>> handler = call.on("close", sender.close)
        """
        self._closed = True
        self._answers.end()

    def _next(self, deadline: Deadline) -> Body:
        try:
            body = self._answers.get(deadline.remaining())
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
        """Send a file and block until the peer has it and has checked it.

        Example:
            >>> receiver = FileReceiver(incoming, "inbox")
            >>> taking = incoming.on("data", receiver.take)
            >>> sender = FileSender(call)
            >>> answers = call.on("data", sender.take)
            >>> from pathlib import Path
            >>> sender.send("letter.txt", name="to-bob.txt", timeout=5)
            >>> Path("inbox/to-bob.txt").read_text()
            'Dear Bob, '

        Args:
            path: The file.
            name: What to call it at the other end; else its own name.
            on_progress: Told how far it is.
            timeout: Seconds to wait for each answer of the peer; None for ever.

        Raises:
            FileTransferError: The peer refused it, or it did not arrive whole.
            ArticoTimeoutError: The peer does not answer; most likely it takes no files.
            CallClosedError: The call ended first. Sending it again goes on where it ended.
            OSError: The file cannot be read.
        """
        name = os.path.basename(path) if name is None else name
        with open(path, "rb") as file:
            size, digest = hash_file(file)
            offer = {"name": name, "size": size, "sha256": digest.hexdigest()}
            report = Report(on_progress, name, size)
            offset, reason = self._send(file, offer, report, timeout)
            if reason == "hash" and offset > 0:
                # What the peer had kept of it was no part of this file; it is gone now.
                offset, reason = self._send(file, offer, report, timeout)
        if reason is not None:
            report("failed", size, reason=reason)
            why = "its content arrived changed" if reason == "hash" else reason
            raise self._error(f"{name} was not taken: {why}.")
        report("done", size)

    def _send(
        self, file: BinaryIO, offer: Body, report: Report, timeout: float | None
    ) -> tuple[int, str | None]:
        # Where it began, and why it failed.
        transfer = secrets.token_hex(ID_BYTES)
        self._answers = _Answers(transfer)
        # Looked at after the line above, and set before `close` ends them: one of the two sees it.
        if self._closed:
            self._answers.end()
        self._call.send(build("offer", transfer, **offer))
        try:
            answer = self._expect(transfer, ("accept", "refuse"), timeout)
            if answer["cmd"] == "refuse":
                return 0, _reason(answer)
            offset = answer.get("offset")
            if type(offset) is not int or not 0 <= offset <= report.size:
                raise self._error(f"The peer wants to go on at {offset!r:.50}, which cannot be.")
            report("begun", offset)
            failure = self._send_content(file, transfer, offset, report)
            if failure is None:
                self._call.flush()
                failure = self._expect(transfer, ("done", "failed"), timeout)
            return offset, None if failure["cmd"] == "done" else _reason(failure)
        except BaseException:
            self._abort(transfer)
            raise
        finally:
            self._answers = _Answers(None)

    def _send_content(
        self, file: BinaryIO, transfer: str, offset: int, report: Report
    ) -> Body | None:
        # The peer's word where it ended the transfer before its end.
        prefix = bytes.fromhex(transfer)
        file.seek(offset)
        while offset < report.size:
            content = file.read(min(CONTENT, report.size - offset))
            if not content:
                raise self._error(f"{report.name} became shorter while it was sent.")
            self._call.send(prefix + content)
            offset += len(content)
            report("moving", offset)
            try:
                return self._expect(transfer, ("done", "failed"), 0)
            except ArticoTimeoutError:
                continue
        return None

    def _expect(self, transfer: str, commands: tuple[str, ...], timeout: float | None) -> Body:
        deadline = Deadline(timeout)
        while True:
            body = self._next(deadline)
            if body.get("id") == transfer and body["cmd"] in commands:
                return body

    def _abort(self, transfer: str) -> None:
        try:
            self._call.send(build("abort", transfer), timeout=0)
        except (CallError, ArticoTimeoutError) as error:
            logger.debug("the peer was not told that the file ends here: %s", error)

    def _error(self, text: str) -> FileTransferError:
        return FileTransferError(text, session=self._call.session, peer=self._call.target)


class _Answers:
    """What the peer has said about one transfer, each thing once: it may talk without end.

    Args:
        transfer: Its id; None where none is under way, so that nothing is kept.
    """

    def __init__(self, transfer: str | None) -> None:
        self._transfer = transfer
        self._heard: set[str] = set()
        self._queue: queue.SimpleQueue[Body | None] = queue.SimpleQueue()

    def put(self, body: Body) -> None:
        """Keep an answer, from the one thread that reads the call's messages."""
        command = body["cmd"]
        if self._transfer is None or body.get("id") != self._transfer or command in self._heard:
            return
        self._heard.add(command)
        self._queue.put(body)

    def end(self) -> None:
        """There are no more."""
        self._queue.put(None)

    def get(self, timeout: float | None) -> Body | None:
        """The next one; None at the end. Raises `queue.Empty` where none comes in time."""
        return self._queue.get(timeout=timeout)


def _reason(body: Body) -> str:
    reason = body.get("reason")
    return reason[:200] if isinstance(reason, str) else "no reason given"
