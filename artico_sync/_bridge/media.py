"""Frames and local tracks of the engine, as `artico_sync.media` uses them.

Importing it imports PyAV, which takes longer than all of this library: do so where frames are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from artico_sync._webrtc.media.raw_frames import (
    AUDIO_RATE,
    AUDIO_SAMPLES,
    AUDIO_SECONDS,
    AUDIO_TIME_BASE,
    VIDEO_RATE,
    VIDEO_TIME_BASE,
    audio_normalizer,
    bare_copy,
    black,
    converted,
    copy_audio,
    copy_video,
    padded,
    silence,
)

if TYPE_CHECKING:
    from aiortc.mediastreams import MediaStreamTrack

    from artico_sync._webrtc.media.fanout import FrameSource
    from artico_sync._webrtc.media.remote_track import ReceivedTrack

__all__ = [
    "AUDIO_RATE",
    "AUDIO_SAMPLES",
    "AUDIO_SECONDS",
    "AUDIO_TIME_BASE",
    "VIDEO_RATE",
    "VIDEO_TIME_BASE",
    "FrameSource",
    "ReceivedTrack",
    "audio_normalizer",
    "bare_copy",
    "black",
    "converted",
    "copy_audio",
    "copy_video",
    "padded",
    "silence",
    "stop_aiortc_track",
]


def stop_aiortc_track(track: MediaStreamTrack) -> None:
    """Stop a track that is not of this library; one of a `MediaPlayer` safely from any thread."""
    from artico_sync._webrtc._aiortc.players import serialize_player_stop

    serialize_player_stop(track)
    track.stop()
