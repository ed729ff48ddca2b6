"""`--play` and `--record` of a chat: a file for the peer, the peer in a file; two threads."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync.call import Call
from artico_sync.cli.exit_status import ExitStatus
from artico_sync.cli.output import Output
from artico_sync.errors import ArticoTimeoutError, MediaError

if TYPE_CHECKING:
    from artico_sync.media import MediaStream, Recorder
    from artico_sync.media.remote import RemoteMediaStream

# Seconds between two looks at whether the file has been played, and what is on its way
# then still takes: nobody acknowledges pictures and sounds.
LOOK = 0.1
TAIL = 0.5
# Seconds to write what is not written yet at the end.
WRITING = 20.0


class Media:
    """What a chat plays and records.

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
        """Share the file, and record what the peer shares."""
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
        """Block until the file has been played.

        Args:
            wait: Waits that many seconds for the end of the call, and returns whether it came.
        """
        if self._stream is None:
            return
        while not self._ended(self._stream):
            if wait(LOOK):
                return
        wait(TAIL)

    def _ended(self, stream: MediaStream) -> bool:
        return not self._loop and all(getattr(track, "ended", True) for track in stream.tracks)

    def close(self) -> bool:
        """Stop playing, and write the recording to its end; whether there is what was asked for."""
        if self._stream is not None:
            self._stream.stop()
        if self._path is None:
            return True
        try:
            if self._recorder is None:
                raise MediaError("The peer shared nothing that could be recorded.")
            self._recorder.stop(WRITING)
        except (MediaError, ArticoTimeoutError) as error:
            self._output.error(error, ExitStatus.ERROR)
            return False
        self._output.note(f"recorded {self._path}")
        self._output.event("recorded", path=self._path)
        return True
