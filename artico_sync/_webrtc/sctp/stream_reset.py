"""Stream resets in both directions, which close data channels (RFC 6525, RFC 8831 6.7)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from struct import unpack_from
from typing import Protocol

from artico_sync._webrtc.sctp.packets import (
    PARAMETER_ADD_OUTGOING,
    PARAMETER_RESET_OUTGOING,
    PARAMETER_RESET_RESPONSE,
    RECONFIG,
    TSN_MODULO,
    ResetRequest,
    ResetResponse,
    chunk,
    encode_parameters,
    unwrap,
)
from artico_sync._webrtc.sctp.receive_queue import ReceiveQueue
from artico_sync._webrtc.sctp.retransmission_queue import RetransmissionQueue
from artico_sync._webrtc.sctp.timers import Timer

logger = logging.getLogger(__name__)

#: Results in a Re-configuration Response (RFC 6525 4.4).
NOTHING_TO_DO = 0
PERFORMED = 1
DENIED = 2
BAD_SEQUENCE = 5
IN_PROGRESS = 6

STREAMS_PER_REQUEST = 128
#: Retransmissions of a request after which its channels close without the peer.
MAX_RETRANSMITS = 10
RETRANSMIT_INTERVAL_MAX_SECONDS = 10.0
#: Requests with a sequence number that are always denied.
PARAMETER_RESET_INCOMING = 0x000E
PARAMETER_RESET_TSN = 0x000F
PARAMETER_ADD_INCOMING = 0x0012
_REFUSED = (PARAMETER_RESET_INCOMING, PARAMETER_RESET_TSN, PARAMETER_ADD_INCOMING)


class OutgoingResets:
    """Local requests: one at a time, made when no message of their streams waits to be sent."""

    def __init__(self, initial_tsn: int) -> None:
        self._sequence = initial_tsn
        #: Streams whose reset is still to be requested.
        self.waiting: list[int] = []
        self.request: ResetRequest | None = None
        #: How often the request was sent without a response.
        self.retransmits = 0
        # The peer answered "in progress": ask again, under a new sequence number.
        self._ask_again = False
        # All sequence numbers this request was sent under.
        self._sequences: set[int] = set()

    def enqueue(self, stream: int) -> None:
        """Add a stream to reset; has no effect if it is one already."""
        if stream not in self.waiting and not (self.request and stream in self.request.streams):
            self.waiting.append(stream)

    @property
    def candidates(self) -> list[int]:
        """Streams whose reset may be requested next."""
        return [] if self.request else self.waiting[:STREAMS_PER_REQUEST]

    def begin(self, streams: list[int], last_tsn: int, response: int) -> None:
        """Make a request for these streams."""
        self.waiting = [stream for stream in self.waiting if stream not in streams]
        self.request = ResetRequest(self._sequence, response, last_tsn, tuple(streams))
        self._sequence = (self._sequence + 1) % TSN_MODULO
        self.retransmits = 0
        self._sequences = {self.request.request}

    def encode(self) -> bytes:
        """Encode the request, under a new sequence number if the peer answered "in progress"."""
        assert self.request is not None
        if self._ask_again:
            self._ask_again = False
            self.request = replace(self.request, request=self._sequence)
            self._sequences.add(self._sequence)
            self._sequence = (self._sequence + 1) % TSN_MODULO
        return _reconfig(PARAMETER_RESET_OUTGOING, self.request.encode())

    def on_response(self, response: ResetResponse) -> tuple[int, ...]:
        """Return the streams this response finishes, granted or denied."""
        request = self.request
        if request is None or response.response not in self._sequences:
            return ()
        if response.result == IN_PROGRESS:
            self._ask_again = response.response == request.request
            self.retransmits = 0
            return ()
        if response.result == BAD_SEQUENCE and response.response != request.request:
            return ()
        self.request = None
        self._ask_again = False
        return request.streams

    def abandon(self) -> tuple[int, ...]:
        """Give up the request of a peer that does not answer; return its streams."""
        request, self.request = self.request, None
        self._ask_again = False
        return request.streams if request else ()


class IncomingResets:
    """Requests of the peer. One whose last TSN has not arrived is deferred until then."""

    def __init__(self) -> None:
        self._expected = 0
        self._result = NOTHING_TO_DO
        self._deferred: ResetRequest | None = None

    def start(self, initial_tsn: int) -> None:
        """Expect this sequence number first: the peer's initial TSN (RFC 6525 5.1.1)."""
        self._expected = initial_tsn

    @property
    def last(self) -> int:
        """The sequence number of the last request."""
        return (self._expected - 1) % TSN_MODULO

    def on_request(self, kind: int, body: bytes) -> bytes | None:
        """Process a request.

        Returns:
            The response to send now, None if `perform` makes it or nothing was asked.

        Raises:
            ValueError: Malformed.
        """
        if len(body) < 4:
            raise ValueError("re-configuration request is too short")
        sequence = unpack_from("!L", body)[0]
        request = ResetRequest.decode(body) if kind == PARAMETER_RESET_OUTGOING else None
        if request is None and kind != PARAMETER_ADD_OUTGOING and kind not in _REFUSED:
            return None
        if sequence == self._expected:
            self._expected = (sequence + 1) % TSN_MODULO
            if request is not None:
                self._deferred = request
                self._result = IN_PROGRESS
                return None  # `perform` makes the response.
            self._result = PERFORMED if kind == PARAMETER_ADD_OUTGOING else DENIED
        elif sequence != self.last:
            return encode_response(sequence, BAD_SEQUENCE)
        return encode_response(sequence, self._result)

    def perform(self, cumulative: int) -> tuple[ResetRequest, bytes] | None:
        """Return the deferred request and its response once its last TSN has arrived.

        RFC 6525 5.2.2.
        """
        request = self._deferred
        if request is None or unwrap(request.last_tsn, cumulative) > cumulative:
            return None
        self._deferred = None
        self._result = PERFORMED
        return request, encode_response(request.request, PERFORMED)

    def in_progress_response(self) -> bytes | None:
        """Return the response to a request that is deferred, if one is."""
        if self._deferred is None:
            return None
        return encode_response(self._deferred.request, IN_PROGRESS)


def encode_response(sequence: int, result: int) -> bytes:
    """Encode a RE-CONFIG chunk with a response."""
    return _reconfig(PARAMETER_RESET_RESPONSE, ResetResponse(sequence, result).encode())


def _reconfig(kind: int, body: bytes) -> bytes:
    return chunk(RECONFIG, encode_parameters(((kind, body),)))


class ResetOwner(Protocol):
    """The association as the stream resets see it."""

    #: True while data may be sent and received.
    is_established: bool
    #: Set to ask for a poll at the end of this pass of the event loop.
    poll_soon: bool

    def send_chunk(self, encoded: bytes) -> None: ...

    def reply(self, encoded: bytes) -> None:
        """Send an answer, unless the peer has had enough of them in this pass."""


class StreamResetManager:
    """Resets both directions of a stream, one after the other, and reports when both are.

    Args:
        owner: The association.
        retransmission_queue: Its sent data.
        receive_queue: Its received data.
        timer: Runs while a request waits for its response.
        initial_tsn: The local initial TSN.
        peer_reset: Called when the peer has reset its direction of these streams; empty for all.
        finished: Called when a stream is reset in both directions and its id is free.
    """

    def __init__(
        self,
        owner: ResetOwner,
        retransmission_queue: RetransmissionQueue,
        receive_queue: ReceiveQueue,
        timer: Timer,
        initial_tsn: int,
        *,
        peer_reset: Callable[[tuple[int, ...]], None],
        finished: Callable[[int], None],
    ) -> None:
        self._owner = owner
        self._retransmission_queue = retransmission_queue
        self._receive_queue = receive_queue
        self._timer = timer
        self._peer_reset = peer_reset
        self._finished = finished
        self._outgoing = OutgoingResets(initial_tsn)
        self._incoming = IncomingResets()
        self._inbound_reset: set[int] = set()
        self._outbound_reset: set[int] = set()

    def start(self, initial_tsn: int) -> None:
        """Begin, with the peer's initial TSN."""
        self._incoming.start(initial_tsn)

    def reset_outbound(self, stream: int) -> None:
        """Reset the local direction of a stream once its messages are sent."""
        self._outgoing.enqueue(stream)
        self._owner.poll_soon = True

    def on_inbound_reset(self, stream: int) -> None:
        """Note that the peer's direction of an open channel's stream is reset."""
        self._inbound_reset.add(stream)
        self._report_if_finished(stream)

    def forget(self, stream: int) -> None:
        """Drop the state of a closed stream."""
        self._inbound_reset.discard(stream)
        self._outbound_reset.discard(stream)

    def request_resets(self, now: float) -> None:
        """Send a request for the streams that have nothing left to send."""
        outgoing = self._outgoing
        if not outgoing.waiting:
            return
        queue = self._retransmission_queue
        has_messages_for = queue.send_queue.has_messages_for
        streams = [stream for stream in outgoing.candidates if not has_messages_for(stream)]
        if streams and self._owner.is_established:
            outgoing.begin(streams, (queue.next_tsn - 1) % TSN_MODULO, self._incoming.last)
            self._owner.send_chunk(outgoing.encode())
            self._timer.start(now + queue.timeout.rto)

    def on_parameter(self, kind: int, body: bytes) -> None:
        """Process a parameter of RE-CONFIG; raise ValueError if it is malformed."""
        if kind == PARAMETER_RESET_RESPONSE:
            self._on_response(ResetResponse.decode(body))
            return
        response = self._incoming.on_request(kind, body)
        if response is not None:
            self._owner.reply(response)
        elif not self.perform_deferred():
            response = self._incoming.in_progress_response()
            if response is not None:
                self._owner.reply(response)

    def perform_deferred(self) -> bool:
        """Perform the peer's request if its last TSN has arrived; return True if so."""
        performed = self._incoming.perform(self._receive_queue.cumulative_tsn)
        if performed is None:
            return False
        request, response = performed
        self._owner.reply(response)
        self._peer_reset(request.streams)
        return True

    def on_timeout(self, now: float) -> None:
        """Retransmit the request, or close its streams without the peer."""
        outgoing = self._outgoing
        if outgoing.request is None or not self._owner.is_established:
            return
        outgoing.retransmits += 1
        if outgoing.retransmits > MAX_RETRANSMITS:
            logger.debug("the peer does not reset streams: their channels close without it")
            for stream in outgoing.abandon():
                self._finished(stream)
            return
        self._owner.send_chunk(outgoing.encode())
        interval = self._retransmission_queue.timeout.rto * (1 << outgoing.retransmits)
        self._timer.start(now + min(interval, RETRANSMIT_INTERVAL_MAX_SECONDS))

    def _on_response(self, response: ResetResponse) -> None:
        for stream in self._outgoing.on_response(response):
            self._retransmission_queue.send_queue.next_ssn.pop(stream, None)
            self._outbound_reset.add(stream)
            self._report_if_finished(stream)
        if self._outgoing.request is None:
            self._timer.stop()
        self._owner.poll_soon = True

    def _report_if_finished(self, stream: int) -> None:
        if stream in self._inbound_reset and stream in self._outbound_reset:
            self._finished(stream)
