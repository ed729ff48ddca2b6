"""Which m-lines have served their time, and make room for others; pure; loop thread.

Neither side can take an m-line away again, and a browser puts each track on a new one: a page that
shares and unshares all day would end with a description of megabytes. So m-lines without a track
are rejected, which stops the transceivers at both ends, and rejected ones are used again (RFC 8829,
sections 5.2.2 and 5.3.1).

A browser's `addTrack` takes the oldest transceiver of the kind that has never sent anything, also
one that our offers made. A track would be lost that is put on one at the very moment we reject it;
it is not where the peer has sent before, nor where older ones are left to be taken first.
"""

from __future__ import annotations

from collections.abc import Sequence

from artico_sync._webrtc.sdp.media_sections import PlannedSection
from artico_sync._webrtc.sdp.parser import RemoteDescription

#: M-lines of each kind left for tracks that a page adds while an offer is on its way to it.
SPARE_LINES = 8


def retire_in_answer(plan: Sequence[PlannedSection], offer: RemoteDescription) -> None:
    """Reject those on which the peer, who has used them, sends no more, and we do not."""
    accepted = {planned.line.mid for planned in plan if planned.accepted}
    group = [mid for mid in offer.bundle if mid in accepted]
    for planned, remote in zip(plan, offer.lines, strict=True):
        carries = remote.sends or planned.carried is not None
        if _may_go(planned, group) and planned.line.used_by_peer and not carries:
            planned.accepted = False


def retire_in_offer(plan: Sequence[PlannedSection], *, peer_is_artico_sync: bool) -> None:
    """Reject those that carry nothing any more, but for a few.

    Args:
        peer_is_ours: Ours put no tracks on m-lines of other ends'.
    """
    group = [planned.line.mid for planned in plan if planned.accepted]
    spare = {"audio": SPARE_LINES, "video": SPARE_LINES}
    for planned in sorted(plan, key=lambda one: one.line.age):
        line = planned.line
        if line.transceiver is None or not _may_go(planned, group):
            continue
        if not line.used_by_peer and not peer_is_artico_sync and spare[line.kind]:
            spare[line.kind] -= 1
        elif planned.carried is None and not line.sending and not line.receiving:
            planned.accepted = False


def _may_go(planned: PlannedSection, group: Sequence[str]) -> bool:
    """Whether it is for media, and not the one that stands for the transport of all (RFC 9143,
    section 7)."""
    return planned.accepted and planned.line.is_media and planned.line.mid in group[1:]
