"""Resetting streams, which is how data channels close (RFC 6525, 8831 6.7); pure, loop thread."""

from __future__ import annotations

from dataclasses import replace
from struct import unpack_from

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

NOTHING_TO_DO = 0
PERFORMED = 1
DENIED = 2
BAD_SEQUENCE = 5
IN_PROGRESS = 6

STREAMS_PER_REQUEST = 128
#: Requests that carry a sequence number and that we have no use for.
PARAMETER_RESET_INCOMING = 0x000E
PARAMETER_RESET_TSN = 0x000F
PARAMETER_ADD_INCOMING = 0x0012
_REFUSED = (PARAMETER_RESET_INCOMING, PARAMETER_RESET_TSN, PARAMETER_ADD_INCOMING)


class OutgoingResets:
    """Our own requests: one at a time, made once nothing of the streams waits to be sent."""

    def __init__(self, initial_tsn: int) -> None:
        self._sequence = initial_tsn
        #: Streams whose reset has not been asked for yet.
        self.wanted: list[int] = []
        self.request: ResetRequest | None = None
        #: How often the request at hand went out without an answer.
        self.failures = 0
        self._deferred = False  # the peer waits for data and shall be asked once more
        self._earlier: set[int] = set()  # the numbers under which this request was made before

    def want(self, stream: int) -> None:
        if stream not in self.wanted and not (self.request and stream in self.request.streams):
            self.wanted.append(stream)

    @property
    def candidates(self) -> list[int]:
        """Streams whose reset may be asked for next."""
        return [] if self.request else self.wanted[:STREAMS_PER_REQUEST]

    def make(self, streams: list[int], last_tsn: int, response: int) -> None:
        """Begin a request for these streams."""
        self.wanted = [stream for stream in self.wanted if stream not in streams]
        self.request = ResetRequest(self._sequence, response, last_tsn, tuple(streams))
        self._sequence = (self._sequence + 1) % TSN_MODULO
        self.failures = 0
        self._earlier = {self.request.request}

    def encode(self) -> bytes:
        """The request at hand. Asked again after "in progress", it needs a number of its own."""
        assert self.request is not None
        if self._deferred:
            self._deferred = False
            self.request = replace(self.request, request=self._sequence)
            self._earlier.add(self._sequence)
            self._sequence = (self._sequence + 1) % TSN_MODULO
        return _reconfig(PARAMETER_RESET_OUTGOING, self.request.encode())

    def answered(self, response: ResetResponse) -> tuple[int, ...]:
        """The streams that are finished now, whether the peer agreed or not."""
        request = self.request
        if request is None or response.response not in self._earlier:
            return ()
        if response.result == IN_PROGRESS:
            self._deferred = response.response == request.request
            self.failures = 0
            return ()
        if response.result == BAD_SEQUENCE and response.response != request.request:
            return ()
        self.request = None
        self._deferred = False
        return request.streams

    def abandon(self) -> tuple[int, ...]:
        """The peer does not answer: the streams are finished without it."""
        request, self.request = self.request, None
        self._deferred = False
        return request.streams if request else ()


class IncomingResets:
    """The peer's requests. One that names data still under way waits for it."""

    def __init__(self) -> None:
        self._expected = 0
        self._result = NOTHING_TO_DO
        self._deferred: ResetRequest | None = None

    def start(self, initial_tsn: int) -> None:
        self._expected = initial_tsn

    @property
    def last(self) -> int:
        """The sequence number of the peer's last request."""
        return (self._expected - 1) % TSN_MODULO

    def receive(self, kind: int, body: bytes) -> bytes | None:
        """Take a request; the answer to send now, if any. Raises ValueError for a malformed one."""
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
                return None  # `perform` answers
            self._result = PERFORMED if kind == PARAMETER_ADD_OUTGOING else DENIED
        elif sequence != self.last:
            return encode_response(sequence, BAD_SEQUENCE)
        return encode_response(sequence, self._result)

    def perform(self, cumulative: int) -> tuple[ResetRequest, bytes] | None:
        """The request whose data has all come (RFC 6525 5.2.2), with its answer."""
        request = self._deferred
        if request is None or unwrap(request.last_tsn, cumulative) > cumulative:
            return None
        self._deferred = None
        self._result = PERFORMED
        return request, encode_response(request.request, PERFORMED)

    def waiting(self) -> bytes | None:
        """What to tell the peer about a request that cannot be performed yet."""
        if self._deferred is None:
            return None
        return encode_response(self._deferred.request, IN_PROGRESS)


def encode_response(sequence: int, result: int) -> bytes:
    return _reconfig(PARAMETER_RESET_RESPONSE, ResetResponse(sequence, result).encode())


def _reconfig(kind: int, body: bytes) -> bytes:
    return chunk(RECONFIG, encode_parameters(((kind, body),)))
