"""Tracks of aiortc's own, which know of one thread only; any thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack

# Guards the other, and is held for nothing else.
_guard = threading.Lock()
_locks: WeakKeyDictionary[object, threading.RLock] = WeakKeyDictionary()


def stop_track(track: MediaStreamTrack) -> None:
    """Stop a track, one of a player's at a time: aiortc would close the file twice."""
    from artico_sync.engine.rtc.players import player_of

    player = player_of(track)
    if player is None:
        track.stop()
        return
    with _guard:
        lock = _locks.setdefault(player, threading.RLock())
    with lock:
        track.stop()
