"""An SCTP association (RFC 9260), without input and output.

The owner passes packets and times in and sends the packets that come out:

- `receive(packet, now)` processes a packet;
- `packets_to_send()` returns the packets that must leave at once;
- `poll(now)` ends a pass of the event loop: it handles expired timers and returns packets with all
  data and SACKs that may be sent, bundled. `poll_soon` and `poll_now` ask for it;
- `next_timeout()` is the time by which `poll` must be called next.

It knows nothing of data channels and DTLS. Events are reported to an `AssociationOwner`.

Large because every chunk type and every timer of the protocol meets here.
"""

from __future__ import annotations

import logging

from artico_sync._webrtc.sctp.congestion import cwnd_cap
from artico_sync._webrtc.sctp.handshake import (
    HANDSHAKE_CHUNKS,
    Handshake,
    HandshakeChunks,
    PeerParameters,
    State,
)
from artico_sync._webrtc.sctp.packet_reader import AssociationOwner, PacketReader
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
from artico_sync._webrtc.sctp.receive_queue import ReceiveQueue, SackScheduler
from artico_sync._webrtc.sctp.retransmission_queue import RetransmissionQueue
from artico_sync._webrtc.sctp.send_queue import OutboundMessage
from artico_sync._webrtc.sctp.stream_reset import StreamResetManager
from artico_sync._webrtc.sctp.timers import AssociationTimers

logger = logging.getLogger(__name__)

#: Probes and timeouts without progress after which packets get the base size, and for how long at
#: least. A packet that provokes a SACK is small, so SACKs may arrive over a path that drops large
#: packets.
BLACK_HOLE_STALLS = 3
BLACK_HOLE_PAUSE_SECONDS = 30.0
#: Packets per poll, so that a pass of the event loop stays short.
PACKETS_PER_POLL = 64
#: Answers to control chunks per poll; a flood is not answered in full.
REPLIES_PER_POLL = 32
#: If T3-rtx is handled this late, the event loop was blocked, and the SACK may be unread.
LATE_SECONDS = 0.05


class Association:
    """Made by the transport, which owns it and ends it by `abort` or `close`.

    Large because it is the one place where the parts of the protocol meet: each control chunk and
    each timer has a method here, and the parts have the state.
    """

    def __init__(
        self,
        owner: AssociationOwner,
        *,
        tag: int,
        initial_tsn: int,
        port: int,
        capacity: int,
        maximum_message: int,
        packet_maximum: int,
        accelerate: bool,
    ) -> None:
        """Make the parts. Large because there are many of them.

        Args:
            owner: Receives the events.
            tag: The local verification tag, not zero.
            initial_tsn: The local initial TSN, 32 bits.
            port: The local SCTP port, and the peer's until `remote_port` is set.
            capacity: Bytes of the receive buffer.
            maximum_message: Largest message received, in bytes.
            packet_maximum: Largest packet received, in bytes.
            accelerate: Bundle chunks, delay SACKs and discover the path MTU.
        """
        self._owner = owner
        self._tag = tag
        self._port = port
        self._accelerate = accelerate
        self._packet_maximum = packet_maximum
        self.remote_port = port
        self.state = State.NEW
        #: True while data may be sent and received.
        self.is_established = False
        self.peer: PeerParameters | None = None
        #: Both sides count acknowledged bytes, so SACKs may be delayed and few.
        self.delayed_sack = False
        #: Ask the peer not to delay the SACK of the last waiting data; set by the owner.
        self.sack_immediately = False
        #: `poll` is wanted at the end of this pass of the event loop, or at once.
        self.poll_soon = self.poll_now = False
        self._output: list[bytes] = []
        self._path = PathMtuDiscovery()
        self.retransmission_queue = RetransmissionQueue(initial_tsn, self._path.payload_budget)
        self.receive_queue = ReceiveQueue(capacity, maximum_message)
        self._timers = AssociationTimers()
        self._handshake = Handshake(
            self,
            HandshakeChunks(
                tag, initial_tsn, self.receive_queue.a_rwnd, packet_maximum if accelerate else 0
            ),
            self._timers.t1,
        )
        self.stream_resets = StreamResetManager(
            self,
            self.retransmission_queue,
            self.receive_queue,
            self._timers.reset,
            initial_tsn,
            peer_reset=owner.on_streams_reset,
            finished=owner.on_stream_finished,
        )
        self._sacks = SackScheduler(self._timers.sack)
        self._reader = PacketReader(self, self.receive_queue, tag, owner.on_messages_received)
        self._has_progressed = False
        self._replies = 0

    # Input and output

    def receive(self, packet: bytes, now: float) -> None:
        """Process a packet. Never raises for its content."""
        if self.state is not State.CLOSED:
            self._reader.read_packet(packet, now)

    def packets_to_send(self) -> list[bytes]:
        """Return the packets that must leave at once, in order."""
        output, self._output = self._output, []
        return output

    def poll(self, now: float) -> list[bytes]:
        """End a pass of the event loop: return every packet that may be sent now."""
        self.poll_soon = self.poll_now = False
        self._replies = 0
        self._sacks.begin_pass()
        if self.state is State.CLOSED:
            return self.packets_to_send()
        if now >= self._timers.earliest:
            self._handle_timers(now)
        self._reader.deliver_messages()
        if self._has_progressed:
            self._has_progressed = False
            self._owner.on_acknowledged()
        self.stream_resets.request_resets(now)
        if self.is_established:
            queue = self.retransmission_queue
            if queue.has_data_to_send:
                self._transmit(now)
            if self._sacks.is_due:
                self._send_sack()
            if self.state is State.SHUTDOWN_RECEIVED and not queue.outstanding:
                self.send_chunk(chunk(SHUTDOWN_ACK))
        return self.packets_to_send()

    def next_timeout(self) -> float:
        """Return the time by which `poll` must be called, infinite if no timer runs."""
        return self._timers.next_deadline()

    @property
    def earliest_timeout(self) -> float:
        """A lower bound of `next_timeout()` that costs nothing to read."""
        return self._timers.earliest

    # Life

    def is_closed(self) -> bool:
        """Return True if the association has ended."""
        return self.state is State.CLOSED

    def connect(self, now: float) -> None:
        """Send an INIT. Both peers do (RFC 8841 9.3)."""
        self._handshake.start(now)

    def abort(self) -> None:
        """End the association with an ABORT."""
        if self.state in (State.NEW, State.CLOSED):
            self.close()
            return
        if self.peer is not None:
            cause = encode_parameters(((CAUSE_USER_INITIATED_ABORT, b"closed"),))
            parts: list[bytes | memoryview] = [chunk(ABORT, cause)]
            if self.is_established:
                # The peer must learn what has arrived, because no later SACK will say so. It is
                # sent twice, as a lost ABORT is not retransmitted.
                budget = self._path.payload_budget - len(parts[0])
                parts.insert(0, self.receive_queue.encode_sack(budget))
                self._send_parts(parts)
            self._send_parts(parts)
        self.close()

    def close(self) -> None:
        """End the association without a packet."""
        self._reader.deliver_messages()
        if self.state is State.CLOSED:
            return
        self.change_state(State.CLOSED)
        self._timers.stop_all()
        self._owner.on_closed()

    def change_state(self, state: State) -> None:
        """Enter a state; called by the handshake."""
        logger.debug("association %08x: %s -> %s", self._tag, self.state.value, state.value)
        self.state = state
        self.is_established = state is State.ESTABLISHED or state is State.SHUTDOWN_RECEIVED

    def adopt_peer(self, peer: PeerParameters) -> None:
        """Use the parameters of the peer's INIT or INIT ACK."""
        self.peer = peer
        self.receive_queue.start(peer.initial_tsn)
        self.stream_resets.start(peer.initial_tsn)
        self.retransmission_queue.peer_rwnd = peer.a_rwnd
        self.delayed_sack = peer.is_artico_sync and self._accelerate
        self._sacks.start(delayed_sack=self.delayed_sack)

    def establish(self, now: float) -> None:
        """Begin to exchange data: the handshake is complete."""
        assert self.peer is not None
        self.change_state(State.ESTABLISHED)
        self._search_path_mtu(now)
        self._owner.on_established(self.peer)
        self.poll_soon = True

    # Sending

    @property
    def rto(self) -> float:
        """The retransmission timeout in seconds."""
        return self.retransmission_queue.timeout.rto

    @property
    def packet_size(self) -> int:
        """The largest SCTP packet sent now, in bytes."""
        return self._path.mtu

    def enqueue_message(self, message: OutboundMessage) -> None:
        """Queue a message for the next poll."""
        self.retransmission_queue.enqueue_message(message)
        self.poll_soon = True

    def announce_window(self) -> None:
        """Send a SACK with the current window in the next poll."""
        if self.is_established:
            self._sacks.is_due = True
            self.poll_soon = True

    def send_chunk(self, encoded: bytes) -> None:
        """Send a chunk at once."""
        self._send_parts([encoded])

    def send_chunk_to(self, tag: int, encoded: bytes) -> None:
        """Send a chunk at once, under another verification tag than the peer's."""
        self._output.append(build_packet(self._port, self.remote_port, tag, [encoded]))

    def reply(self, encoded: bytes) -> None:
        """Send an answer to a control chunk, unless the peer has had enough in this pass."""
        if self.take_reply_budget():
            self.send_chunk(encoded)

    def take_reply_budget(self) -> bool:
        """Count an answer; return False if the peer has had enough in this pass."""
        self._replies += 1
        self.poll_soon = True
        return self._replies <= REPLIES_PER_POLL

    def _send_parts(self, parts: list[bytes | memoryview]) -> None:
        self._output.append(self._build(parts))

    def _build(self, parts: list[bytes | memoryview]) -> bytes:
        tag = self.peer.tag if self.peer is not None else 0
        return build_packet(self._port, self.remote_port, tag, parts)

    def _transmit(self, now: float) -> None:
        queue, sacks, output = self.retransmission_queue, self._sacks, self._output
        queue.send_queue.sack_immediately = self.sack_immediately or not self.delayed_sack
        payload_budget = self._path.payload_budget
        for _ in range(PACKETS_PER_POLL):
            delay = queue.send_delay(now)
            if delay is None:
                break
            if delay > 0:
                self._timers.pacing.start(now + delay)
                break
            parts: list[bytes | memoryview] = []
            budget = payload_budget
            if (
                sacks.unacknowledged_packets
                and not queue.to_retransmit
                and not self.receive_queue.has_gaps
            ):
                parts.append(self._encode_sack(budget))
                budget -= len(parts[0])
            parts += queue.fill_packet(budget, now, single=not self._accelerate)
            output.append(self._build(parts))
        else:
            self.poll_soon = True
        if queue.is_bulk and (probe := self._path.probe(now)):
            self._send_parts(probe)
        recovery = queue.recovery
        if queue.outstanding or queue.waits_for_rwnd:
            if recovery.earliest_retransmitted or not self._timers.t3.is_running:
                self._timers.t3.start(now + queue.t3_timeout())
        recovery.earliest_retransmitted = False

    def _encode_sack(self, budget: int) -> bytes:
        self._sacks.on_sack_sent()
        return self.receive_queue.encode_sack(budget)

    def _send_sack(self) -> None:
        self.send_chunk(self._encode_sack(self._path.payload_budget))

    # The path

    def on_path_change(self, now: float) -> None:
        """Retransmit what is in flight: packets take another network path from now on."""
        if self.is_established:
            self.retransmission_queue.on_path_change()
            if self._path.reset_to_base_mtu():
                self._apply_mtu()
            self._search_path_mtu(now)
            self.poll_soon = True

    def _search_path_mtu(self, at: float) -> None:
        if self._accelerate and self.peer is not None:
            maximum = min(self.peer.packet_maximum, self._packet_maximum)
            same_host = self._owner.is_same_host()
            self._path.search(maximum, same_host, at)
            # An artico_sync peer on this machine has the same socket buffers.
            shared = same_host and self.peer.is_artico_sync
            buffer = self._owner.receive_buffer() if shared else 0
            self.retransmission_queue.window.cap = cwnd_cap(buffer)

    def _apply_mtu(self) -> None:
        logger.debug("association %08x: packets of %d bytes", self._tag, self._path.mtu)
        self.retransmission_queue.set_mtu(self._path.payload_budget, self._path.largest_chunk)

    # Chunks of the peer

    def on_data_packet(self, urgent: bool, now: float) -> None:
        """Acknowledge a packet with data, now or later."""
        if self._sacks.on_data_packet():
            self._send_sack()
        elif urgent or not self._sacks.delay_sack(now):
            self.announce_window()

    def on_sack_chunk(self, body: bytes, now: float) -> None:
        """Process a SACK; raise ValueError if it is malformed or false."""
        if not self.is_established:
            return
        queue = self.retransmission_queue
        pending = queue.pending
        advanced = queue.on_sack(Sack.decode(body), now)
        if queue.pending < pending:
            self._has_progressed = True
        if not queue.outstanding:
            self._timers.t3.stop()
        elif advanced:
            self._timers.t3.start(now + queue.t3_timeout())

    def on_control_chunk(self, kind: int, body: bytes, now: float) -> bool:
        """Process any other chunk.

        Returns:
            False to ignore the rest of the packet.

        Raises:
            ValueError: Malformed.
        """
        if kind == HEARTBEAT:
            self.reply(chunk(HEARTBEAT_ACK, body))
        elif kind == HEARTBEAT_ACK:
            if self._path.on_heartbeat_ack(body):
                self._apply_mtu()
        elif kind == FORWARD_TSN:
            self._on_forward_tsn(body)
        elif kind == RECONFIG:
            self._on_reconfig(body)
        elif kind in HANDSHAKE_CHUNKS:
            self._handshake.on_chunk(kind, body, now)
        elif kind == ERROR:
            self._on_error(body)
        elif kind in (ABORT, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE):
            self._on_end(kind)
        else:
            return bool(kind & 0x80)  # The high bits say how to treat unknown types (3.2).
        return True

    def _on_end(self, kind: int) -> None:
        if kind == ABORT:
            logger.debug("association %08x: aborted by the peer", self._tag)
            self.close()
        elif kind == SHUTDOWN:
            if self.state is State.ESTABLISHED:
                self.change_state(State.SHUTDOWN_RECEIVED)
            if self.is_established:
                self.poll_soon = True
        elif kind == SHUTDOWN_ACK:
            self.reply(chunk(SHUTDOWN_COMPLETE))
            self.close()
        elif self.state is State.SHUTDOWN_RECEIVED:
            self.close()

    def _on_forward_tsn(self, body: bytes) -> None:
        if not self.is_established:
            return
        new_cumulative_tsn = ForwardTsn.decode(body).new_cumulative_tsn
        self._reader.add_messages(self.receive_queue.skip_to(new_cumulative_tsn))
        self.announce_window()
        self._reader.deliver_messages()

    def _on_reconfig(self, body: bytes) -> None:
        if self.is_established:
            for kind, value in decode_parameters(body):
                self.stream_resets.on_parameter(kind, value)

    def _on_error(self, body: bytes) -> None:
        for cause, _ in decode_parameters(body):
            logger.debug("association %08x: the peer reports error %d", self._tag, cause)
            if cause == CAUSE_STALE_COOKIE:
                self._handshake.on_stale_cookie()

    # Timers

    def _handle_timers(self, now: float) -> None:
        timers = self._timers
        late = now - timers.t3.deadline
        if timers.has_expired(timers.t3, now):
            self._on_t3_timer(late, now)
        if timers.has_expired(timers.sack, now):
            self.announce_window()
        if timers.has_expired(timers.t1, now):
            self._handshake.on_t1_expired(now)
        if timers.has_expired(timers.reset, now):
            self.stream_resets.on_timeout(now)
        # Paced sending continues in this poll.
        timers.has_expired(timers.pacing, now)
        timers.next_deadline()

    def _on_t3_timer(self, late: float, now: float) -> None:
        queue, t3 = self.retransmission_queue, self._timers.t3
        if late > LATE_SECONDS and not t3.is_postponed:
            # Let the socket be read first. Only once, because another thread may block every pass
            # of the event loop.
            t3.start(now + LATE_SECONDS / 2)
            t3.is_postponed = True
            return
        if not queue.outstanding:
            queue.zero_window_probe()
        elif not queue.tail_loss_probe():
            logger.debug("association %08x: T3-rtx expired", self._tag)
            if queue.on_t3_expired():
                logger.info("the peer's SCTP transport does not answer: association given up")
                self._owner.on_peer_unresponsive()
                self.abort()
                return
        if queue.recovery.stalls >= BLACK_HOLE_STALLS and self._path.reset_to_base_mtu():
            self._apply_mtu()
            self._search_path_mtu(now + BLACK_HOLE_PAUSE_SECONDS)
