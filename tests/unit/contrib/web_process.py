"""A web application in processes of its own, as it runs in production; test thread."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).parents[3]
START_LIMIT = 30.0
STOP_LIMIT = 40.0
REQUEST_LIMIT = 30.0


class WebProcess:
    """A web server's process group, its output collected, until the block ends.

    Args:
        command: What to run, after the interpreter.
        folder: Where to run it.
        environment: Variables to add.
        listening: Found in the output, with the URL, when the server listens.
    """

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str], listening: str
    ) -> None:
        self._listening = re.compile(listening)
        self._lines: list[str] = []
        self._found = threading.Event()
        self.url = ""
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A group of its own, so that nothing of it outlives the test.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="output of a web server")
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._lines.append(line)
                found = self._listening.search(line)
                if found is not None and not self.url:
                    self.url = found.group(1).rstrip("/")
                    self._found.set()
        self._found.set()

    @property
    def output(self) -> str:
        """Return the output so far."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> WebProcess:
        if not self._found.wait(START_LIMIT) or not self.url:
            self.__exit__(None, None, None)
            raise AssertionError(f"the web server does not listen:\n{self.output}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has ended, and all of its workers with it.
            pass
        self._process.wait(STOP_LIMIT)
        self._reader.join(STOP_LIMIT)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Ask it to end; its exit status, and the seconds that took."""
        start = monotonic()
        self._process.send_signal(number)
        status = self._process.wait(STOP_LIMIT)
        return status, monotonic() - start

    def wait(self) -> int:
        """Its exit status, when it ends by itself."""
        return self._process.wait(START_LIMIT)

    def get(self, path: str) -> str:
        """The body of a page."""
        with urllib.request.urlopen(self.url + path, timeout=REQUEST_LIMIT) as response:
            body: bytes = response.read()
            return body.decode()

    def post(self, path: str, values: dict[str, Any]) -> tuple[int, Any]:
        """The status and the JSON that come back."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(values).encode(),
            {"Content-Type": "application/json"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_LIMIT) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)
