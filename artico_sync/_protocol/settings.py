"""Every threshold and limit of a client, in one immutable object; shared by all sides."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB


#: Set to 0, this variable of the environment turns `accelerate` off for the process.
ACCELERATE_VARIABLE = "ARTICO_SYNC_ACCELERATE"


def _wants_acceleration() -> bool:
    return os.environ.get(ACCELERATE_VARIABLE) != "0"


@dataclass(frozen=True)
class Settings:
    """Thresholds and limits; the defaults are ones a real call never meets."""

    #: Seconds an answered call may take to connect before it fails.
    connect_timeout: float = 30.0
    #: Seconds a call may ring, either way, before it ends unanswered; None for ever.
    ring_timeout: float | None = None
    #: Seconds of silence from the peer after which the call is lost.
    silence_timeout: float = 6.0
    #: Seconds to wait for STUN and TURN servers, in the background.
    gathering_timeout: float = 10.0
    #: Seconds after which an offer nobody answered is made again.
    offer_timeout: float = 2.0
    #: How often an unanswered offer is made again before the call reports an error.
    offer_attempts: int = 5
    #: Seconds between sending a browser an answer and sending it an offer; while it applies the
    #: answer, which takes it up to 30 ms, it ignores offers.
    answer_gap: float = 0.05
    #: Longest pause between two attempts to reach the signalling server, in seconds.
    reconnect_maximum: float = 30.0

    #: Bytes that may wait to be sent on a call before `send` blocks.
    send_buffer: int = MIB
    #: Bytes of unread messages a call keeps before it holds the sender.
    receive_buffer: int = 4 * MIB
    #: Largest message we accept, in bytes, as announced to the peer.
    maximum_message: int = 256 * KIB

    #: Largest SDP accepted, in characters; Chromium writes 4 KiB for each video track it ever had.
    maximum_sdp: int = 512 * KIB
    #: Most m-lines accepted in a description.
    maximum_media_lines: int = 256
    #: Most remote candidates accepted on a call between two ICE restarts.
    maximum_candidates: int = 512
    #: Most signals kept for a call that has not been answered yet.
    maximum_buffered_signals: int = 256
    #: Most characters of them together; room for two of the largest descriptions.
    maximum_buffered_characters: int = MIB
    #: Most incoming calls that may ring at once.
    maximum_ringing: int = 256
    #: Most incoming calls that may ring at once from one peer.
    maximum_ringing_per_peer: int = 64
    #: Most live sessions of one client.
    maximum_sessions: int = 4096
    #: Signals accepted from one peer each second, and the burst above it.
    signals_per_second: float = 200.0
    signals_burst: int = 2000
    #: Finished sessions remembered, so that a late signal is not a new call.
    remembered_sessions: int = 4096

    #: Seconds a computing thread may hold up the loop thread while calls are open; None leaves the
    #: interpreter's own interval.
    switch_interval: float | None = 0.0002
    #: Take the faster paths over aiortc's plain ones where they apply.
    accelerate: bool = field(default_factory=_wants_acceleration)
