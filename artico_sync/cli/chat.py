"""`artico-sync call` and `answer`: stdin goes out, what the peer says comes in; two threads."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterable

from artico_sync.call import Call
from artico_sync.cli.connection import accept, connected, place
from artico_sync.cli.exit_status import ExitStatus
from artico_sync.cli.input_lines import input_lines
from artico_sync.cli.output import Output
from artico_sync.errors import ArticoTimeoutError, CallClosedError, MessageTooLargeError


def call(options: argparse.Namespace, output: Output) -> int:
    """Call a peer and chat; returns the exit status."""
    with connected(options, output) as rtco:
        return Chat(place(rtco, options, output), options, output).run()


def answer(options: argparse.Namespace, output: Output) -> int:
    """Wait for a call, answer it and chat; returns the exit status."""
    with connected(options, output) as rtco:
        return Chat(accept(rtco, options, output), options, output).run()


class Chat:
    """One open call: the main thread prints what comes, another sends stdin and then hangs up."""

    def __init__(self, call: Call, options: argparse.Namespace, output: Output) -> None:
        self._call = call
        self._output = output
        self._silence: float | None = options.wait or None
        self._wanted: int | None = options.replies
        self._lines: Iterable[str] = () if options.no_input else input_lines()
        self._only_listens = options.no_input and not options.wait and not options.replies
        self._condition = threading.Condition()
        self._heard = 0
        self._over = False
        self._reading = not options.no_input
        self._undelivered = False
        self._sender = threading.Thread(
            target=self._send_input, name="artico_sync-input", daemon=True
        )

    def run(self) -> ExitStatus:
        """Chat until either side hangs up."""
        self._sender.start()
        for message in self._call:
            self._output.said(message)
            with self._condition:
                self._heard += 1
                self._condition.notify_all()
        with self._condition:
            self._over = True
            self._condition.notify_all()
            # A sender that waits for more input cannot be woken, and has nothing to deliver.
            ending = not self._reading
        if ending:
            self._sender.join()
        return self._farewell()

    def _farewell(self) -> ExitStatus:
        reason = self._call.close_reason
        texts = {"hangup": "hung up", "remote": f"{self._call.target} hung up"}
        self._output.note(
            texts.get(reason or "", f"the connection to {self._call.target} was lost")
        )
        self._output.event("close", session=self._call.session, reason=reason)
        if self._undelivered:
            self._output.note("not everything could be delivered")
            return ExitStatus.UNDELIVERED
        if reason not in texts:
            return ExitStatus.FAILED
        if self._wanted is not None and self._heard < self._wanted:
            self._output.note(f"only {self._heard} of {self._wanted} replies came")
            return ExitStatus.TIMEOUT if reason == "hangup" else ExitStatus.UNDELIVERED
        return ExitStatus.OK

    # the sender's side

    def _send_input(self) -> None:
        try:
            for line in self._lines:
                self._set_reading(False)
                self._send(line)
                self._set_reading(True)
            self._set_reading(False)
            self._call.flush()
            self._wait_for_replies()
            self._call.hangup()
        except (CallClosedError, ArticoTimeoutError):
            self._undelivered = True

    def _set_reading(self, reading: bool) -> None:
        with self._condition:
            self._reading = reading

    def _send(self, line: str) -> None:
        try:
            self._call.send(line)
        except MessageTooLargeError as error:
            self._undelivered = True
            self._output.error(error, ExitStatus.UNDELIVERED)

    def _wait_for_replies(self) -> None:
        with self._condition:
            if self._only_listens:
                self._condition.wait_for(lambda: self._over)
            elif self._silence is not None or self._wanted is not None:
                while not self._over and (self._wanted is None or self._heard < self._wanted):
                    heard = self._heard
                    if not self._condition.wait_for(
                        lambda: self._over or self._heard != heard, self._silence
                    ):
                        break
