"""The receiving side of a file transfer; user threads."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from pathlib import Path

from artico_sync.call import Call
from artico_sync.errors import ArticoTimeoutError, CallError
from artico_sync.files.digests import Digests
from artico_sync.files.messages import ANSWERS, ID_BYTES, Body, OnProgress, Report, build, parse
from artico_sync.files.received_file import ReceivedFile

logger = logging.getLogger("artico_sync.files")

#: Ended transfers whose late bytes are still known for what they are.
REMEMBERED = 16
#: Answers that wait for a peer that does not read them, before its offers go unanswered.
UNREAD = 16


class FileReceiver:
    """Takes files of one call into a folder and never writes outside it.

    Whoever reads the call's messages gives each to `take`; `receive_file` does so by itself.

    Example:
        >>> from pathlib import Path
        >>> receiver = FileReceiver(incoming, "inbox", maximum_size=1_000_000)
        >>> taking = incoming.on("data", receiver.take)
        >>> send_file(call, "letter.txt")
        >>> Path("inbox/letter.txt").read_text()
        'Dear Bob, '

    Args:
        call: The call the files come on.
        folder: An existing folder. A file keeps its name, made safe, or gets a numbered one where
            that is taken; until it is whole it has a hidden name that ends in `.part`.
        maximum_size: Bytes; larger files are refused.
        maximum_total: Bytes that all files together may bring, also those that stay unfinished;
            a file with which it would be more is refused.
        on_progress: Told how far each file is.

    Raises:
        NotADirectoryError: There is no such folder.
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
        self._maximum = maximum_size
        self._maximum_total = maximum_total
        self._taken = 0
        self._on_progress = on_progress
        self._replies = _Replies(call)
        self._transfer: str | None = None
        self._file: ReceivedFile | None = None
        self._digests = Digests()
        self._report = Report(None, "", 0)
        self._ended: deque[bytes] = deque(maxlen=REMEMBERED)

    def take(self, message: str | bytes) -> bool:
        """Take an offer or a part of a file, from the thread that reads the call's messages.

        Example:
            >>> FileReceiver(incoming, "inbox").take("hello")
            False

        Args:
            message: Any message of the call.

        Returns:
            Whether it was one; any other is not the receiver's business.
        """
        if isinstance(message, bytes):
            return self._take_content(message)
        body = parse(message)
        if body is None or body.get("cmd") in ANSWERS:
            return False
        if body.get("cmd") == "offer":
            self._take_offer(body)
        elif body.get("cmd") == "abort" and body.get("id") == self._transfer:
            self._fail("the sender gave up", tell=False)
        return True

    def close(self) -> None:
        """The call is over: keep what came of an unfinished file for the next attempt.

        Example:
            >>> receiver = FileReceiver(incoming, "inbox")
            >>> handler = incoming.on("close", receiver.close)
        """
        if self._file is not None:
            self._fail("the call ended", tell=False)

    def _take_offer(self, body: Body) -> None:
        if self._replies.waiting >= UNREAD:
            logger.debug("ignoring an offered file: the peer does not read the answers")
            return
        transfer = body.get("id")
        problem = self._refusal(body)
        if problem is None:
            try:
                self._file = ReceivedFile(
                    self._folder, body["name"], body["size"], body["sha256"], self._digests
                )
            except BlockingIOError:
                problem = "it is being received already"
            except OSError as error:
                problem = error.strerror or str(error)
            else:
                problem = self._excess(self._file)
        if problem is not None or self._file is None:
            logger.info("refusing an offered file: %s", problem)
            self._replies.send(build("refuse", str(transfer)[:64], reason=problem))
            return
        self._transfer = transfer
        self._report = Report(self._on_progress, self._file.name, self._file.size)
        self._replies.send(build("accept", str(transfer), offset=self._file.offset))
        self._report("begun", self._file.offset)
        if self._file.complete:
            self._finish(self._file)

    def _refusal(self, body: Body) -> str | None:
        if self._file is not None:
            return "another file is on its way"
        size = body.get("size")
        if (
            not _is_hexadecimal(body.get("id"), 2 * ID_BYTES)
            or not _is_hexadecimal(body.get("sha256"), 64)
            or not isinstance(body.get("name"), str)
            or type(size) is not int
            or size < 0
        ):
            return "the offer is malformed"
        if self._maximum is not None and size > self._maximum:
            return f"it is larger than {self._maximum} bytes"
        return None

    def _excess(self, file: ReceivedFile) -> str | None:
        maximum = self._maximum_total
        if maximum is None or self._taken + file.size - file.offset <= maximum:
            return None
        file.suspend()
        self._file = None
        return f"no more than {maximum} bytes are taken in all"

    def _take_content(self, message: bytes) -> bool:
        prefix = message[:ID_BYTES]
        if self._file is None or self._transfer is None or prefix.hex() != self._transfer:
            return prefix in self._ended
        try:
            self._file.write(message[ID_BYTES:])
        except (ValueError, OSError) as error:
            self._fail(getattr(error, "strerror", None) or str(error), tell=True)
            return True
        self._report("moving", self._file.offset)
        if self._file.complete:
            self._finish(self._file)
        return True

    def _finish(self, file: ReceivedFile) -> None:
        try:
            path = file.finish()
        except OSError as error:
            self._fail(error.strerror or str(error), tell=True)
            return
        if path is None:
            self._fail("hash", tell=True)
            return
        assert self._transfer is not None
        self._replies.send(build("done", self._transfer))
        self._end()
        self._report("done", file.size, path=path)

    def _fail(self, reason: str, *, tell: bool) -> None:
        assert self._file is not None and self._transfer is not None
        moved = self._file.offset
        self._file.suspend()
        if tell:
            self._replies.send(build("failed", self._transfer, reason=reason))
        self._end()
        self._report("failed", moved, reason=reason)

    def _end(self) -> None:
        assert self._file is not None and self._transfer is not None
        self._taken += self._file.added
        self._ended.append(bytes.fromhex(self._transfer))
        self._file = self._transfer = None


def _is_hexadecimal(text: object, length: int) -> bool:
    return (
        isinstance(text, str) and len(text) == length and all(c in "0123456789abcdef" for c in text)
    )


class _Replies:
    """Sends answers without blocking: two peers that both send files would wait for each other."""

    def __init__(self, call: Call) -> None:
        self._call = call
        # Guards the two below; nothing blocks under it.
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._busy = False

    @property
    def waiting(self) -> int:
        """How many are not sent yet."""
        return len(self._waiting)

    def send(self, text: str) -> None:
        with self._lock:
            self._waiting.append(text)
            if self._busy:
                return
            self._busy = True
        if not self._drain(0):
            # It ends with the call at the latest, which `send` notices.
            threading.Thread(
                target=self._drain, args=(None,), name="artico_sync-file", daemon=True
            ).start()

    def _drain(self, timeout: float | None) -> bool:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return True
                text = self._waiting[0]
            try:
                self._call.send(text, timeout)
            except ArticoTimeoutError:
                return False
            except CallError as error:
                logger.debug("an answer about a file was not sent: %s", error)
            with self._lock:
                self._waiting.popleft()
