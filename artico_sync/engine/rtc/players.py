"""The thread behind aiortc's `MediaPlayer`, of which aiortc itself shows nothing; any thread."""

from __future__ import annotations

import sys
import threading
from typing import Any

from aiortc.mediastreams import MediaStreamTrack


def player_of(track: MediaStreamTrack) -> Any:
    """The `MediaPlayer` a track belongs to; None for other tracks, and once it was stopped."""
    contrib = sys.modules.get("aiortc.contrib.media")
    if contrib is None or not isinstance(track, contrib.PlayerStreamTrack):
        return None
    return track._player


def end_thread(player: Any) -> threading.Thread | None:
    """Have the thread of a `MediaPlayer` end; it may be in a read still. None: there is none.

    The player's own way, to stop its tracks, closes the file as well, perhaps under another thread
    that stops them too.
    """
    thread: threading.Thread | None = getattr(player, "_MediaPlayer__thread")
    if thread is not None:
        getattr(player, "_MediaPlayer__thread_quit").set()
    return thread
