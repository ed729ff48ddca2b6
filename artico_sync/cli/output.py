"""The output of the command line: results on stdout, notes on stderr, JSON lines, exit status.

Called from any thread.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import threading
import unicodedata
from enum import IntEnum
from typing import Any, TextIO

from artico_sync.errors import (
    ArticoError,
    ArticoTimeoutError,
    CallClosedError,
    CallRejectedError,
    MessageTooLargeError,
    PeerUnavailableError,
    SignalingError,
)

# Controls that JSON leaves unescaped.
_HIGH_CONTROLS = re.compile("[\x7f-\x9f]")


class ExitStatus(IntEnum):
    """Exit statuses, from which a shell script learns what happened."""

    OK = 0
    ERROR = 1
    USAGE = 2
    SIGNALING = 3
    UNAVAILABLE = 4
    REJECTED = 5
    FAILED = 6
    TIMEOUT = 7
    UNDELIVERED = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


#: Shown by `--help`.
MEANINGS = """\
exit status:
  0    all went well
  1    something else went wrong: a port is taken, a step of the demo failed
  2    the command line is wrong
  3    the signaling server cannot be reached or refuses (the id is taken, say)
  4    no peer with that id is connected to the server
  5    the peer rejected the call
  6    the connection could not be made, or was lost
  7    it took longer than --timeout
  8    not everything could be delivered: the peer hung up early, a line was too long
  130  Ctrl-C; 128 and the signal's number for other signals
  141  the program that read the output has ended
"""


def status_of(error: BaseException) -> ExitStatus:
    """Return the exit status for an error."""
    for kind, status in (
        (PeerUnavailableError, ExitStatus.UNAVAILABLE),
        (CallRejectedError, ExitStatus.REJECTED),
        (CallClosedError, ExitStatus.FAILED),
        (MessageTooLargeError, ExitStatus.UNDELIVERED),
        (SignalingError, ExitStatus.SIGNALING),
        (ArticoTimeoutError, ExitStatus.TIMEOUT),
    ):
        if isinstance(error, kind):
            return status
    return ExitStatus.ERROR


class Output:
    """Writes to the standard streams, line by line, without buffering.

    Args:
        json_lines: Write JSON objects to stdout, one per line, and no notes.
        quiet: Write no notes.
    """

    def __init__(self, *, json_lines: bool = False, quiet: bool = False) -> None:
        self.json = json_lines
        self.notes = not quiet and not json_lines
        self.live = self.notes and sys.stderr.isatty()
        self._escapes_messages = sys.stdout.isatty() and not json_lines
        # Held while one line is written; no other lock is taken under it.
        self._lock = threading.Lock()
        self._line_unfinished = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def _write_line(self, stream: TextIO, text: str) -> None:
        with self._lock:
            if self._line_unfinished:
                sys.stderr.write("\r\x1b[K")
                self._line_unfinished = False
            stream.write(f"{text}\n")
            stream.flush()

    def note(self, text: str) -> None:
        """Print a note on progress, on one line even if it quotes the peer."""
        if self.notes:
            self._write_line(sys.stderr, one_line(text))

    def progress(self, text: str) -> None:
        """Show progress on a line that the next one replaces; only on a terminal."""
        if self.live:
            with self._lock:
                sys.stderr.write(f"\r{one_line(text)}\x1b[K")
                sys.stderr.flush()
                self._line_unfinished = True

    def end_line(self) -> None:
        """Move the cursor to the beginning of a line."""
        if self.live:
            with self._lock:
                sys.stderr.write("\n")
                self._line_unfinished = False

    def result(self, text: str) -> None:
        """Print a result of the command."""
        if not self.json:
            self._write_line(sys.stdout, text)

    def event(self, name: str, /, **members: Any) -> None:
        """Write one JSON object, in JSON mode only."""
        if self.json:
            text = json.dumps({"event": name, **members}, ensure_ascii=False)
            # json.dumps escapes only the controls below U+0020.
            escaped = _HIGH_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
            self._write_line(sys.stdout, escaped)

    def print_message(self, message: str | bytes) -> None:
        """Print a message of the peer."""
        if self.json:
            if isinstance(message, str):
                self.event("data", data=message)
            else:
                self.event("data", base64=base64.b64encode(message).decode("ascii"))
        elif isinstance(message, str):
            text = _escape_controls(message) if self._escapes_messages else message
            self._write_line(sys.stdout, text)
        else:
            self.note(f"(a binary message of {len(message)} bytes; --json shows it)")

    def error(self, error: Exception, status: ExitStatus) -> None:
        """Print an error on one line, even with --quiet."""
        text = error.message if isinstance(error, ArticoError) else str(error)
        self.event("error", error=type(error).__name__, message=text, status=int(status))
        if not self.json:
            self._write_line(sys.stderr, f"artico-sync: {one_line(text)}")

    def flush(self) -> None:
        """Flush stdout.

        Raises:
            BrokenPipeError: The reader has closed the pipe.
        """
        sys.stdout.flush()


def one_line(text: str) -> str:
    """Return a text with its line breaks and other control characters escaped."""
    # A line break in the peer's text could imitate a note of the program.
    return _escape_controls(text).replace("\n", "\\x0a")


def _escape_controls(text: str) -> str:
    # Escape sequences from a peer could control the terminal.
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) != "Cc" else f"\\x{ord(c):02x}" for c in text
    )


def uses_color(stream: TextIO) -> bool:
    """Return True if output to a stream is colored; see https://no-color.org."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def format_size(number: float) -> str:
    """Return a number of bytes in the unit that makes it short."""
    for unit in ("bytes", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"
