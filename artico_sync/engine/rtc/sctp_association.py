"""One SCTP association: set-up, data both ways, timers; loop thread.

Knows nothing of data channels, and of DTLS only a function that takes a packet. Everything that is
to be sent is sent by `_flush`, at most once in a pass of the loop, so that chunks share packets and
acknowledgements share packets with data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from .sctp_handshake import Handshake, Peer
from .sctp_outbound import OutboundMessage
from .sctp_packets import (
    ABORT,
    CAUSE_STALE_COOKIE,
    CAUSE_USER_INITIATED_ABORT,
    COMMON_HEADER_LENGTH,
    DATA,
    ERROR,
    FLAG_IMMEDIATE,
    FLAG_REFLECTED_TAG,
    FORWARD_TSN,
    HEARTBEAT,
    HEARTBEAT_ACK,
    INIT,
    INIT_ACK,
    RECONFIG,
    SACK,
    SHUTDOWN,
    SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
    ForwardTsn,
    Sack,
    build_packet,
    chunk,
    decode_data,
    decode_parameters,
    encode_parameters,
    read_tag,
    split_chunks,
)
from .sctp_path import PathSize
from .sctp_receive import Message, ReceiveQueue
from .sctp_send import SendQueue
from .sctp_setup import SETUP_CHUNKS, Setup, State
from .sctp_timer import Timer

logger = logging.getLogger(__name__)

#: Time-outs in a row after which packets become small again, and for how many seconds at least.
RETREAT_AFTER = 2
RETREAT_PAUSE = 30.0
#: Packets sent in one pass of the loop before everybody else gets a turn.
PACKETS_PER_PASS = 64
#: Answers to heartbeats and the like in one pass; a flood is not answered in full.
REPLIES_PER_PASS = 32
#: Packets with data in one acknowledgement to a peer that counts what is acknowledged; others
#: get one for each. The larger number is for floods, where the loss of one matters less: it
#: holds from so many packets in a pass of the loop.
PACKETS_PER_SACK = 2
#: Seconds for which a single packet of such a peer waits for data of ours to carry its
#: acknowledgement, unless the peer asks for it at once (RFC 7053).
SACK_DELAY = 0.002
PACKETS_PER_SACK_IN_FLOOD = 16
FLOOD = 12
#: A packet that comes so many seconds after the last one is probably alone: what it leads to is
#: done at once rather than in the next pass of the loop, for which others would be waited for.
ALONE_AFTER = 0.0002
#: A timer that fires this many seconds late was held up, and so was the reading of the socket.
LATE = 0.05


class AssociationOwner(Protocol):
    """Who is told; never while a packet is only half taken in."""

    def on_established(self, peer: Peer) -> None: ...

    def on_ended(self) -> None: ...

    def on_delivered(self, messages: list[Message]) -> None: ...

    def on_parameter(self, kind: int, body: bytes) -> None:
        """A parameter of RE-CONFIG. May raise ValueError."""

    def is_same_host(self) -> bool:
        """Does the peer live on this machine?"""

    def on_pass(self, progressed: bool) -> None:
        """Before what waits is sent. `progressed`: something was acknowledged since."""


class Association:
    """Made by the transport, which owns it and ends it by `abort`."""

    def __init__(
        self,
        owner: AssociationOwner,
        write: Callable[[bytes], None],
        *,
        tag: int,
        initial_tsn: int,
        port: int,
        capacity: int,
        maximum_message: int,
        packet_maximum: int,
        accelerate: bool,
    ) -> None:
        self._owner = owner
        self._write_packet = write
        self._tag = tag
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._accelerate = accelerate
        self._packet_maximum = packet_maximum
        self.remote_port = port
        self.state = State.NEW
        self.peer: Peer | None = None
        #: Both sides count what is acknowledged, so acknowledgements may wait and be few.
        self.patient = False
        #: Bytes of a packet that chunks may fill.
        self.path = PathSize()
        self.room = self.path.size - COMMON_HEADER_LENGTH
        self.sends = SendQueue(initial_tsn, self.room)
        self.receives = ReceiveQueue(capacity, maximum_message)
        handshake = Handshake(
            tag, initial_tsn, self.receives.window, packet_maximum if accelerate else 0
        )
        self._setup = Setup(self, self._loop, handshake)
        self._flush_due = False
        self._sack_due = False
        self._progressed = False
        self._unacknowledged = 0  # packets with data since our last acknowledgement
        self._packets_per_sack = 1
        self._packets_in_pass = 0
        self._replies = 0
        self._handled_at = 0.0
        self._sack_taken = False
        self._retransmission_timer = Timer(self._loop, self._on_retransmission_timeout)
        self._sack_timer = Timer(self._loop, self.acknowledge_soon)
        self._pace_timer = Timer(self._loop, self.flush_soon)

    # Life

    @property
    def is_up(self) -> bool:
        return self.state in (State.UP, State.SHUTTING_DOWN)

    def is_closed(self) -> bool:
        return self.state is State.CLOSED

    def connect(self) -> None:
        """Send our INIT. Both sides do (RFC 8841 9.3)."""
        self._setup.start()

    def abort(self) -> None:
        """End it, telling the peer."""
        if self.state in (State.NEW, State.CLOSED):
            self.close()
            return
        if self.peer is not None:
            cause = encode_parameters(((CAUSE_USER_INITIATED_ABORT, b"closed"),))
            parts: list[bytes | memoryview] = [chunk(ABORT, cause)]
            if self.is_up:
                # The peer must not take for lost what has come; nobody is there to say so again.
                parts.insert(0, self.receives.sack(self.room - len(parts[0])).encode())
                self.write(parts)
            self.write(parts)
        self.close()

    def close(self) -> None:
        """End it without a word: there is nobody to tell."""
        if self.state == State.CLOSED:
            return
        self.change(State.CLOSED)
        self._setup.end()
        self._retransmission_timer.cancel()
        self._sack_timer.cancel()
        self._pace_timer.cancel()
        self._owner.on_ended()

    def change(self, state: State) -> None:
        logger.debug("association %08x: %s -> %s", self._tag, self.state.value, state.value)
        self.state = state

    # Sending

    def put(self, message: OutboundMessage, *, soon: bool = True) -> None:
        """Take a message; without `soon` the caller sees to its leaving."""
        self.sends.put(message)
        if soon:
            self.flush_soon()

    def flush_now(self) -> None:
        """Send what may be sent, unless that is about to happen anyway."""
        if not self._flush_due:
            self._flush()

    def flush_soon(self) -> None:
        """Send what may be sent at the end of this pass of the loop."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def acknowledge_soon(self) -> None:
        """Tell the peer our window."""
        if self.is_up:
            self._sack_due = True
            self.flush_soon()

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Send a packet of these chunks at once."""
        tag = self.peer.tag if self.peer is not None else 0
        self._write_packet(build_packet(self._port, self.remote_port, tag, parts))

    def _flush(self) -> None:
        self._flush_due = False
        self._replies = self._packets_in_pass = 0
        if self.state == State.CLOSED:
            return
        progressed, self._progressed = self._progressed, False
        self._owner.on_pass(progressed)
        if self.is_up:
            self._transmit()
            if self._sack_due:
                self._send_sack()
            if self.state == State.SHUTTING_DOWN and not self.sends.outstanding:
                self.write([chunk(SHUTDOWN_ACK)])

    def _transmit(self) -> None:
        sends = self.sends
        now = self._loop.time()
        for _ in range(PACKETS_PER_PASS):
            wait = sends.ready(now)
            if wait is None:
                break
            if wait > 0:
                self._pace_timer.start(wait)
                break
            parts: list[bytes | memoryview] = []
            room = self.room
            if self._unacknowledged and not sends.to_resend and not self.receives.gaps:
                parts.append(self._take_sack())
                room -= len(parts[0])
            parts += sends.fill(room, now, single=not self._accelerate)
            self.write(parts)
        else:
            self.flush_soon()
        if sends.backlog and (probe := self.path.probe(now)):
            self.write(probe)
        if sends.outstanding or sends.waits_for_window:
            if sends.earliest_resent or not self._retransmission_timer.running:
                self._retransmission_timer.start(sends.timer())
        sends.earliest_resent = False

    def _take_sack(self) -> bytes:
        self._sack_due = False
        self._unacknowledged = 0
        self._sack_timer.stop()
        return self.receives.sack(self.room).encode()

    def _send_sack(self) -> None:
        self.write([self._take_sack()])

    def reply(self, answer: bytes) -> None:
        """Answer a control chunk, unless the peer has had its share of answers for now."""
        if self.may_reply():
            self.write([answer])

    def may_reply(self) -> bool:
        """Count an answer."""
        self._replies += 1
        self.flush_soon()
        return self._replies <= REPLIES_PER_PASS

    # Receiving

    def handle(self, packet: bytes) -> None:
        """Take in a packet. Never raises for what is in it."""
        if self.is_closed():
            return
        try:
            tag = read_tag(packet)
        except ValueError as exc:
            logger.debug("SCTP packet dropped: %s", exc)
            return
        chunks = split_chunks(packet)
        if not chunks or not self._is_for_us(tag, chunks):
            logger.debug("SCTP packet dropped: not for this association")
            return
        now = self._loop.time()
        alone = now - self._handled_at > ALONE_AFTER
        self._handled_at = now
        had_data = urgent = False
        messages: list[Message] = []
        for kind, flags, start, end in chunks:
            try:
                if kind == DATA:
                    had_data = True
                    taken = self._on_data(packet, flags, start, end)
                    if taken:
                        messages += taken
                    if taken is None or flags & FLAG_IMMEDIATE:
                        urgent = True
                    continue
                if messages and kind != SACK:
                    # What follows may end the association.
                    self._owner.on_delivered(messages)
                    messages = []
                if not self._on_chunk(kind, packet[start:end]):
                    break
            except ValueError as exc:
                logger.debug("SCTP chunk of type %d dropped: %s", kind, exc)
            if self.is_closed():
                return
        if messages:
            self._owner.on_delivered(messages)
            if self.is_closed():
                return
        if had_data and self.is_up:
            self._acknowledge(urgent or self.receives.gaps)
        if self._sack_taken:
            self._sack_taken = False
            if alone:
                self.flush_now()
            else:
                self.flush_soon()

    def _acknowledge(self, urgent: bool) -> None:
        """Decide when the packet with data that has just come is acknowledged."""
        self._unacknowledged += 1
        self._packets_in_pass += 1
        if self._unacknowledged >= self._sack_limit():
            self._send_sack()
        elif urgent or self._packets_in_pass > 1:
            self.acknowledge_soon()
        else:
            self._packets_in_pass = 0
            self._sack_timer.start(SACK_DELAY)

    def _sack_limit(self) -> int:
        if self._packets_per_sack > 1 and self._packets_in_pass > FLOOD:
            return PACKETS_PER_SACK_IN_FLOOD
        return self._packets_per_sack

    def _is_for_us(self, tag: int, chunks: list[tuple[int, int, int, int]]) -> bool:
        kind, flags = chunks[0][:2]
        if any(item[0] in (INIT, INIT_ACK, SHUTDOWN_COMPLETE) for item in chunks):
            if len(chunks) > 1:
                return False  # they travel alone
        if kind == INIT:
            return tag == 0
        if kind in (ABORT, SHUTDOWN_COMPLETE) and flags & FLAG_REFLECTED_TAG:
            return self.peer is not None and tag == self.peer.tag
        return tag == self._tag

    def _on_data(self, packet: bytes, flags: int, start: int, end: int) -> list[Message] | None:
        """Take in a DATA chunk. The messages it completes; None if it was not new, or refused."""
        if not self.is_up:
            return None
        return self.receives.add(decode_data(packet, flags, start, end))

    def _on_chunk(self, kind: int, body: bytes) -> bool:
        """Take in a chunk other than DATA. False: ignore the rest of the packet."""
        if kind == SACK:
            self._on_sack(body)
        elif kind == HEARTBEAT:
            self.reply(chunk(HEARTBEAT_ACK, body))
        elif kind == HEARTBEAT_ACK:
            if self.path.answered(body):
                self._resize()
        elif kind == FORWARD_TSN:
            self._on_forward_tsn(body)
        elif kind == RECONFIG:
            self._on_reconfig(body)
        elif kind in SETUP_CHUNKS:
            self._setup.take(kind, body)
        elif kind == ABORT:
            logger.debug("association %08x: aborted by the peer", self._tag)
            self.close()
        elif kind == SHUTDOWN:
            self._on_shutdown()
        elif kind == SHUTDOWN_ACK:
            self.reply(chunk(SHUTDOWN_COMPLETE))
            self.close()
        elif kind == SHUTDOWN_COMPLETE:
            if self.state == State.SHUTTING_DOWN:
                self.close()
        elif kind == ERROR:
            self._on_error(body)
        else:
            return bool(kind & 0x80)  # RFC 9260 3.2: what to do is in the type's high bits
        return True

    def _on_sack(self, body: bytes) -> None:
        if not self.is_up:
            return
        sends = self.sends
        pending = sends.pending
        advanced = sends.acknowledge(Sack.decode(body), self._loop.time())
        if sends.pending < pending:
            self._progressed = True
        if not sends.outstanding:
            self._retransmission_timer.stop()
        elif advanced:
            self._retransmission_timer.start(sends.timer())
        self._sack_taken = True

    def _on_forward_tsn(self, body: bytes) -> None:
        if not self.is_up:
            return
        messages = self.receives.forward(ForwardTsn.decode(body).cumulative)
        self.acknowledge_soon()
        if messages:
            self._owner.on_delivered(messages)

    def _on_reconfig(self, body: bytes) -> None:
        if self.is_up:
            for kind, value in decode_parameters(body):
                self._owner.on_parameter(kind, value)

    def _on_shutdown(self) -> None:
        if self.state == State.UP:
            self.change(State.SHUTTING_DOWN)
        if self.is_up:
            self.flush_soon()

    def _on_error(self, body: bytes) -> None:
        for cause, _ in decode_parameters(body):
            logger.debug("association %08x: the peer reports error %d", self._tag, cause)
            if cause == CAUSE_STALE_COOKIE:
                self._setup.begin_anew()

    def _search_path(self, at: float) -> None:
        if self._accelerate and self.peer is not None:
            maximum = min(self.peer.packet_maximum, self._packet_maximum)
            self.path.search(maximum, self._owner.is_same_host(), at)

    def _resize(self) -> None:
        """Packets may be larger, or must be smaller, than they were."""
        logger.debug("association %08x: packets of %d bytes", self._tag, self.path.size)
        self.room = self.path.size - COMMON_HEADER_LENGTH
        self.sends.resize(self.room)

    # For the set-up

    def write_to(self, tag: int, part: bytes) -> None:
        """Send a chunk under another verification tag than the peer's."""
        self._write_packet(build_packet(self._port, self.remote_port, tag, [part]))

    def take(self, peer: Peer) -> None:
        """Adopt what the peer said of itself."""
        self.peer = peer
        self.receives.start(peer.initial_tsn)
        self.sends.peer_window = peer.window
        self.patient = peer.is_ours and self._accelerate
        self._packets_per_sack = PACKETS_PER_SACK if self.patient else 1

    def establish(self) -> None:
        assert self.peer is not None
        self.change(State.UP)
        self._search_path(self._loop.time())
        self._owner.on_established(self.peer)
        self.flush_soon()

    # Timers

    def _on_retransmission_timeout(self) -> None:
        sends = self.sends
        if self._retransmission_timer.late > LATE:
            # The acknowledgement may be lying in the socket: let it be read first.
            self._retransmission_timer.start(LATE / 2)
            return
        if sends.probe():
            self.flush_soon()
            return
        logger.debug("association %08x: retransmission timer expired", self._tag)
        if sends.timed_out():
            logger.info("the peer's transport does not answer any more: association given up")
            self.abort()
            return
        if sends.failures >= RETREAT_AFTER and self.path.retreat():
            self._resize()
            self._search_path(self._loop.time() + RETREAT_PAUSE)
        self.flush_soon()
