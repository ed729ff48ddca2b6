"""Sockets of an ICE agent: STUN goes to the connectivity checks, the rest to DTLS (RFC 7983)."""

from __future__ import annotations

import asyncio
import errno
import logging
import struct
from abc import ABC, abstractmethod
from typing import Any, cast

from aioice import stun
from aioice.ice import StunProtocol
from aioice.turn import TurnTransport

from artico_sync._webrtc._aiortc.ice import AioiceConnection, unfinished_tasks_of
from artico_sync._webrtc.ice.selected_pair import SelectedPair

logger = logging.getLogger(__name__)

#: First bytes above this are DTLS or RTP, never STUN (RFC 7983).
STUN_FIRST_BYTE_MAXIMUM = 3
#: Seconds a TURN server has to confirm the deletion of an allocation.
TURN_DELETE_TIMEOUT_SECONDS = 0.5

#: Errors of a socket that do not mean that the path is unusable.
TRANSIENT_ERRORS = frozenset(
    {errno.EMSGSIZE, errno.ENOBUFS, errno.EPERM, errno.EACCES, errno.ECONNREFUSED}
)


class SocketOwner(AioiceConnection, ABC):
    """The interface of an agent to its sockets."""

    #: The pair in use, which handles the STUN messages of consent.
    path: SelectedPair

    @abstractmethod
    def payload_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Receive a datagram that is not STUN."""

    @abstractmethod
    def socket_error(self, protocol: StunProtocol, exc: Exception | None) -> None:
        """Handle the system's refusal to send or receive on a socket, or its loss (None)."""


class IceSocket(StunProtocol):
    """A socket of an ICE agent, either local or relayed over TURN."""

    receiver: SocketOwner

    def __init__(self, receiver: SocketOwner) -> None:
        super().__init__(receiver)
        self._close_task: asyncio.Task[None] | None = None

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        data = cast(bytes, data)
        if not data:
            return
        address = (addr[0], addr[1])
        if data[0] > STUN_FIRST_BYTE_MAXIMUM:
            self.receiver.payload_received(data, address)
            return
        if self.receiver.path.handle_stun(data, address, self):
            return
        try:
            message = stun.parse_message(data)
        except (ValueError, struct.error, IndexError):
            return  # not STUN, and no other protocol begins with such a byte
        try:
            self._message_received(message, address)
        except Exception:
            # Any host may send to a UDP port; its messages must not raise into the loop.
            logger.warning("A STUN message from %s could not be handled", address, exc_info=True)

    def _message_received(self, message: stun.Message, address: tuple[str, int]) -> None:
        if message.message_class in (stun.Class.RESPONSE, stun.Class.ERROR):
            transaction = self.transactions.get(message.transaction_id)
            if transaction is not None:
                transaction.response_received(message, address)
        elif message.message_class == stun.Class.REQUEST:
            self.receiver.request_received(message, address, self)

    def error_received(self, exc: Exception) -> None:
        super().error_received(exc)
        if not (isinstance(exc, OSError) and exc.errno in TRANSIENT_ERRORS):
            self.receiver.socket_error(self, exc)

    async def close(self) -> None:
        """Close the socket; with TURN, try for a short time to delete the allocation."""
        if self._close_task is None:
            self._close_task = asyncio.create_task(self._close())
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        if not isinstance(self.transport, TurnTransport):
            await super().close()
            return
        closed = asyncio.ensure_future(super().close())
        done, _ = await asyncio.wait([closed], timeout=TURN_DELETE_TIMEOUT_SECONDS)
        if not done:
            # aioice would ask an unreachable server for a minute. Cancelling its tasks closes the
            # socket.
            for task in unfinished_tasks_of(self.transport):
                task.cancel()
            await asyncio.wait([closed], timeout=TURN_DELETE_TIMEOUT_SECONDS)
