"""The outcome of applying a description of the peer."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from aiortc import RTCSessionDescription

from artico_sync._webrtc.sdp.media_sections import RemoteChange


class AnswerTo(enum.Enum):
    """The local offer an answer was applied to."""

    NONE = "none"
    PENDING = "the pending offer"
    STALE = "an offer that was rolled back"


@dataclass(frozen=True)
class Outcome:
    """What was accepted, and what must be done next.

    Attributes:
        answer_to: The offer an answer was applied to, NONE if it was not applied.
        changes: The remote tracks that were added and removed, in the order of the m-sections.
        answer: The answer to send to an offer.
        offer_again: Another local offer is needed.
        restart_ice: Another local offer must restart ICE.
        restarted_ice: The peer's offer has restarted ICE.
        pending_stands: The offer made since the stale one is still pending.
        is_superseded: The answer to a stale offer was ignored, because the peer will answer the
            pending one, which repeats it.
        error: The reason why an answer could not be applied.
    """

    answer_to: AnswerTo = AnswerTo.NONE
    changes: list[RemoteChange] = field(default_factory=list)
    answer: RTCSessionDescription | None = None
    offer_again: bool = False
    restart_ice: bool = False
    restarted_ice: bool = False
    pending_stands: bool = False
    is_superseded: bool = False
    error: Exception | None = None
