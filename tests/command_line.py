"""Runs the command line in a process of its own and reads its output."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO

from tests.conftest import TIME_UNIT

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 20.0 * TIME_UNIT


class Lines:
    """The lines a process has written to one stream so far."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._condition = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._seen = 0
        self._thread = threading.Thread(target=self._read, name="command-line-output")
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                with self._condition:
                    self._lines.append(line.decode().rstrip("\r\n"))
                    self._condition.notify_all()
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def wait_for(self, text: str) -> str:
        """Wait for the next line that contains `text`, and return it."""
        deadline = monotonic() + LIMIT
        with self._condition:
            while True:
                while self._seen < len(self._lines):
                    self._seen += 1
                    if text in self._lines[self._seen - 1]:
                        return self._lines[self._seen - 1]
                left = deadline - monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f"no line with {text!r} in {self._lines}")
                self._condition.wait(left)

    def all(self) -> list[str]:
        """Return all lines; the process must have ended."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()
        return list(self._lines)


class Command:
    """A running `python -m artico_sync ...`, or another program."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.process = process
        self.out = Lines(process.stdout)
        self.err = Lines(process.stderr)

    def type(self, text: str) -> None:
        """Write to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end_input(self) -> None:
        """Close its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self) -> int:
        """Wait for the end of the process; return its exit status."""
        return self.process.wait(LIMIT)

    def interrupt(self, number: int = signal.SIGINT) -> tuple[int, float]:
        """Send a signal; return the exit status and the seconds until the end."""
        begun = monotonic()
        self.process.send_signal(number)
        status = self.wait()
        return status, monotonic() - begun


@contextmanager
def running(
    arguments: list[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.PIPE,
) -> Iterator[Command]:
    """Run Python with these arguments; kill it at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
    )
    command = Command(process)
    try:
        yield command
    finally:
        process.kill()
        process.wait(LIMIT)
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
        command.out.all()
        command.err.all()


@contextmanager
def artico_sync(
    *arguments: str, url: str | None = None, stdin: int = subprocess.PIPE
) -> Iterator[Command]:
    """Run the command line with these arguments; `url` is passed in the environment."""
    environment = {} if url is None else {"ARTICO_URL": url}
    with running(
        ["-m", "artico_sync", *arguments], environment=environment, stdin=stdin
    ) as command:
        yield command


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal; yield the end of the test and the end of the program."""
    controller, terminal_end = pty.openpty()
    try:
        yield controller, terminal_end
    finally:
        os.close(controller)
        os.close(terminal_end)
