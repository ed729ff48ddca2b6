"""The tracks we share, and the m-lines they get with the next offer; loop thread."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable

from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack

from artico_sync._webrtc.rtp.sender import RtpSender
from artico_sync._webrtc.sdp.media_sections import LocalTrack, MediaSection, PlannedSection
from artico_sync._webrtc.sdp.rtp_ids import RtpIdAllocator

logger = logging.getLogger(__name__)

#: What can stand in an `a=msid` line; browsers allow more than its 64 characters.
_ID = re.compile(r"[!-~]{1,256}")


class LocalTracks:
    """The local tracks of one connection, in the order they were added.

    A track stands by without an m-line until an offer is made: aiortc cannot answer an offer
    while it has a track that was never negotiated.
    """

    def __init__(self, new_sender: Callable[[LocalTrack], RtpSender]) -> None:
        self._new_sender = new_sender
        self._tracks: dict[int, LocalTrack] = {}

    def add(self, track: MediaStreamTrack, stream_id: str) -> None:
        for name in (stream_id, track.id):
            if not _ID.fullmatch(name) or name == "-":
                raise ValueError(f"{name!r:.80} cannot be the id of a stream or track")
        if id(track) in self._tracks:
            raise InvalidStateError("the track is shared already")
        self._tracks[id(track)] = LocalTrack(track, stream_id, track.id)

    def remove(self, track: MediaStreamTrack) -> bool:
        """Stop sending at once; the next offer tells the peer. False: it was not there."""
        local = self._tracks.pop(id(track), None)
        if local is None:
            return False
        local.removed = True
        line = local.line
        if line is not None and line.local is local:
            line.local = None
            if line.transceiver is not None:
                line.transceiver.sender.replace_track(None)
        return True

    def replace(
        self, old: MediaStreamTrack, new: MediaStreamTrack, plan: Iterable[PlannedSection]
    ) -> bool:
        """Send another track under the name of the old one. False: that one was not there.

        Args:
            plan: What has been offered and not been answered.
        """
        if new.kind != old.kind:
            raise ValueError(f"a track of kind {new.kind!r} cannot replace one of {old.kind!r}")
        local = self._tracks.get(id(old))
        if local is None:
            return False
        if new is not old and id(new) in self._tracks:
            raise InvalidStateError("the new track is shared already")
        local.track = new
        # In place, for the order of the others.
        self._tracks = {id(one.track): one for one in self._tracks.values()}
        for planned in plan:
            if planned.local is local and planned.sender is not None:
                planned.sender.replace_track(new)
        line = local.line
        if line is not None and line.local is local and line.transceiver is not None:
            line.transceiver.sender.replace_track(new)
        return True

    def plan(
        self,
        plan: list[PlannedSection],
        identifiers: RtpIdAllocator,
        new_mid: Callable[[], str],
        maximum: int,
    ) -> None:
        """Give every track that has none an m-line: the idle one it had, a new one in the place of
        a rejected one (RFC 8829, section 5.2.2), or one more.

        Args:
            maximum: Most m-lines there may be.
        """
        for local in self._tracks.values():
            if local.line is not None or any(planned.local is local for planned in plan):
                continue
            before = next((planned for planned in plan if planned.suits(local)), None)
            if before is not None:
                before.local, before.sender = local, self._new_sender(local)
                continue
            index = next((i for i, planned in enumerate(plan) if planned.is_vacant), len(plan))
            if index >= maximum:
                logger.warning("a track is not shared: there are %d m-lines", len(plan))
                return
            kind = local.track.kind
            plan[index : index + 1] = [
                PlannedSection(
                    MediaSection(new_mid(), kind, ours=True),
                    identifiers.codecs(kind),
                    identifiers.extensions(kind),
                    local,
                    self._new_sender(local),
                )
            ]
