"""Setting an SCTP association up: states, retransmission, collisions; loop thread."""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING

from artico_sync._webrtc.sctp.cookie import Handshake, StaleCookieError, describe
from artico_sync._webrtc.sctp.packets import (
    CAUSE_STALE_COOKIE,
    COOKIE_ACK,
    COOKIE_ECHO,
    ERROR,
    INIT,
    INIT_ACK,
    PARAMETER_COOKIE,
    Init,
    chunk,
    encode_parameters,
)
from artico_sync._webrtc.sctp.timer import Timer

if TYPE_CHECKING:
    from artico_sync._webrtc.sctp.association import Association

logger = logging.getLogger(__name__)

SETUP_CHUNKS = frozenset((INIT, INIT_ACK, COOKIE_ECHO, COOKIE_ACK))
ATTEMPTS = 8
#: Longest pause between two attempts, in seconds.
PAUSE_MAXIMUM = 10.0


class State(enum.Enum):
    """What an association is at."""

    NEW = "new"
    INIT_SENT = "init sent"
    COOKIE_SENT = "cookie sent"
    UP = "up"
    SHUTTING_DOWN = "shutting down"
    CLOSED = "closed"


class Setup:
    """Part of an association, and ended by it. Both sides send an INIT (RFC 8841 9.3)."""

    def __init__(
        self, association: Association, loop: asyncio.AbstractEventLoop, handshake: Handshake
    ) -> None:
        self._association = association
        self._loop = loop
        self._handshake = handshake
        self._chunk = b""
        self._failures = 0
        self._timer = Timer(loop, self._on_timeout)

    def start(self) -> None:
        self._association.change(State.INIT_SENT)
        self._send(self._handshake.init())

    def begin_anew(self) -> None:
        """Our cookie was too old when it arrived."""
        if self._association.state is State.COOKIE_SENT:
            self._association.change(State.INIT_SENT)
            self._chunk = self._handshake.init()

    def end(self) -> None:
        self._timer.cancel()

    def take(self, kind: int, body: bytes) -> None:
        """Take in a chunk of the set-up. Raises ValueError for a malformed one."""
        if kind == INIT:
            self._on_init(body)
        elif kind == INIT_ACK:
            self._on_init_ack(body)
        elif kind == COOKIE_ECHO:
            self._on_cookie_echo(body)
        elif kind == COOKIE_ACK and self._association.state is State.COOKIE_SENT:
            self._establish()

    def _send(self, setup: bytes) -> None:
        self._chunk = setup
        self._failures = 0
        self._write()
        self._timer.start(self._association.sends.timeout.value)

    def _write(self) -> None:
        if self._association.state is State.INIT_SENT:
            self._association.write_to(0, self._chunk)
        else:
            self._association.write([self._chunk])

    def _on_timeout(self) -> None:
        self._failures += 1
        if self._failures > ATTEMPTS:
            logger.debug("the peer does not answer: no association")
            self._association.close()
            return
        self._write()
        timeout = self._association.sends.timeout.value
        self._timer.start(min(timeout * (1 << self._failures), PAUSE_MAXIMUM))

    def _on_init(self, body: bytes) -> None:
        association = self._association
        init = Init.decode(body)
        if association.is_up and association.peer and init.tag != association.peer.tag:
            logger.debug("INIT of another association dropped")
        elif association.may_reply():
            answer = self._handshake.init_ack(init, self._loop.time())
            association.write_to(init.tag, answer)

    def _on_init_ack(self, body: bytes) -> None:
        association = self._association
        if association.state is not State.INIT_SENT:
            return
        init = Init.decode(body)
        cookie = init.parameter(PARAMETER_COOKIE)
        if cookie is None:
            raise ValueError("INIT ACK without a cookie")
        association.take(describe(init))
        association.change(State.COOKIE_SENT)
        self._send(chunk(COOKIE_ECHO, cookie))

    def _on_cookie_echo(self, body: bytes) -> None:
        association = self._association
        try:
            peer = self._handshake.read_cookie(body, self._loop.time())
        except StaleCookieError:
            cause = encode_parameters(((CAUSE_STALE_COOKIE, bytes(4)),))
            if association.peer is not None:
                association.reply(chunk(ERROR, cause))
            return
        if association.is_up:
            if association.peer is not None and peer.tag == association.peer.tag:
                association.reply(chunk(COOKIE_ACK))  # the first answer was lost
            return
        association.take(peer)
        association.write([chunk(COOKIE_ACK)])
        self._establish()

    def _establish(self) -> None:
        self._timer.cancel()
        self._association.establish()
