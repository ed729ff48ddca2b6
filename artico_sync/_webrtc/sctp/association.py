"""One SCTP association: set-up, data both ways, timers; loop thread.

Knows nothing of data channels, and of DTLS only a function that takes packets. Everything that is
to be sent is sent by `_flush`, at most once in a pass of the loop, so that chunks share packets and
acknowledgements share packets with data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from artico_sync._webrtc.sctp.congestion import window_floor
from artico_sync._webrtc.sctp.cookie import Handshake, Peer
from artico_sync._webrtc.sctp.handshake import SETUP_CHUNKS, Setup, State
from artico_sync._webrtc.sctp.outbound_queue import OutboundMessage
from artico_sync._webrtc.sctp.packet_reader import PacketReader
from artico_sync._webrtc.sctp.packets import (
    ABORT,
    CAUSE_STALE_COOKIE,
    CAUSE_USER_INITIATED_ABORT,
    ERROR,
    FORWARD_TSN,
    HEARTBEAT,
    HEARTBEAT_ACK,
    RECONFIG,
    SHUTDOWN,
    SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
    ForwardTsn,
    Sack,
    build_packet,
    chunk,
    decode_parameters,
    encode_parameters,
)
from artico_sync._webrtc.sctp.path_mtu import PathMtuDiscovery
from artico_sync._webrtc.sctp.receive_queue import Message, ReceiveQueue
from artico_sync._webrtc.sctp.sack_scheduler import SackScheduler
from artico_sync._webrtc.sctp.send_queue import SendQueue
from artico_sync._webrtc.sctp.timer import Timer

logger = logging.getLogger(__name__)

#: Silences without progress after which packets become small again, and for how many seconds at
#: least. What provokes an acknowledgement is a small packet, so there may be answers meanwhile.
RETREAT_AFTER = 3
RETREAT_PAUSE = 30.0
#: Packets sent in one pass of the loop before everybody else gets a turn.
PACKETS_PER_PASS = 64
#: Answers to heartbeats and the like in one pass; a flood is not answered in full.
REPLIES_PER_PASS = 32
#: A timer that fires this many seconds late was held up, and so was the reading of the socket.
LATE = 0.05


class AssociationOwner(Protocol):
    """Who is told; never while a packet is only half taken in."""

    def on_established(self, peer: Peer) -> None: ...

    def on_ended(self) -> None: ...

    def on_given_up(self) -> None:
        """The peer's transport does not answer any more; `on_ended` follows."""

    def on_delivered(self, messages: list[Message]) -> None:
        """Messages in the order they have in their streams; `receives.taken` counts them."""

    def on_parameter(self, kind: int, body: bytes) -> None:
        """A parameter of RE-CONFIG. May raise ValueError."""

    def is_same_host(self) -> bool:
        """Does the peer live on this machine?"""

    def receive_buffer(self) -> int:
        """Bytes the kernel grants a socket of ours for what has not been read; 0 if unknown."""

    def on_pass(self, progressed: bool) -> None:
        """Before what waits is sent. `progressed`: something was acknowledged since."""


class Association:
    """Made by the transport, which owns it and ends it by `abort`."""

    def __init__(
        self,
        owner: AssociationOwner,
        write: Callable[[list[bytes]], None],
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
        self._write_packets = write
        self._tag = tag
        self._port = port
        self._loop = asyncio.get_running_loop()
        self._accelerate = accelerate
        self._packet_maximum = packet_maximum
        self.remote_port = port
        self.state = State.NEW
        #: Data may pass: a state, kept for those who ask for each packet.
        self.is_up = False
        self.peer: Peer | None = None
        #: Both sides count what is acknowledged, so acknowledgements may wait and be few.
        self.patient = False
        #: Bytes of a packet that chunks may fill.
        self.path = PathMtuDiscovery()
        self.room = self.path.room
        self.sends = SendQueue(initial_tsn, self.room)
        self.receives = ReceiveQueue(capacity, maximum_message)
        handshake = Handshake(
            tag, initial_tsn, self.receives.window, packet_maximum if accelerate else 0
        )
        self._setup = Setup(self, self._loop, handshake)
        self._flush_due = False
        self._progressed = False
        self._replies = 0
        self._acknowledger = SackScheduler(self._loop, self.receives, self.acknowledge_soon)
        self._inbound = PacketReader(self, tag, owner.on_delivered)
        self._retransmission_timer = Timer(self._loop, self._on_retransmission_timeout)
        self._pace_timer = Timer(self._loop, self.flush_soon)

    # Life

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
                parts.insert(0, self.receives.encode_sack(self.room - len(parts[0])))
                self.write(parts)
            self.write(parts)
        self.close()

    def close(self) -> None:
        """End it without a word: there is nobody to tell."""
        self._inbound.deliver()
        if self.state is State.CLOSED:
            return
        self.change(State.CLOSED)
        self._setup.end()
        self._retransmission_timer.cancel()
        self._acknowledger.end()
        self._pace_timer.cancel()
        self._owner.on_ended()

    def change(self, state: State) -> None:
        logger.debug("association %08x: %s -> %s", self._tag, self.state.value, state.value)
        self.state = state
        self.is_up = state is State.UP or state is State.SHUTTING_DOWN

    # Sending

    def put(self, message: OutboundMessage) -> None:
        """Take a message, to be sent in the next pass of the loop."""
        self.sends.put(message)
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
            self._acknowledger.is_due = True
            self.flush_soon()

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Send a packet of these chunks at once."""
        self._write_packets([self._build(parts)])

    def _build(self, parts: list[bytes | memoryview]) -> bytes:
        tag = self.peer.tag if self.peer is not None else 0
        return build_packet(self._port, self.remote_port, tag, parts)

    def _flush(self) -> None:
        self._flush_due = False
        self._replies = 0
        self._acknowledger.begin_pass()
        if self.state is State.CLOSED:
            return
        self._inbound.deliver()
        progressed, self._progressed = self._progressed, False
        self._owner.on_pass(progressed)
        if self.is_up:
            if self.sends.has_work:
                self._transmit()
            if self._acknowledger.is_due:
                self._send_sack()
            if self.state is State.SHUTTING_DOWN and not self.sends.outstanding:
                self.write([chunk(SHUTDOWN_ACK)])

    def _transmit(self) -> None:
        sends, acknowledger = self.sends, self._acknowledger
        now = self._loop.time()
        packets: list[bytes] = []
        for _ in range(PACKETS_PER_PASS):
            wait = sends.ready(now)
            if wait is None:
                break
            if wait > 0:
                self._pace_timer.start(wait)
                break
            parts: list[bytes | memoryview] = []
            room = self.room
            if acknowledger.unacknowledged and not sends.to_resend and not self.receives.gaps:
                parts.append(acknowledger.take(room))
                room -= len(parts[0])
            parts += sends.fill(room, now, single=not self._accelerate)
            packets.append(self._build(parts))
        else:
            self.flush_soon()
        if packets:
            self._write_packets(packets)
        if sends.backlog and (probe := self.path.probe(now)):
            self.write(probe)
        if sends.outstanding or sends.waits_for_window:
            if sends.earliest_resent or not self._retransmission_timer.running:
                self._retransmission_timer.start(sends.timer())
        sends.earliest_resent = False

    def _send_sack(self) -> None:
        self.write([self._acknowledger.take(self.room)])

    def reply(self, answer: bytes) -> None:
        """Answer a control chunk, unless the peer has had its share of answers for now."""
        if self.may_reply():
            self.write([answer])

    def may_reply(self) -> bool:
        """Count an answer."""
        self._replies += 1
        self.flush_soon()
        return self._replies <= REPLIES_PER_PASS

    def path_changed(self) -> None:
        """Packets go another way now: do not wait for what was sent the old one."""
        if self.is_up:
            self.sends.path_changed()
            if self.path.retreat():
                self._resize()
            self._search_path(self._loop.time())
            self.flush_soon()

    # Receiving

    def handle(self, packet: bytes) -> None:
        """Take in a packet. Never raises for what is in it."""
        if self.state is not State.CLOSED:
            self._inbound.handle(packet, self._loop.time())

    def acknowledge(self, urgent: bool) -> None:
        """See to it that the packet with data that has just come is acknowledged."""
        acknowledger = self._acknowledger
        if acknowledger.packet_came():
            self._send_sack()
        elif urgent or not acknowledger.may_wait():
            self.acknowledge_soon()

    def on_chunk(self, kind: int, body: bytes) -> bool:
        """Take in a control chunk. False: ignore the rest of the packet."""
        if kind == HEARTBEAT:
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

    def take_sack(self, body: bytes) -> None:
        """Take in an acknowledgement. Raises ValueError for a malformed or false one."""
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

    def _on_forward_tsn(self, body: bytes) -> None:
        if not self.is_up:
            return
        self._inbound.keep(self.receives.forward(ForwardTsn.decode(body).cumulative))
        self.acknowledge_soon()
        self._inbound.deliver()

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
            same_host = self._owner.is_same_host()
            self.path.search(maximum, same_host, at)
            # A peer of ours there has asked the same kernel for the same.
            shared = same_host and self.peer.is_ours
            self.sends.window.floor = window_floor(self._owner.receive_buffer() if shared else 0)

    def _resize(self) -> None:
        """Packets may be larger, or must be smaller, than they were."""
        logger.debug("association %08x: packets of %d bytes", self._tag, self.path.size)
        self.room = self.path.room
        self.sends.resize(self.room, self.path.largest_chunk)

    # For the set-up

    def write_to(self, tag: int, part: bytes) -> None:
        """Send a chunk under another verification tag than the peer's."""
        self._write_packets([build_packet(self._port, self.remote_port, tag, [part])])

    def take(self, peer: Peer) -> None:
        """Adopt what the peer said of itself."""
        self.peer = peer
        self.receives.start(peer.initial_tsn)
        self.sends.peer_window = peer.window
        self.patient = peer.is_ours and self._accelerate
        self._acknowledger.start(patient=self.patient)

    def establish(self) -> None:
        assert self.peer is not None
        self.change(State.UP)
        self._search_path(self._loop.time())
        self._owner.on_established(self.peer)
        self.flush_soon()

    # Timers

    def _on_retransmission_timeout(self) -> None:
        sends, timer = self.sends, self._retransmission_timer
        if timer.late > LATE and not timer.postponed:
            # The acknowledgement may be lying in the socket: let it be read first. Once only, for
            # another thread may hold up each pass of the loop.
            timer.postpone(LATE / 2)
            return
        if not sends.probe():
            logger.debug("association %08x: retransmission timer expired", self._tag)
            if sends.timed_out():
                logger.info("the peer's transport does not answer any more: association given up")
                self._owner.on_given_up()
                self.abort()
                return
        if sends.stalls >= RETREAT_AFTER and self.path.retreat():
            self._resize()
            self._search_path(self._loop.time() + RETREAT_PAUSE)
        self.flush_soon()
