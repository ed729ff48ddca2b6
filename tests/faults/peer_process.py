"""A peer in a process of its own, which a test may stop, continue and kill.

Run as a program, it answers calls, or places one, and reports events on its standard output.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from artico_sync import Artico, Call
from tests.conftest import RTC_CONFIG

ROOT = Path(__file__).parent.parent.parent
LIMIT = 30.0


class PeerProcess:
    """Use as a context manager; killed at the end.

    Args:
        url: The URL of the signaling server.
        id: The peer's id.
        target: The peer it calls; without one it answers.
        prefix: Put before the command, to run it in another network namespace.
        answer: Or let who calls ring.
        options: For its `Artico`.
    """

    def __init__(
        self,
        url: str,
        id: str,
        target: str | None = None,
        *,
        prefix: tuple[str, ...] = (),
        answer: bool = True,
        **options: Any,
    ) -> None:
        arguments = json.dumps(
            {"url": url, "id": id, "target": target, "answer": answer, "options": options}
        )
        self._command = [*prefix, sys.executable, "-m", "tests.faults.peer_process", arguments]
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()

    def __enter__(self) -> PeerProcess:
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )
        self._reader = threading.Thread(target=self._read, name="peer-process", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def wait_for(self, event: str, timeout: float = LIMIT) -> Any:
        """Block until the peer reports `event`; return the argument of the event."""
        while True:
            said = self._said.get(timeout=timeout)
            if said["event"] == event:
                return said["argument"]

    def order(self, order: str, argument: Any = None) -> None:
        """Order the peer to `send` a message, `flood` with [count, size], `hangup`, or `close`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"order": order, "argument": argument}) + "\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """Kill the process as the out-of-memory killer does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the process, as if the machine went to sleep."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


def say(event: str, argument: Any = None) -> None:
    sys.stdout.write(json.dumps({"event": event, "argument": argument}) + "\n")
    sys.stdout.flush()


def follow(call: Call) -> None:
    call.on("data", lambda data: say("data", data))
    call.on("close", lambda: say("close", call.close_reason))
    call.on("open", lambda: say("open"))


def main(url: str, id: str, target: str | None, answer: bool, options: dict[str, Any]) -> None:
    with Artico(url, id=id, rtc_config=dict(RTC_CONFIG), **options) as rtco:
        say("ready")
        call = rtco.wait_for("call") if target is None else rtco.call(target)
        follow(call)
        if target is None:
            say("ringing")
            if answer:
                call.answer()
        for line in sys.stdin:
            order = json.loads(line)
            if order["order"] == "send":
                call.send(order["argument"])
            elif order["order"] == "flood":
                count, size = order["argument"]
                for number in range(count):
                    call.send(f"{number} ".ljust(size, "x"))
                say("flooded")
            elif order["order"] == "hangup":
                call.hangup()
            elif order["order"] == "stats":
                stats = call.stats()
                say("stats", {name: stats[name] for name in ("local", "remote")})
            elif order["order"] == "close":
                return


if __name__ == "__main__":
    if os.environ.get("ARTICO_SYNC_TEST_LOG"):
        logging.basicConfig(level=logging.DEBUG)
    main(**json.loads(sys.argv[1]))
