"""Receiving files: `FileReceiver`, and `receive_file` for one blocking call."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from pathlib import Path

from artico_sync._bridge.threads import start_thread
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallError
from artico_sync.files.messages import (
    ID_BYTES,
    REPLY_COMMANDS,
    Body,
    FileProgress,
    FileTransferError,
    OnMessage,
    OnProgress,
    ProgressNotifier,
    build_message,
    parse_message,
    pass_on,
)
from artico_sync.files.received_file import DigestCache, ReceivedFile

logger = logging.getLogger(__name__)

#: Number of ended transfers whose late content is still recognized.
MAX_ENDED_TRANSFERS = 16
#: Replies waiting for a peer that does not read, after which its offers are ignored.
MAX_UNSENT_REPLIES = 16


class FileReceiver:
    """Receives the files of one call into a folder and never writes outside it.

    The thread that reads the call's messages passes each to `take`; `receive_file` does so itself.

    Example:
        >>> from pathlib import Path
        >>> receiver = FileReceiver(incoming, "inbox", maximum_size=1_000_000)
        >>> handler = incoming.on("data", receiver.take)
        >>> send_file(call, "letter.txt")
        >>> Path("inbox/letter.txt").read_text()
        'Dear Bob, '

    Args:
        call: The call the files arrive on.
        folder: An existing folder. A file keeps its name, made safe, or gets a numbered one if
            that is taken; until it is complete it has a hidden name that ends in `.part`.
        maximum_size: Largest size of a file in bytes; larger files are refused.
        maximum_total: Total bytes of all files, including incomplete ones; a file that would
            exceed it is refused.
        on_progress: Called with a `FileProgress`, on the thread that calls `take`.

    Raises:
        NotADirectoryError: The folder does not exist.
    """

    def __init__(
        self,
        call: Call,
        folder: str | os.PathLike[str],
        *,
        maximum_size: int | None = None,
        maximum_total: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._folder = Path(folder).resolve()
        if not self._folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder")
        self._maximum_size = maximum_size
        self._maximum_total = maximum_total
        self._bytes_received = 0
        self._on_progress = on_progress
        self._replies = _ReplySender(call)
        self._transfer_id: str | None = None
        self._file: ReceivedFile | None = None
        self._digests = DigestCache()
        self._progress = ProgressNotifier(None, "", 0)
        self._ended_ids: deque[bytes] = deque(maxlen=MAX_ENDED_TRANSFERS)

    def take(self, message: str | bytes) -> bool:
        """Handle a message of the call if it is an offer or a part of a file.

        Example:
            >>> FileReceiver(incoming, "inbox").take("hello")
            False

        Args:
            message: Any message of the call.

        Returns:
            True if it was about a file. Any other message is left to the caller.
        """
        if isinstance(message, bytes):
            return self._on_content(message)
        body = parse_message(message)
        if body is None or body.get("cmd") in REPLY_COMMANDS:
            return False
        if body.get("cmd") == "offer":
            self._on_offer(body)
        elif body.get("cmd") == "abort" and body.get("id") == self._transfer_id:
            self._fail("the sender gave up", notify_peer=False)
        return True

    def close(self) -> None:
        """Keep an incomplete file for the next attempt; called when the call has ended.

        Example:
            >>> receiver = FileReceiver(incoming, "inbox")
            >>> handler = incoming.on("close", receiver.close)
        """
        if self._file is not None:
            self._fail("the call ended", notify_peer=False)

    def _on_offer(self, body: Body) -> None:
        if self._replies.unsent >= MAX_UNSENT_REPLIES:
            logger.debug("ignoring an offered file: the peer does not read the replies")
            return
        transfer_id = body.get("id")
        reason = self._refusal_reason(body)
        if reason is None:
            try:
                self._file = ReceivedFile(
                    self._folder, body["name"], body["size"], body["sha256"], self._digests
                )
            except BlockingIOError:
                reason = "it is being received already"
            except OSError as error:
                reason = error.strerror or str(error)
            else:
                reason = self._check_total(self._file)
        if reason is not None or self._file is None:
            logger.info("refusing an offered file: %s", reason)
            self._replies.send_reply(build_message("refuse", str(transfer_id)[:64], reason=reason))
            return
        self._transfer_id = transfer_id
        self._progress = ProgressNotifier(self._on_progress, self._file.name, self._file.size)
        self._replies.send_reply(
            build_message("accept", str(transfer_id), offset=self._file.offset)
        )
        self._progress.notify("begun", self._file.offset)
        if self._file.complete:
            self._finish(self._file)

    def _refusal_reason(self, body: Body) -> str | None:
        if self._file is not None:
            return "another file is being received"
        size = body.get("size")
        if (
            not _is_hexadecimal(body.get("id"), 2 * ID_BYTES)
            or not _is_hexadecimal(body.get("sha256"), 64)
            or not isinstance(body.get("name"), str)
            or type(size) is not int
            or size < 0
        ):
            return "the offer is malformed"
        if self._maximum_size is not None and size > self._maximum_size:
            return f"it is larger than {self._maximum_size} bytes"
        return None

    def _check_total(self, file: ReceivedFile) -> str | None:
        """Drop a file that would exceed the total; return the reason, or None if it fits."""
        maximum = self._maximum_total
        if maximum is None or self._bytes_received + file.size - file.offset <= maximum:
            return None
        file.suspend()
        self._file = None
        return f"no more than {maximum} bytes are accepted in total"

    def _on_content(self, message: bytes) -> bool:
        prefix = message[:ID_BYTES]
        if self._file is None or self._transfer_id is None or prefix.hex() != self._transfer_id:
            return prefix in self._ended_ids
        try:
            self._file.write(message[ID_BYTES:])
        except (ValueError, OSError) as error:
            self._fail(getattr(error, "strerror", None) or str(error), notify_peer=True)
            return True
        self._progress.notify("moving", self._file.offset)
        if self._file.complete:
            self._finish(self._file)
        return True

    def _finish(self, file: ReceivedFile) -> None:
        try:
            path = file.finish()
        except OSError as error:
            self._fail(error.strerror or str(error), notify_peer=True)
            return
        if path is None:
            self._fail("hash", notify_peer=True)
            return
        assert self._transfer_id is not None
        self._replies.send_reply(build_message("done", self._transfer_id))
        self._end_transfer()
        self._progress.notify("done", file.size, path=path)

    def _fail(self, reason: str, *, notify_peer: bool) -> None:
        assert self._file is not None and self._transfer_id is not None
        moved = self._file.offset
        self._file.suspend()
        if notify_peer:
            self._replies.send_reply(build_message("failed", self._transfer_id, reason=reason))
        self._end_transfer()
        self._progress.notify("failed", moved, reason=reason)

    def _end_transfer(self) -> None:
        assert self._file is not None and self._transfer_id is not None
        self._bytes_received += self._file.bytes_added
        self._ended_ids.append(bytes.fromhex(self._transfer_id))
        self._file = self._transfer_id = None


def _is_hexadecimal(text: object, length: int) -> bool:
    return (
        isinstance(text, str) and len(text) == length and all(c in "0123456789abcdef" for c in text)
    )


class _ReplySender:
    """Sends replies without blocking; two peers that send files to each other could deadlock."""

    def __init__(self, call: Call) -> None:
        self._call = call
        # Guards the two below; nothing blocks while it is held.
        self._lock = threading.Lock()
        self._unsent: deque[str] = deque()
        self._draining = False

    @property
    def unsent(self) -> int:
        """Number of replies not sent yet."""
        return len(self._unsent)

    def send_reply(self, text: str) -> None:
        """Send a reply at once if the send buffer has room, else from a thread of its own."""
        with self._lock:
            self._unsent.append(text)
            if self._draining:
                return
            self._draining = True
        if not self._drain(0):
            # The thread ends with the call at the latest, because `send` raises then.
            start_thread("file", self._drain, None)

    def _drain(self, timeout: float | None) -> bool:
        """Send what is queued; return False if the timeout passed first."""
        while True:
            with self._lock:
                if not self._unsent:
                    self._draining = False
                    return True
                text = self._unsent[0]
            try:
                self._call.send(text, timeout)
            except ArticoTimeoutError:
                return False
            except CallError as error:
                logger.debug("could not send a reply about a file: %s", error)
            with self._lock:
                self._unsent.popleft()


def receive_file(
    call: Call,
    folder: str | os.PathLike[str],
    *,
    maximum_size: int | None = None,
    on_progress: OnProgress | None = None,
    on_message: OnMessage | None = None,
    timeout: float | None = None,
) -> Path:
    """Block until one file has been received into `folder` and its hash has been checked.

    Example:
        >>> import threading
        >>> thread = threading.Thread(target=send_file, args=(incoming, "letter.txt"))
        >>> thread.start()
        >>> receive_file(call, "inbox", timeout=5).name
        'letter.txt'
        >>> thread.join()

    Args:
        call: An open call.
        folder: An existing folder; nothing is written outside it.
        maximum_size: Largest size of a file in bytes; larger files are refused.
        on_progress: Called with a `FileProgress`, on this thread.
        on_message: Called with each message that is not about the file; without it such messages
            are dropped, with a warning in the log.
        timeout: Seconds for the whole transfer; None waits without limit.

    Returns:
        The path of the file.

    Raises:
        FileTransferError: The file did not arrive complete. The part received is kept, and the
            next attempt resumes the transfer.
        CallClosedError: The call ended first; the part received is kept.
        ArticoTimeoutError: The time ran out; the part received is kept.
        NotADirectoryError: The folder does not exist.
    """
    deadline = Deadline(timeout)
    latest: deque[FileProgress] = deque(maxlen=1)

    def on_file_progress(progress: FileProgress) -> None:
        latest.append(progress)
        if on_progress is not None:
            on_progress(progress)

    receiver = FileReceiver(call, folder, maximum_size=maximum_size, on_progress=on_file_progress)
    try:
        while True:
            message = call.recv(deadline.remaining())
            if not receiver.take(message):
                pass_on(message, on_message)
            elif latest and latest[0].path is not None:
                return latest[0].path
            elif latest and latest[0].state == "failed":
                raise FileTransferError(
                    f"{latest[0].name} was not received: {latest[0].reason}.",
                    session=call.session,
                    peer=call.target,
                )
    finally:
        receiver.close()
