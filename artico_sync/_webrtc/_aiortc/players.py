"""aiortc's `MediaPlayer`, whose tracks several threads may stop; any thread.

Lock order: a player's lock is held while its thread ends; the loop thread only tries to take it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

from aiortc.mediastreams import MediaStreamTrack


class _Stop:
    """What a player does when one of its tracks is stopped, for one thread at a time.

    With the last one it waits for the player's thread, and closes the file: done by two at once,
    that ends the interpreter. A track that has come to its end is stopped on the loop, which does
    not wait for others.
    """

    def __init__(self, stop: Callable[[MediaStreamTrack], None]) -> None:
        self._stop = stop
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
            self._stop(track)
        finally:
            self._lock.release()

    def _wait_and_stop(self, track: MediaStreamTrack) -> None:
        with self._lock:
            self._stop(track)


def make_stoppable(track: MediaStreamTrack) -> bool:
    """Let any thread stop a track of a `MediaPlayer`. False: it is another track, or stopped."""
    contrib = sys.modules.get("aiortc.contrib.media")
    if contrib is None or not isinstance(track, contrib.PlayerStreamTrack):
        return False
    player: Any = track._player
    if player is None:
        return False
    # In one step, for threads that do this at once.
    vars(player).setdefault("_stop", _Stop(player._stop))
    return True
