"""An offer of ours that was taken back for want of an answer; loop thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from artico_sync._webrtc.sdp.media_sections import MediaSection, PlannedSection


@dataclass(frozen=True)
class StaleOffer:
    """What was offered last: the peer may have applied it all the same, and answer late."""

    plan: list[PlannedSection] = field(default_factory=list)
    #: The m-lines there were before it.
    lines: list[MediaSection] = field(default_factory=list)
    #: The ICE username it carried.
    username: str | None = None

    @property
    def is_consistent(self) -> bool:
        """Whether the plan is one for these m-lines."""
        return len(self.plan) >= len(self.lines) and all(
            planned.line is line or line.rejected
            for planned, line in zip(self.plan, self.lines, strict=False)
        )

    def follows(self, lines: Sequence[MediaSection]) -> bool:
        """Whether no other m-lines came into use since."""
        return self.lines == lines

    def repeat(self, plan: Sequence[PlannedSection]) -> list[PlannedSection]:
        """Put what was offered before on the same m-lines, for a peer that may have applied it.

        A track that was removed since leaves its m-line empty.
        """
        repeated = list(plan)
        for index, before in enumerate(self.plan):
            if index >= len(repeated) or repeated[index].line is not before.line:
                again = PlannedSection(before.line, before.codecs, before.extensions)
                repeated[index : index + 1] = [again]
            repeated[index].accepted = before.accepted
            local = before.local
            if local is not None and not local.removed and local.line is None:
                repeated[index].local, repeated[index].sender = local, before.sender
        return repeated
