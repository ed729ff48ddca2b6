"""Audio and video without asyncio: local tracks and streams, remote ones, recordings."""

from artico_sync.media.remote import (
    RemoteAudioTrack,
    RemoteMediaStream,
    RemoteTrack,
    RemoteVideoTrack,
)
from artico_sync.media.streams import MediaStream, Recorder
from artico_sync.media.tracks import AudioTrack, LocalTrack, VideoTrack

__all__ = [
    "AudioTrack",
    "LocalTrack",
    "MediaStream",
    "Recorder",
    "RemoteAudioTrack",
    "RemoteMediaStream",
    "RemoteTrack",
    "RemoteVideoTrack",
    "VideoTrack",
]
