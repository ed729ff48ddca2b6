"""Audio and video without asyncio: local tracks and streams, remote ones, recordings; user
threads."""

from artico_sync.media.local import AudioTrack, LocalTrack, VideoTrack
from artico_sync.media.recorder import Recorder
from artico_sync.media.remote import RemoteAudioTrack, RemoteTrack, RemoteVideoTrack
from artico_sync.media.streams import MediaStream, RemoteMediaStream

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
