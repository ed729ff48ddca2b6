"""Every threshold and limit of a client, in one immutable object."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB


#: Environment variable that turns `accelerate` off for the process if it is "0".
ACCELERATE_VARIABLE = "ARTICO_SYNC_ACCELERATE"


def _is_acceleration_enabled() -> bool:
    return os.environ.get(ACCELERATE_VARIABLE) != "0"


@dataclass(frozen=True)
class Settings:
    """Thresholds and limits; an ordinary call never reaches the defaults."""

    #: Seconds an answered call may take to connect before it fails.
    connect_timeout: float = 30.0
    #: Seconds a call may ring, in either direction, before it ends unanswered; None without limit.
    ring_timeout: float | None = None
    #: Seconds of silence from the peer after which the call is lost.
    silence_timeout: float = 6.0
    #: Seconds to wait for STUN and TURN servers, in the background.
    gathering_timeout: float = 10.0
    #: Seconds after which an unanswered offer is made again.
    offer_timeout: float = 2.0
    #: Number of times an unanswered offer is made again before the call reports an error.
    offer_attempts: int = 5
    #: Seconds between sending a browser an answer and sending it an offer; it ignores offers while
    #: it applies the answer, which takes up to 30 ms.
    answer_gap: float = 0.05
    #: Longest delay between two attempts to reach the signaling server, in seconds.
    reconnect_maximum: float = 30.0

    #: Bytes queued on a call before `send` blocks.
    send_buffer: int = MIB
    #: Bytes of unread messages on a call before it stops the sender.
    receive_buffer: int = 4 * MIB
    #: Largest message accepted, in bytes; announced to the peer.
    maximum_message: int = 256 * KIB

    #: Largest SDP accepted, in characters; Chromium writes 4 KiB for each video track it ever had.
    maximum_sdp: int = 512 * KIB
    #: Maximum number of m-sections in a description.
    maximum_media_lines: int = 256
    #: Maximum number of remote candidates on a call between two ICE restarts.
    maximum_candidates: int = 512
    #: Maximum number of queued signals of a call that has not been answered yet.
    maximum_buffered_signals: int = 256
    #: Maximum number of characters of these together: two of the largest descriptions.
    maximum_buffered_characters: int = MIB
    #: Maximum number of incoming calls that ring at once.
    maximum_ringing: int = 256
    #: Maximum number of incoming calls from one peer that ring at once.
    maximum_ringing_per_peer: int = 64
    #: Maximum number of sessions of one client that are not closed.
    maximum_sessions: int = 4096
    #: Signals accepted from one peer per second, and in a burst.
    signals_per_second: float = 200.0
    signals_burst: int = 2000
    #: Number of closed sessions remembered, so that a late signal does not start a new call.
    remembered_sessions: int = 4096

    #: Seconds a computing thread may delay the loop thread while calls are open; None keeps the
    #: interpreter's own switch interval.
    switch_interval: float | None = 0.0002
    #: Use the fast paths in place of aiortc's plain ones where they apply.
    accelerate: bool = field(default_factory=_is_acceleration_enabled)
