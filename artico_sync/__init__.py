"""Place and answer WebRTC calls from blocking Python, speaking the protocol of Artico.

Begin with `help(Artico)` and `help(Call)`. In the examples `rtco` is a connected `Artico`, `call`
an open call of it, `incoming` the same call at the other end, `server` an `ArticoServer`, and "bob"
a peer that answers with what it was sent, in capitals. Times are in seconds.
"""

from __future__ import annotations

from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.errors import (
    ArticoError,
    ArticoTimeoutError,
    CallClosedError,
    CallError,
    CallRejectedError,
    ConnectionFailedError,
    ForkError,
    IdTakenError,
    InvalidIdError,
    InvalidStateError,
    MediaError,
    MessageTooLargeError,
    NotOpenError,
    NotReadyError,
    PeerUnavailableError,
    SignalingError,
)
from artico_sync.media import AudioTrack, MediaStream, Recorder, VideoTrack
from artico_sync.server.server import ArticoServer
from artico_sync.signaling import MemoryHub, MemorySignaling, Signaling, SocketSignaling

__version__ = "0.1.0"

__all__ = [
    "Artico",
    "ArticoError",
    "ArticoServer",
    "ArticoTimeoutError",
    "AudioTrack",
    "Call",
    "CallClosedError",
    "CallError",
    "CallRejectedError",
    "ConnectionFailedError",
    "ForkError",
    "IdTakenError",
    "InvalidIdError",
    "InvalidStateError",
    "MediaError",
    "MediaStream",
    "MemoryHub",
    "MemorySignaling",
    "MessageTooLargeError",
    "NotOpenError",
    "NotReadyError",
    "PeerUnavailableError",
    "Recorder",
    "Signaling",
    "SignalingError",
    "SocketSignaling",
    "VideoTrack",
    "__version__",
]
