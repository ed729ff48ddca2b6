"""Received packets, split into chunks and handed to the parts of the association.

Also the protocols of those who handle chunks, and of the owner who receives the events.

Most packets hold a SACK and DATA in TSN order, for which there is a short path. Messages are
delivered at the end of their packet or, if packets arrive in a flood, once per pass of the event
loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from artico_sync._protocol.bounds import OVERHEAD
from artico_sync._webrtc.sctp.handshake import PeerParameters
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
from artico_sync._webrtc.sctp.receive_queue import Message, ReceiveQueue

logger = logging.getLogger(__name__)

#: A packet that arrives later than this after the previous one is probably alone: its consequences
#: are not put off to the end of the pass of the event loop, where they would wait for more packets.
ALONE_AFTER_SECONDS = 0.0002
#: Chunks that are never bundled with others (RFC 9260 6.10).
UNBUNDLED_CHUNKS = (INIT, INIT_ACK, SHUTDOWN_COMPLETE)


class ChunkHandler(Protocol):
    """The association as the packet reader sees it."""

    #: True while data may be sent and received.
    is_established: bool
    peer: PeerParameters | None
    #: Set to ask for a poll at the end of this pass of the event loop, or at once.
    poll_soon: bool
    poll_now: bool

    def is_closed(self) -> bool: ...

    def on_sack_chunk(self, body: bytes, now: float) -> None:
        """Process a SACK; raise ValueError if it is malformed or false."""

    def on_control_chunk(self, kind: int, body: bytes, now: float) -> bool:
        """Process another chunk; return False to ignore the rest of the packet."""

    def on_data_packet(self, urgent: bool, now: float) -> None:
        """Acknowledge a packet with data, now or later."""


class AssociationOwner(Protocol):
    """Receives the events of an association, never in the middle of a chunk."""

    def on_established(self, peer: PeerParameters) -> None: ...

    def on_closed(self) -> None: ...

    def on_peer_unresponsive(self) -> None:
        """The peer is given up because it does not answer; `on_closed` follows."""

    def on_messages_received(self, messages: list[Message]) -> None:
        """Messages arrived, in stream order; `receive_queue.unread` includes them."""

    def on_acknowledged(self) -> None:
        """Data was acknowledged; called at most once per poll."""

    def on_streams_reset(self, streams: tuple[int, ...]) -> None:
        """The peer has reset its direction of these streams; empty for all."""

    def on_stream_finished(self, stream: int) -> None:
        """A stream is reset in both directions, and its id is free."""

    def is_same_host(self) -> bool:
        """Return True if the peer runs on this machine."""

    def receive_buffer(self) -> int:
        """Return the size of a local socket's receive buffer in bytes, 0 if unknown."""


class PacketReader:
    """Processes the packets of an association; never raises for their content."""

    def __init__(
        self,
        handler: ChunkHandler,
        receive_queue: ReceiveQueue,
        tag: int,
        deliver: Callable[[list[Message]], None],
    ) -> None:
        self._handler = handler
        self._receive_queue = receive_queue
        self._tag = tag
        self._deliver = deliver
        self._messages: list[Message] = []
        self._last_packet_at = 0.0
        self._had_data = False
        self._urgent = False
        self._sack: bytes | None = None
        self._sack_processed = False

    def add_messages(self, messages: list[Message]) -> None:
        """Charge messages to the window, and keep them for `deliver_messages`."""
        if messages:
            self._messages += messages
            size = sum([len(data) for _, _, data in messages])
            self._receive_queue.unread += size + OVERHEAD * len(messages)

    def deliver_messages(self) -> None:
        """Hand the collected messages to the owner."""
        if self._messages:
            messages, self._messages = self._messages, []
            self._deliver(messages)

    def read_packet(self, packet: bytes, now: float) -> None:
        """Process a packet."""
        try:
            tag = read_tag(packet)
        except ValueError as exc:
            logger.debug("dropped an SCTP packet: %s", exc)
            return
        handler = self._handler
        alone = now - self._last_packet_at > ALONE_AFTER_SECONDS
        self._last_packet_at = now
        self._had_data = self._urgent = self._sack_processed = False
        position = COMMON_HEADER_LENGTH
        if tag == self._tag and handler.is_established:
            position = self._read_usual_chunks(packet)
        if position < len(packet):
            # The chunks that follow may end the association, after which no SACK counts.
            self._process_kept_sack(now)
            self._read_other_chunks(packet, tag, position, now)
            if handler.is_closed():
                return
        if alone or not handler.is_established:
            self.deliver_messages()
            if handler.is_closed():
                return
        elif self._messages:
            handler.poll_soon = True
        self._process_kept_sack(now)
        if self._had_data and handler.is_established:
            handler.on_data_packet(self._urgent or self._receive_queue.has_gaps, now)
        if self._sack_processed:
            if alone:
                handler.poll_now = True
            else:
                handler.poll_soon = True

    def _read_usual_chunks(self, packet: bytes) -> int:
        """Read a SACK and DATA in TSN order; return the position of the first other chunk."""
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
        position, flags = self._receive_queue.receive_in_order(packet, position, messages)
        if position > begin:
            self._had_data = True
            if flags & FLAG_IMMEDIATE:
                self._urgent = True
            self.add_messages(messages)
        return position

    def _process_kept_sack(self, now: float) -> None:
        if self._sack is not None:
            sack, self._sack = self._sack, None
            self._process_sack(sack, now)

    def _process_sack(self, body: bytes, now: float) -> None:
        try:
            self._handler.on_sack_chunk(body, now)
            self._sack_processed = True
        except ValueError as exc:
            logger.debug("dropped a SACK: %s", exc)

    def _read_other_chunks(self, packet: bytes, tag: int, position: int, now: float) -> None:
        """Read the chunks from `position` on, whatever they are."""
        chunks = split_chunks(packet, position)
        first = position == COMMON_HEADER_LENGTH
        if not chunks or not self._is_addressed_here(tag, chunks, first):
            logger.debug("dropped an SCTP packet of another association")
            return
        handler = self._handler
        for kind, flags, start, end in chunks:
            try:
                if kind == DATA:
                    self._read_data(packet, flags, start, end)
                elif kind == SACK:
                    self._process_sack(packet[start:end], now)
                else:
                    # The chunk may end the association.
                    self.deliver_messages()
                    if handler.is_closed():
                        break
                    if not handler.on_control_chunk(kind, packet[start:end], now):
                        break
            except ValueError as exc:
                logger.debug("dropped an SCTP chunk of type %d: %s", kind, exc)
            if handler.is_closed():
                return

    def _read_data(self, packet: bytes, flags: int, start: int, end: int) -> None:
        self._had_data = True
        messages = None
        if self._handler.is_established:
            messages = self._receive_queue.receive_chunk(decode_data(packet, flags, start, end))
        if messages:
            self.add_messages(messages)
        if messages is None or flags & FLAG_IMMEDIATE:
            self._urgent = True

    def _is_addressed_here(
        self, tag: int, chunks: list[tuple[int, int, int, int]], first: bool
    ) -> bool:
        """Check the verification tag (RFC 9260 8.5)."""
        kind, flags = chunks[0][:2]
        if len(chunks) > 1 or not first:
            for chunk in chunks:
                if chunk[0] in UNBUNDLED_CHUNKS:
                    return False
        if kind == INIT:
            return tag == 0
        if kind in (ABORT, SHUTDOWN_COMPLETE) and flags & FLAG_REFLECTED_TAG:
            peer = self._handler.peer
            return peer is not None and tag == peer.tag
        return tag == self._tag
