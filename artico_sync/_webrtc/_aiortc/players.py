"""Makes stopping the tracks of aiortc's `MediaPlayer` thread-safe.

Unlike the rest of `_webrtc`, this module is called from any thread. Lock order: a player's lock is
held while its thread ends; the loop thread only tries to acquire it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

from aiortc.mediastreams import MediaStreamTrack


class _SerializedStop:
    """A replacement for a player's stop method that runs in one thread at a time.

    Stopping the last track of a player joins its thread and closes the file, which crashes the
    interpreter if two threads do it at once. The loop thread, which stops a track that has ended,
    does not wait for the lock: if another thread holds it, an executor thread stops the track.
    """

    def __init__(self, stop_track: Callable[[MediaStreamTrack], None]) -> None:
        self._stop_track = stop_track
        self._lock = threading.Lock()

    def __call__(self, track: MediaStreamTrack) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._wait_and_stop(track)
            return
        if not self._lock.acquire(blocking=False):
            loop.run_in_executor(None, self._wait_and_stop, track)
            return
        try:
            self._stop_track(track)
        finally:
            self._lock.release()

    def _wait_and_stop(self, track: MediaStreamTrack) -> None:
        with self._lock:
            self._stop_track(track)


def serialize_player_stop(track: MediaStreamTrack) -> bool:
    """Let any thread stop a track of a `MediaPlayer`.

    Return False if the track does not belong to a `MediaPlayer`, or is stopped already.
    """
    contrib = sys.modules.get("aiortc.contrib.media")
    if contrib is None or not isinstance(track, contrib.PlayerStreamTrack):
        return False
    player: Any = track._player
    if player is None:
        return False
    # setdefault() is atomic: several threads may get here at once.
    vars(player).setdefault("_stop", _SerializedStop(player._stop))
    return True
