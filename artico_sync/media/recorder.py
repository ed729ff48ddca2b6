"""Recording a remote stream to a file; user threads."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync._bridge.portal import assert_not_loop_thread
from artico_sync._bridge.streams import FrameReader
from artico_sync._bridge.threads import ForkGuard
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._not_copyable import NotCopyable
from artico_sync.errors import ForkError, MediaError

if TYPE_CHECKING:
    from artico_sync.media.remote import RemoteTrack


class Recorder(NotCopyable):
    """A recording under way, started by `stream.record(path)`; `stop()` or the end of `with` ends
    it.

    Tracks that the stream gets later are recorded as well, in their place. Every method may be
    called from any thread. A recording that is not stopped is finished at the program's exit.

    Example:
        >>> stream = call.wait_for("stream", timeout=5)
        >>> with stream.record("visit.mp4") as recorder:
        ...     frame = stream.tracks[0].recv(timeout=5)    # or whatever there is to wait for
        >>> recorder.path, recorder.stopped
        ('visit.mp4', True)

    Raises:
        ValueError: The suffix of the path is of no known format.
        MediaError: The file cannot be written.
    """

    _copy_hint = "`stream.record(path)` starts another recording."

    def __init__(self, path: str, forget: Callable[[Recorder], None]) -> None:
        from artico_sync.media.recording import AUDIO_BACKLOG, VIDEO_BACKLOG, Recording

        self._recording = Recording(path)
        self._limits = {"audio": AUDIO_BACKLOG, "video": VIDEO_BACKLOG}
        self._forget = forget
        self._guard = ForkGuard("recording")
        self._lock = threading.Lock()
        self._finished = False
        # What was recorded is not lost when the program ends without `stop`.
        reference = weakref.ref(self)
        self._at_exit = lambda: _stop_at_exit(reference)
        atexit.register(self._at_exit)

    @property
    def path(self) -> str:
        """The file being written; complete after `stop`."""
        return self._recording.path

    @property
    def stopped(self) -> bool:
        """Whether the recording is over."""
        return self._finished

    def _add(self, track: RemoteTrack) -> None:
        """Record one more track of the stream."""
        if not self._finished:
            reader = FrameReader(
                track._track, track._post, limit=self._limits[track.kind], idle=None
            )
            self._recording.add(track.kind, reader)

    def stop(self, timeout: float | None = None) -> None:
        """End the recording and write the file; harmless twice.

        Example:
            >>> stream = call.wait_for("stream", timeout=5)
            >>> recorder = stream.record("visit.mp4")
            >>> frame = stream.tracks[0].recv(timeout=5)
            >>> recorder.stop()
            >>> recorder
            <Recorder visit.mp4 stopped>

        Args:
            timeout: Seconds to wait for what is not written yet; None for as long as it takes.

        Raises:
            MediaError: Something could not be recorded or written.
            ArticoTimeoutError: The time ran out; `stop` may be called again.
            ForkError: Started in another process.
            RuntimeError: Called on the library's loop thread.
        """
        self._guard.check()
        assert_not_loop_thread()
        deadline = Deadline(timeout)
        self._forget(self)
        # One thread writes the file; another one that comes meanwhile waits for it.
        with self._lock:
            if self._finished:
                return
            self._recording.finish(deadline)
            self._finished = True
        atexit.unregister(self._at_exit)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._finished else "recording"
        return f"<Recorder {os.path.basename(self.path)} {state}>"


def _stop_at_exit(reference: weakref.ref[Recorder]) -> None:
    recorder = reference()
    if recorder is not None:
        try:
            recorder.stop(timeout=2)
        except (MediaError, TimeoutError, ForkError):
            # Nobody is left to tell, and an exit must stay quiet; a child's is not the recording's.
            return
