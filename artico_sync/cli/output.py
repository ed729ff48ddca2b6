"""What the command line prints: results on stdout, notes on stderr, or JSON lines; any thread."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import sys
import threading
import unicodedata
from typing import Any, TextIO

from artico_sync.cli.exit_status import ExitStatus
from artico_sync.errors import ArticoError

_LATE_CONTROLS = re.compile("[\x7f-\x9f]")


class Output:
    """Writes to the standard streams, a line at a time, each at once.

    Args:
        json_lines: Write one JSON object a line to stdout, and no notes.
        quiet: Write no notes.
    """

    def __init__(self, *, json_lines: bool = False, quiet: bool = False) -> None:
        self.json = json_lines
        self.notes = not quiet and not json_lines
        self.live = self.notes and sys.stderr.isatty()
        self._visible_controls = sys.stdout.isatty() and not json_lines
        # Held for the writing of one line; nothing else happens under it.
        self._lock = threading.Lock()
        self._unfinished = False
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def _write(self, stream: TextIO, text: str) -> None:
        with self._lock:
            if self._unfinished:
                sys.stderr.write("\r\x1b[K")
                self._unfinished = False
            stream.write(f"{text}\n")
            stream.flush()

    def note(self, text: str) -> None:
        """Tell the user how things go, on one line whatever a stranger's words in it hold."""
        if self.notes:
            self._write(sys.stderr, one_line(text))

    def progress(self, text: str) -> None:
        """Show how far something is, on a line that the next one replaces; on a terminal only."""
        if self.live:
            with self._lock:
                sys.stderr.write(f"\r{one_line(text)}\x1b[K")
                sys.stderr.flush()
                self._unfinished = True

    def end_line(self) -> None:
        """Leave the cursor at the beginning of a line."""
        if self.live:
            with self._lock:
                sys.stderr.write("\n")
                self._unfinished = False

    def result(self, text: str) -> None:
        """Print what the user asked for."""
        if not self.json:
            self._write(sys.stdout, text)

    def event(self, name: str, /, **members: Any) -> None:
        """Write one JSON object, in JSON mode only."""
        if self.json:
            text = json.dumps({"event": name, **members}, ensure_ascii=False)
            # JSON itself escapes only the controls below the blank.
            self._write(sys.stdout, _LATE_CONTROLS.sub(lambda one: f"\\u{ord(one[0]):04x}", text))

    def said(self, message: str | bytes) -> None:
        """Print what the peer said."""
        if self.json:
            if isinstance(message, str):
                self.event("data", data=message)
            else:
                self.event("data", base64=base64.b64encode(message).decode("ascii"))
        elif isinstance(message, str):
            text = _harmless(message) if self._visible_controls else message
            self._write(sys.stdout, text)
        else:
            self.note(f"(a binary message of {len(message)} bytes; --json shows it)")

    def error(self, error: Exception, status: ExitStatus) -> None:
        """Tell of an error, on one line, even when quiet."""
        text = error.message if isinstance(error, ArticoError) else str(error)
        self.event("error", error=type(error).__name__, message=text, status=int(status))
        if not self.json:
            self._write(sys.stderr, f"artico-sync: {one_line(text)}")

    def flush(self) -> None:
        """Have what was printed on its way.

        Raises:
            BrokenPipeError: Nobody reads it.
        """
        sys.stdout.flush()


def one_line(text: str) -> str:
    """A text on one line, whatever a stranger's words in it hold."""
    # A line break in a stranger's words would let them write notes of their own.
    return _harmless(text).replace("\n", "\\x0a")


def _harmless(text: str) -> str:
    # On a terminal a stranger's escape sequences could do worse than look odd.
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) != "Cc" else f"\\x{ord(c):02x}" for c in text
    )


def colours(stream: TextIO) -> bool:
    """Whether to colour what goes to a stream; see https://no-color.org."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
