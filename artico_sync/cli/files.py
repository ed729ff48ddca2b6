"""Files of a chat: `--send-file` and `--receive-to`, with notes on their progress.

The chat's sender thread sends, the main thread receives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import monotonic

from artico_sync.call import Call
from artico_sync.cli.output import Output, format_size
from artico_sync.errors import ArticoTimeoutError, CallError
from artico_sync.files import FileProgress, FileReceiver, FileSender, FileTransferError
from artico_sync.files.messages import build_message, parse_message

# Intervals of progress updates: on a terminal, and in JSON.
REDRAW_SECONDS = 0.1
JSON_PROGRESS_SECONDS = 0.5
# Width of the progress bar.
BAR_CHARACTERS = 24


class Files:
    """The files sent and received on one call.

    Args:
        folder: The folder for files of the peer; None refuses them.
        limit: Most bytes to receive in all; None for no limit.
        on_received: Called when a file has been received or has failed.
    """

    def __init__(
        self,
        call: Call,
        output: Output,
        folder: str | None,
        limit: int | None,
        on_received: Callable[[], object],
    ) -> None:
        self._call = call
        self._output = output
        self._notify_received = on_received
        self._sender = FileSender(call)
        self._receiver: FileReceiver | None = None
        self.receiving = False
        self.failed = False
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
            self._receiver = FileReceiver(
                call, folder, maximum_total=limit, on_progress=self._on_receiving
            )
        self._receive_reporter = ProgressReporter(output, "receiving", "received")

    def handle_message(self, message: str | bytes) -> bool:
        """Handle a message of the file protocol; return False for any other message."""
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
        """Send files one after the other; a note reports each that the peer refuses.

        Raises:
            CallClosedError: The call ended before all were sent.
        """
        for path in paths:
            try:
                reporter = ProgressReporter(self._output, "sending", "sent", reports_failures=False)
                self._sender.send(path, on_progress=reporter, timeout=timeout)
            except (FileTransferError, OSError) as error:
                # A timeout is an OSError as well: a peer without file transfer does not answer.
                self.failed = True
                self._output.note(f"{path} was not sent: {error}")
                self._output.event("file", state="failed", name=path, reason=str(error))

    def close(self) -> None:
        """Close after the call has ended; the received part of an unfinished file is kept."""
        self._sender.close()
        if self._receiver is not None:
            self._receiver.close()

    def _on_receiving(self, progress: FileProgress) -> None:
        self._receive_reporter(progress)
        self.receiving = progress.state in ("begun", "moving")
        if progress.state == "failed":
            self.failed = True
        if not self.receiving:
            self._notify_received()


class ProgressReporter:
    """Prints the progress of one file after the other."""

    def __init__(
        self, output: Output, present: str, past: str, *, reports_failures: bool = True
    ) -> None:
        self._output = output
        self._present = present
        self._past = past
        self._reports_failures = reports_failures
        self._begun_at = self._reported_at = monotonic()
        self._resumed_at = 0

    def __call__(self, progress: FileProgress) -> None:
        now = monotonic()
        if progress.state == "begun":
            self._begun_at = self._reported_at = now
            self._resumed_at = progress.moved
            self._report_begun(progress)
        elif progress.state == "moving":
            if now - self._reported_at >= (
                JSON_PROGRESS_SECONDS if self._output.json else REDRAW_SECONDS
            ):
                self._reported_at = now
                self._report_moving(progress, now - self._begun_at)
        elif progress.state == "done" or self._reports_failures:
            self._report_end(progress, now - self._begun_at)

    def _report_begun(self, progress: FileProgress) -> None:
        resumed = f", going on at {format_size(progress.moved)}" if progress.moved else ""
        self._output.note(
            f"{self._present} {progress.name} ({format_size(progress.size)}{resumed}) ..."
        )
        self._event(progress)

    def _report_moving(self, progress: FileProgress, seconds: float) -> None:
        part = progress.moved / max(1, progress.size)
        rate = (progress.moved - self._resumed_at) / max(seconds, 1e-6)
        seconds_left = (progress.size - progress.moved) / max(rate, 1.0)
        bar = f"{'=' * int(BAR_CHARACTERS * part):{BAR_CHARACTERS}}"
        self._output.progress(
            f"{progress.name} [{bar}] {100 * part:3.0f} %  {format_size(rate)}/s"
            f"  {int(seconds_left) // 60}:{int(seconds_left) % 60:02} left"
        )
        self._event(progress)

    def _report_end(self, progress: FileProgress, seconds: float) -> None:
        if progress.state == "done":
            rate = format_size((progress.size - self._resumed_at) / max(seconds, 1e-6))
            size = format_size(progress.size)
            where = f" as {progress.path}" if progress.path is not None else ""
            self._output.note(
                f"{self._past} {progress.name}{where}: {size} in {seconds:.2f} s"
                f" ({rate}/s), SHA-256 checked"
            )
        else:
            self._output.note(f"{progress.name} was not {self._past}: {progress.reason}")
        self._event(progress)

    def _event(self, progress: FileProgress) -> None:
        members: dict[str, object] = {
            "direction": self._present,
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
