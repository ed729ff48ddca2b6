"""`artico-sync call` and `answer`: stdin goes out, what the peer says comes in; two threads."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterable

from artico_sync.call import Call
from artico_sync.cli.connection import accept, connected, place
from artico_sync.cli.exit_status import ExitStatus
from artico_sync.cli.files import Files
from artico_sync.cli.input_lines import input_lines
from artico_sync.cli.media import Media
from artico_sync.cli.output import Output
from artico_sync.errors import ArticoTimeoutError, CallClosedError, MessageTooLargeError


def call(options: argparse.Namespace, output: Output) -> int:
    """Call a peer and chat; returns the exit status."""
    media = Media(options, output)
    with connected(options, output) as rtco:
        return Chat(place(rtco, options, output), media, options, output).run()


def answer(options: argparse.Namespace, output: Output) -> int:
    """Wait for a call, answer it and chat; returns the exit status."""
    media = Media(options, output)
    with connected(options, output) as rtco:
        return Chat(accept(rtco, options, output), media, options, output).run()


class Chat:
    """One open call: the main thread prints what comes, another sends stdin and then hangs up."""

    def __init__(
        self, call: Call, media: Media, options: argparse.Namespace, output: Output
    ) -> None:
        self._call = call
        self._media = media
        self._output = output
        self._timeout: float = 30.0 if options.timeout is None else options.timeout
        self._silence: float | None = options.wait or None
        self._wanted: int | None = options.replies
        self._paths: list[str] = options.send_file or []
        sends = bool(options.send_file or options.play)
        reads = not (options.no_input or sends or options.receive_to or options.record)
        self._lines: Iterable[str] = input_lines() if reads else ()
        self._only_listens = not (reads or sends or options.wait or options.replies)
        self._condition = threading.Condition()
        self._heard = 0
        self._activity = 0
        self._over = False
        self._reading = reads
        self._undelivered = False
        self._failure: Exception | None = None
        self._files = Files(call, output, options.receive_to, options.receive_limit, self._notify)
        self._sender = threading.Thread(
            target=self._send_all, name="artico_sync-input", daemon=True
        )

    def run(self) -> ExitStatus:
        """Chat until either side hangs up."""
        self._media.start(self._call)
        self._sender.start()
        try:
            self._listen()
        finally:
            self._files.close()
            recorded = self._media.close()
        self._end_sender()
        if self._failure is not None:
            raise self._failure
        return self._farewell() or (ExitStatus.OK if recorded else ExitStatus.ERROR)

    def _listen(self) -> None:
        for message in self._call:
            if not self._files.take(message):
                self._output.said(message)
                self._heard += 1
            self._notify()

    def _end_sender(self) -> None:
        with self._condition:
            self._over = True
            self._condition.notify_all()
            # A sender that waits for more input cannot be woken, and has nothing to deliver.
            ending = not self._reading
        if ending:
            self._sender.join()

    def _notify(self) -> None:
        with self._condition:
            self._activity += 1
            self._condition.notify_all()

    def _farewell(self) -> ExitStatus:
        reason = self._call.close_reason
        texts = {"hangup": "hung up", "remote": f"{self._call.target} hung up"}
        self._output.note(
            texts.get(reason or "", f"the connection to {self._call.target} was lost")
        )
        self._output.event("close", session=self._call.session, reason=reason)
        if self._undelivered or self._files.failed:
            self._output.note("not everything could be delivered")
            return ExitStatus.UNDELIVERED
        if reason not in texts:
            return ExitStatus.FAILED
        if self._wanted is not None and self._heard < self._wanted:
            self._output.note(f"only {self._heard} of {self._wanted} replies came")
            return ExitStatus.TIMEOUT if reason == "hangup" else ExitStatus.UNDELIVERED
        return ExitStatus.OK

    # the sender's side

    def _send_all(self) -> None:
        try:
            for line in self._lines:
                self._set_reading(False)
                self._send(line)
                self._set_reading(True)
            self._set_reading(False)
            self._files.send(self._paths, self._timeout)
            self._media.wait_played(self._wait_over)
            self._call.flush()
            self._wait_for_replies()
            self._call.hangup()
        except (CallClosedError, ArticoTimeoutError):
            self._undelivered = True
        except Exception as error:
            # Raised again by the main thread, which would wait for ever without the hang-up.
            self._failure = error
            self._call.hangup(0)

    def _wait_over(self, seconds: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._over, seconds)

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
                self._wait_for_silence()
            # A file under way is not cut off.
            self._condition.wait_for(lambda: self._over or not self._files.receiving)

    def _wait_for_silence(self) -> None:
        while not self._over and (self._wanted is None or self._heard < self._wanted):
            before = self._activity
            if not self._condition.wait_for(
                lambda: self._over or self._activity != before, self._silence
            ):
                return
