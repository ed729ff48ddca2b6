"""The m-sections that are not used any more, and are rejected so that others can replace them.

Neither side can remove an m-section, and a browser puts each track on a new one: a page that shares
and unshares all day would end with a description of megabytes. So m-sections without a track are
rejected, which stops the transceivers at both ends, and rejected ones are recycled (RFC 8829 5.2.2,
5.3.1).

A browser's `addTrack` takes the oldest transceiver of the kind that has never sent, including those
that local offers have created. Rejecting an m-section loses a track that the browser attaches to it
in that moment. So only m-sections are rejected that the peer has already sent on, and of the others
`SPARE_SECTIONS` are left, of which it takes the oldest first.
"""

from __future__ import annotations

from collections.abc import Sequence

from artico_sync._webrtc.sdp.media_sections import PlannedSection
from artico_sync._webrtc.sdp.parser import RemoteDescription

#: Number of unused m-sections of each kind left for tracks that a page adds during an offer.
SPARE_SECTIONS = 8


def reject_unused_in_answer(plan: Sequence[PlannedSection], offer: RemoteDescription) -> None:
    """Reject the m-sections on which the peer has sent, and neither side sends any more."""
    accepted = {planned.section.mid for planned in plan if planned.accepted}
    group = [mid for mid in offer.bundle if mid in accepted]
    for planned, remote in zip(plan, offer.sections, strict=True):
        carries = remote.sends or planned.outgoing is not None
        if _is_rejectable(planned, group) and planned.section.used_by_peer and not carries:
            planned.accepted = False


def reject_unused_in_offer(plan: Sequence[PlannedSection], *, peer_is_artico_sync: bool) -> None:
    """Reject the m-sections on which neither side sends, except the spare ones.

    Args:
        peer_is_artico_sync: An artico_sync peer needs no spare ones: it puts its tracks on
            m-sections of its own.
    """
    group = [planned.section.mid for planned in plan if planned.accepted]
    spare = {"audio": SPARE_SECTIONS, "video": SPARE_SECTIONS}
    for planned in sorted(plan, key=lambda one: one.section.use_order):
        section = planned.section
        if section.transceiver is None or not _is_rejectable(planned, group):
            continue
        if not section.used_by_peer and not peer_is_artico_sync and spare[section.kind]:
            spare[section.kind] -= 1
        elif planned.outgoing is None and not section.sending and not section.receiving:
            planned.accepted = False


def _is_rejectable(planned: PlannedSection, group: Sequence[str]) -> bool:
    """Return True for media, except the m-section with the transport of all (RFC 9143 7)."""
    return planned.accepted and planned.section.is_media and planned.section.mid in group[1:]
