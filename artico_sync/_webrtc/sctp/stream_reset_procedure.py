"""Closing data channels by resetting their streams both ways (RFC 8831 6.7); loop thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from artico_sync._webrtc.sctp.packets import PARAMETER_RESET_RESPONSE, TSN_MODULO, ResetResponse
from artico_sync._webrtc.sctp.stream_reset import IncomingResets, OutgoingResets
from artico_sync._webrtc.sctp.timer import Timer

if TYPE_CHECKING:
    from artico_sync._webrtc.sctp.association import Association

logger = logging.getLogger(__name__)

#: Requests without an answer after which a channel is closed without the peer.
ATTEMPTS = 10
#: Longest pause between two of them, in seconds.
PAUSE_MAXIMUM = 10.0


class StreamResetManager:
    """Part of the transport, and ended by it.

    Args:
        peer_closed: Told that the peer has reset its direction of these streams; empty for all.
        finished: Told that a stream is reset both ways and its number free.
    """

    def __init__(
        self,
        association: Association,
        loop: asyncio.AbstractEventLoop,
        initial_tsn: int,
        *,
        peer_closed: Callable[[tuple[int, ...]], None],
        finished: Callable[[int], None],
    ) -> None:
        self._association = association
        self._peer_closed = peer_closed
        self._finished = finished
        self._outgoing = OutgoingResets(initial_tsn)
        self._incoming = IncomingResets()
        self._timer = Timer(loop, self._on_timeout)
        self._inbound: set[int] = set()
        self._outbound: set[int] = set()

    def start(self, initial_tsn: int) -> None:
        """The association is up, and this is the peer's first TSN."""
        self._incoming.start(initial_tsn)

    def end(self) -> None:
        self._timer.cancel()

    def close(self, stream: int) -> None:
        """Reset our direction once everything queued is sent."""
        self._outgoing.want(stream)
        self._association.flush_soon()

    def forget(self, stream: int) -> None:
        self._inbound.discard(stream)
        self._outbound.discard(stream)

    def request(self) -> None:
        """Ask the peer for the resets that are due. Called before each flush."""
        if not self._outgoing.wanted:
            return
        association, sends = self._association, self._association.sends
        streams = [s for s in self._outgoing.candidates if not sends.has_queued(s)]
        if streams and association.is_up:
            last = (sends.next_tsn - 1) % TSN_MODULO
            self._outgoing.make(streams, last, self._incoming.last)
            association.write([self._outgoing.encode()])
            self._timer.start(sends.timeout.value)

    def take(self, kind: int, body: bytes) -> None:
        """Take in a parameter of RE-CONFIG. Raises ValueError for a malformed one."""
        if kind == PARAMETER_RESET_RESPONSE:
            self._on_response(ResetResponse.decode(body))
            return
        answer = self._incoming.receive(kind, body)
        if answer is not None:
            self._association.reply(answer)
        elif not self.perform():
            waiting = self._incoming.waiting()
            if waiting is not None:
                self._association.reply(waiting)

    def perform(self) -> bool:
        """Perform the peer's request if its data has all come. Was there one?"""
        performed = self._incoming.perform(self._association.receives.cumulative)
        if performed is None:
            return False
        request, answer = performed
        self._association.reply(answer)
        self._peer_closed(request.streams)
        return True

    def inbound_reset(self, stream: int) -> None:
        """The peer's direction of an open channel's stream is reset."""
        self._inbound.add(stream)
        self._maybe_finish(stream)

    def _on_response(self, response: ResetResponse) -> None:
        for stream in self._outgoing.answered(response):
            self._association.sends.outbound.sequences.pop(stream, None)
            self._outbound.add(stream)
            self._maybe_finish(stream)
        if self._outgoing.request is None:
            self._timer.cancel()
        self._association.flush_soon()

    def _maybe_finish(self, stream: int) -> None:
        if stream in self._inbound and stream in self._outbound:
            self._finished(stream)

    def _on_timeout(self) -> None:
        outgoing, association = self._outgoing, self._association
        if outgoing.request is None or not association.is_up:
            return
        outgoing.failures += 1
        if outgoing.failures > ATTEMPTS:
            logger.debug("the peer does not reset streams: their channels close without it")
            for stream in outgoing.abandon():
                self._finished(stream)
            return
        association.write([outgoing.encode()])
        timeout = association.sends.timeout.value
        self._timer.start(min(timeout * (1 << outgoing.failures), PAUSE_MAXIMUM))
