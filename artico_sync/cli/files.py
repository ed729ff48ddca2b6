"""Files of a chat: `--send-file` and `--receive-to`, with notes on them; two threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import monotonic

from artico_sync.call import Call
from artico_sync.cli.byte_sizes import format_size
from artico_sync.cli.output import Output
from artico_sync.errors import ArticoTimeoutError, CallError
from artico_sync.files import FileProgress, FileReceiver, FileSender, FileTransferError
from artico_sync.files.messages import build_message, parse_message

# Seconds between two looks at how far a file is: on a terminal, and in JSON.
REDRAW = 0.1
REPORT = 0.5
BAR = 24


class Files:
    """Sends and takes files on one call.

    Args:
        folder: Where files go that the peer sends; None refuses them.
        limit: Bytes they may have together; None for no limit.
        changed: Called when a file has come or failed.
    """

    def __init__(
        self,
        call: Call,
        output: Output,
        folder: str | None,
        limit: int | None,
        changed: Callable[[], object],
    ) -> None:
        self._call = call
        self._output = output
        self._changed = changed
        self._sender = FileSender(call)
        self._receiver: FileReceiver | None = None
        self.receiving = False
        self.failed = False
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
            self._receiver = FileReceiver(
                call, folder, maximum_total=limit, on_progress=self._on_received
            )
        self._received = ProgressReporter(output, "receiving", "received")

    def take(self, message: str | bytes) -> bool:
        """Take a message that is about a file; False for any other."""
        if self._receiver is not None and self._receiver.take(message):
            return True
        if self._sender.take(message):
            return True
        body = parse_message(message)
        if body is None:
            return False
        if body.get("cmd") == "offer":
            self._output.note(f"refusing a file of {self._call.target}: there is no --receive-to")
            answer = build_message("refuse", str(body.get("id"))[:64], reason="it takes no files")
            try:
                self._call.send(answer, timeout=0)
            except (CallError, ArticoTimeoutError) as error:
                self._output.note(f"could not say so: {error}")
        return True

    def send(self, paths: Sequence[str], timeout: float | None) -> None:
        """Send files; what the peer does not take is told of, and the next one is sent.

        Raises:
            CallClosedError: The call ended before all were sent.
        """
        for path in paths:
            try:
                notes = ProgressReporter(self._output, "sending", "sent", tells_failures=False)
                self._sender.send(path, on_progress=notes, timeout=timeout)
            except (FileTransferError, OSError) as error:
                # A time-out is an OSError as well: a peer that takes no files does not answer.
                self.failed = True
                self._output.note(f"{path} was not sent: {error}")
                self._output.event("file", state="failed", name=path, reason=str(error))

    def close(self) -> None:
        """The call is over; what came of an unfinished file is kept."""
        self._sender.close()
        if self._receiver is not None:
            self._receiver.close()

    def _on_received(self, progress: FileProgress) -> None:
        self._received(progress)
        self.receiving = progress.state in ("begun", "moving")
        if progress.state == "failed":
            self.failed = True
        if not self.receiving:
            self._changed()


class ProgressReporter:
    """Tells how far one file after the other is."""

    def __init__(
        self, output: Output, doing: str, did: str, *, tells_failures: bool = True
    ) -> None:
        self._output = output
        self._doing = doing
        self._did = did
        self._tells_failures = tells_failures
        self._begun = self._shown = monotonic()
        self._from = 0

    def __call__(self, progress: FileProgress) -> None:
        now = monotonic()
        if progress.state == "begun":
            self._begun = self._shown = now
            self._from = progress.moved
            self._tell_begun(progress)
        elif progress.state == "moving":
            if now - self._shown >= (REPORT if self._output.json else REDRAW):
                self._shown = now
                self._tell_moving(progress, now - self._begun)
        elif progress.state == "done" or self._tells_failures:
            self._tell_end(progress, now - self._begun)

    def _tell_begun(self, progress: FileProgress) -> None:
        again = f", going on at {format_size(progress.moved)}" if progress.moved else ""
        self._output.note(
            f"{self._doing} {progress.name} ({format_size(progress.size)}{again}) ..."
        )
        self._event(progress)

    def _tell_moving(self, progress: FileProgress, seconds: float) -> None:
        part = progress.moved / max(1, progress.size)
        rate = (progress.moved - self._from) / max(seconds, 1e-6)
        left = (progress.size - progress.moved) / max(rate, 1.0)
        bar = f"{'=' * int(BAR * part):{BAR}}"
        self._output.progress(
            f"{progress.name} [{bar}] {100 * part:3.0f} %  {format_size(rate)}/s"
            f"  {int(left) // 60}:{int(left) % 60:02} left"
        )
        self._event(progress)

    def _tell_end(self, progress: FileProgress, seconds: float) -> None:
        if progress.state == "done":
            rate = format_size((progress.size - self._from) / max(seconds, 1e-6))
            size = format_size(progress.size)
            where = f" as {progress.path}" if progress.path is not None else ""
            self._output.note(
                f"{self._did} {progress.name}{where}: {size} in {seconds:.2f} s"
                f" ({rate}/s), SHA-256 checked"
            )
        else:
            self._output.note(f"{progress.name} was not {self._did}: {progress.reason}")
        self._event(progress)

    def _event(self, progress: FileProgress) -> None:
        members: dict[str, object] = {
            "direction": self._doing,
            "state": progress.state,
            "name": progress.name,
            "size": progress.size,
            "moved": progress.moved,
        }
        if progress.path is not None:
            members["path"] = str(progress.path)
        if progress.reason is not None:
            members["reason"] = progress.reason
        self._output.event("file", **members)
