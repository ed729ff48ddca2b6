"""`artico-sync call` and `answer`: send lines of stdin, print the peer's messages.

The main thread receives, a thread of the chat sends.
"""

from __future__ import annotations

import argparse
import codecs
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from artico_sync.call import Call
from artico_sync.cli.connection import accept, connected, place
from artico_sync.cli.files import Files
from artico_sync.cli.output import ExitStatus, Output
from artico_sync.errors import (
    ArticoTimeoutError,
    CallClosedError,
    MediaError,
    MessageTooLargeError,
)

if TYPE_CHECKING:
    from artico_sync.media import MediaStream, Recorder
    from artico_sync.media.remote import RemoteMediaStream

STDIN_CHUNK_BYTES = 64 * 1024
# Interval of checks if the file has been played to its end.
PLAYED_CHECK_SECONDS = 0.1
# Time for the last packets to arrive: media is not acknowledged.
MEDIA_TAIL_SECONDS = 0.5
# Limit for writing the end of a recording.
RECORDING_STOP_SECONDS = 20.0


def call(options: argparse.Namespace, output: Output) -> int:
    """Call a peer and chat; return the exit status."""
    media = ChatMedia(options, output)
    with connected(options, output) as rtco:
        return Chat(place(rtco, options, output), media, options, output).run()


def answer(options: argparse.Namespace, output: Output) -> int:
    """Wait for a call, answer it and chat; return the exit status."""
    media = ChatMedia(options, output)
    with connected(options, output) as rtco:
        return Chat(accept(rtco, options, output), media, options, output).run()


class Chat:
    """One open call: the main thread prints messages, another sends stdin and then hangs up.

    Large because one call has two directions, each with its limits and its outcome.
    """

    def __init__(
        self, call: Call, media: ChatMedia, options: argparse.Namespace, output: Output
    ) -> None:
        self._call = call
        self._media = media
        self._output = output
        self._timeout: float = 30.0 if options.timeout is None else options.timeout
        self._max_silence: float | None = options.wait or None
        self._wanted_replies: int | None = options.replies
        self._paths: list[str] = options.send_file or []
        sends = bool(options.send_file or options.play)
        reads = not (options.no_input or sends or options.receive_to or options.record)
        self._lines: Iterable[str] = input_lines() if reads else ()
        self._only_listens = not (reads or sends or options.wait or options.replies)
        self._condition = threading.Condition()
        self._replies = 0
        self._activity = 0
        self._over = False
        self._reading = reads
        self._undelivered = False
        self._failure: Exception | None = None
        self._files = Files(
            call, output, options.receive_to, options.receive_limit, self._on_activity
        )
        self._sender = threading.Thread(
            target=self._send_all, name="artico_sync-input", daemon=True
        )

    def run(self) -> ExitStatus:
        """Chat until either side hangs up."""
        self._media.start(self._call)
        self._sender.start()
        try:
            self._receive()
        finally:
            self._files.close()
            recorded = self._media.close()
        self._join_sender()
        if self._failure is not None:
            raise self._failure
        return self._report_end() or (ExitStatus.OK if recorded else ExitStatus.ERROR)

    def _receive(self) -> None:
        for message in self._call:
            if not self._files.handle_message(message):
                self._output.print_message(message)
                self._replies += 1
            self._on_activity()

    def _join_sender(self) -> None:
        with self._condition:
            self._over = True
            self._condition.notify_all()
            # A sender that blocks on stdin cannot be woken, and has nothing to deliver.
            blocked = self._reading
        if not blocked:
            self._sender.join()

    def _on_activity(self) -> None:
        with self._condition:
            self._activity += 1
            self._condition.notify_all()

    def _report_end(self) -> ExitStatus:
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
        if self._wanted_replies is not None and self._replies < self._wanted_replies:
            self._output.note(f"only {self._replies} of {self._wanted_replies} replies came")
            return ExitStatus.TIMEOUT if reason == "hangup" else ExitStatus.UNDELIVERED
        return ExitStatus.OK

    # Sender thread

    def _send_all(self) -> None:
        try:
            for line in self._lines:
                self._set_reading(False)
                self._send_line(line)
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
            # Raised by the main thread, which receives until the call ends.
            self._failure = error
            self._call.hangup(0)

    def _wait_over(self, seconds: float) -> bool:
        with self._condition:
            return self._condition.wait_for(lambda: self._over, seconds)

    def _set_reading(self, reading: bool) -> None:
        with self._condition:
            self._reading = reading

    def _send_line(self, line: str) -> None:
        try:
            self._call.send(line)
        except MessageTooLargeError as error:
            self._undelivered = True
            self._output.error(error, ExitStatus.UNDELIVERED)

    def _wait_for_replies(self) -> None:
        with self._condition:
            if self._only_listens:
                self._condition.wait_for(lambda: self._over)
            elif self._max_silence is not None or self._wanted_replies is not None:
                self._wait_for_silence()
            # A file transfer is not interrupted.
            self._condition.wait_for(lambda: self._over or not self._files.receiving)

    def _wait_for_silence(self) -> None:
        while not self._over and (
            self._wanted_replies is None or self._replies < self._wanted_replies
        ):
            before = self._activity
            if not self._condition.wait_for(
                lambda: self._over or self._activity != before, self._max_silence
            ):
                return


class ChatMedia:
    """The media of a chat: a file played to the peer (`--play`), the peer recorded (`--record`).

    Raises:
        MediaError: The file to play cannot be played, or the one to record cannot be written.
    """

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self._output = output
        self._name: str | None = options.play
        self._path: str | None = options.record
        self._loop: bool = options.loop
        self._stream: MediaStream | None = None
        self._recorder: Recorder | None = None
        if self._path is not None:
            from artico_sync.media.streams import check_recording_path

            check_recording_path(self._path)
        if self._name is not None:
            # Imported only here: it takes half a second.
            from artico_sync.media import MediaStream

            self._stream = MediaStream.from_file(self._name, loop=options.loop)

    def start(self, call: Call) -> None:
        """Share the file, and record the first stream of the peer."""
        if self._path is not None:
            call.on("stream", self._record)
        if self._stream is not None:
            call.add_stream(self._stream)
            self._output.note(f"playing {self._name}")
            self._output.event("playing", path=self._name)

    def _record(self, stream: RemoteMediaStream) -> None:
        assert self._path is not None
        if self._recorder is not None:
            self._output.note("another stream of the peer is not recorded")
            return
        self._recorder = stream.record(self._path)
        self._output.note(f"recording to {self._path}")
        self._output.event("recording", path=self._path)

    def wait_played(self, wait: Callable[[float], bool]) -> None:
        """Wait until the file has been played or the call has ended.

        Args:
            wait: Waits at most the given seconds for the end of the call; returns True if it ended.
        """
        if self._stream is None:
            return
        while not self._ended(self._stream):
            if wait(PLAYED_CHECK_SECONDS):
                return
        wait(MEDIA_TAIL_SECONDS)

    def _ended(self, stream: MediaStream) -> bool:
        return not self._loop and all(getattr(track, "ended", True) for track in stream.tracks)

    def close(self) -> bool:
        """Stop playing and finish the recording; return False if there is none to finish."""
        if self._stream is not None:
            self._stream.stop()
        if self._path is None:
            return True
        try:
            if self._recorder is None:
                raise MediaError("The peer shared nothing that could be recorded.")
            self._recorder.stop(RECORDING_STOP_SECONDS)
        except (MediaError, ArticoTimeoutError) as error:
            self._output.error(error, ExitStatus.ERROR)
            return False
        self._output.note(f"recorded {self._path}")
        self._output.event("recorded", path=self._path)
        return True


def input_lines() -> Iterator[str]:
    """Yield the lines of stdin as they come, with U+FFFD in place of undecodable bytes."""
    if sys.stdin is None:
        return
    # sys.stdin is not used: a daemon thread blocked in its reader would hold a lock that the
    # interpreter needs to exit.
    descriptor = sys.stdin.fileno()
    decoder = codecs.getincrementaldecoder(sys.stdin.encoding)(errors="replace")
    unfinished: list[str] = []
    while chunk := os.read(descriptor, STDIN_CHUNK_BYTES):
        first, *rest = decoder.decode(chunk).split("\n")
        unfinished.append(first)
        for text in rest:
            yield "".join(unfinished).removesuffix("\r")
            unfinished = [text]
    last = "".join(unfinished) + decoder.decode(b"", final=True)
    if last:
        yield last
