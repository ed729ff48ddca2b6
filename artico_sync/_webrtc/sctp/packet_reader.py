"""The packets that come in on an SCTP association, taken apart; loop thread.

Most are acknowledgements and data in turn, which have a short way of their own. Messages go to the
owner when their packet is done with, or, where packets come in a flood, once for all that came in
a pass of the loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync._webrtc.sctp.packets import (
    ABORT,
    CHUNK_HEADER_LENGTH,
    COMMON_HEADER_LENGTH,
    DATA,
    FLAG_IMMEDIATE,
    FLAG_REFLECTED_TAG,
    INIT,
    INIT_ACK,
    SACK,
    SHUTDOWN_COMPLETE,
    decode_data,
    read_tag,
    split_chunks,
)
from artico_sync._webrtc.sctp.receive_queue import OVERHEAD, Message

if TYPE_CHECKING:
    from artico_sync._webrtc.sctp.association import Association

logger = logging.getLogger(__name__)

#: A packet that comes so many seconds after the last one is probably alone: what it leads to is
#: done at once rather than in the next pass of the loop, for which others would be waited for.
ALONE_AFTER = 0.0002
#: These travel alone (RFC 9260 6.10).
_LONERS = (INIT, INIT_ACK, SHUTDOWN_COMPLETE)


class PacketReader:
    """Part of an association, which hands it every packet."""

    def __init__(
        self, association: Association, tag: int, deliver: Callable[[list[Message]], None]
    ) -> None:
        self._association = association
        self._receives = association.receives
        self._tag = tag
        self._deliver = deliver
        self._messages: list[Message] = []
        self._handled_at = 0.0
        self._had_data = False
        self._urgent = False
        self._sack: bytes | None = None
        #: The packet at hand had an acknowledgement in it.
        self.sack_taken = False

    def keep(self, messages: list[Message]) -> None:
        """Charge the peer's window with messages, for `deliver` to hand over."""
        if messages:
            self._messages += messages
            size = sum([len(data) for _, _, data in messages])
            self._receives.taken += size + OVERHEAD * len(messages)

    def deliver(self) -> None:
        """Hand over what was kept."""
        if self._messages:
            messages, self._messages = self._messages, []
            self._deliver(messages)

    def handle(self, packet: bytes, now: float) -> None:
        """Take in a packet. Never raises for what is in it."""
        try:
            tag = read_tag(packet)
        except ValueError as exc:
            logger.debug("SCTP packet dropped: %s", exc)
            return
        association = self._association
        alone = now - self._handled_at > ALONE_AFTER
        self._handled_at = now
        self._had_data = self._urgent = self.sack_taken = False
        position = COMMON_HEADER_LENGTH
        if tag == self._tag and association.is_up:
            position = self._take_usual(packet)
        if position < len(packet):
            # What follows may end the association, after which nothing is acknowledged any more.
            self._take_kept_sack()
            self._take_others(packet, tag, position)
            if association.is_closed():
                return
        if alone or not association.is_up:
            self.deliver()
            if association.is_closed():
                return
        elif self._messages:
            association.flush_soon()
        self._take_kept_sack()
        if self._had_data and association.is_up:
            association.acknowledge(self._urgent or self._receives.gaps)
        if self.sack_taken:
            if alone:
                association.flush_now()
            else:
                association.flush_soon()

    def _take_usual(self, packet: bytes) -> int:
        """Take an acknowledgement and data in turn. Returns where anything else begins."""
        position = COMMON_HEADER_LENGTH
        if packet[position] == SACK:
            length = int.from_bytes(packet[position + 2 : position + 4], "big")
            end = position + length
            if length < CHUNK_HEADER_LENGTH or end > len(packet):
                return position
            self._sack = packet[position + CHUNK_HEADER_LENGTH : end]
            position = end + (-length & 3)
        messages: list[Message] = []
        begin = position
        position, flags = self._receives.add_run(packet, position, messages)
        if position > begin:
            self._had_data = True
            if flags & FLAG_IMMEDIATE:
                self._urgent = True
            self.keep(messages)
        return position

    def _take_kept_sack(self) -> None:
        if self._sack is not None:
            sack, self._sack = self._sack, None
            self._take_sack(sack)

    def _take_sack(self, body: bytes) -> None:
        try:
            self._association.take_sack(body)
            self.sack_taken = True
        except ValueError as exc:
            logger.debug("SACK dropped: %s", exc)

    def _take_others(self, packet: bytes, tag: int, position: int) -> None:
        """Take the chunks from `position` on, whatever they are."""
        chunks = split_chunks(packet, position)
        first = position == COMMON_HEADER_LENGTH
        if not chunks or not self._is_for_us(tag, chunks, first):
            logger.debug("SCTP packet dropped: not for this association")
            return
        association = self._association
        for kind, flags, start, end in chunks:
            try:
                if kind == DATA:
                    self._take_data(packet, flags, start, end)
                elif kind == SACK:
                    self._take_sack(packet[start:end])
                else:
                    # What follows may end the association.
                    self.deliver()
                    if association.is_closed() or not association.on_chunk(kind, packet[start:end]):
                        break
            except ValueError as exc:
                logger.debug("SCTP chunk of type %d dropped: %s", kind, exc)
            if association.is_closed():
                return

    def _take_data(self, packet: bytes, flags: int, start: int, end: int) -> None:
        self._had_data = True
        taken = None
        if self._association.is_up:
            taken = self._receives.add(decode_data(packet, flags, start, end))
        if taken:
            self.keep(taken)
        if taken is None or flags & FLAG_IMMEDIATE:
            self._urgent = True

    def _is_for_us(self, tag: int, chunks: list[tuple[int, int, int, int]], first: bool) -> bool:
        kind, flags = chunks[0][:2]
        if len(chunks) > 1 or not first:
            for chunk in chunks:
                if chunk[0] in _LONERS:
                    return False
        if kind == INIT:
            return tag == 0
        if kind in (ABORT, SHUTDOWN_COMPLETE) and flags & FLAG_REFLECTED_TAG:
            peer = self._association.peer
            return peer is not None and tag == peer.tag
        return tag == self._tag
