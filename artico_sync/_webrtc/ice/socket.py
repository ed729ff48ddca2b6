"""What arrives on one ICE socket, told apart: STUN to the checks, the rest to DTLS; loop thread."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Any, cast

from aioice import stun
from aioice.ice import StunProtocol
from aioice.turn import TurnTransport

from artico_sync._webrtc._aiortc.ice import unfinished_tasks_of

if TYPE_CHECKING:
    from artico_sync._webrtc.ice.agent import IceAgent

logger = logging.getLogger(__name__)

#: First bytes above this are DTLS or RTP, never STUN (RFC 7983).
STUN_FIRST_BYTE_MAXIMUM = 3
#: Seconds a TURN server is given to confirm that an allocation is no longer needed.
TURN_DELETE_TIMEOUT = 0.5


class IceSocket(StunProtocol):
    """A socket of an IceConnection, its own or one relayed over TURN."""

    receiver: IceAgent

    def __init__(self, receiver: IceAgent) -> None:
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
        if self.receiver.path.take(data, address, self):
            return
        try:
            message = stun.parse_message(data)
        except (ValueError, struct.error, IndexError):
            return  # not STUN, and nothing else begins like this
        try:
            self._message_received(message, address)
        except Exception:
            # Anybody may send to a UDP port; this must not reach the loop.
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
        self.receiver.socket_error(self, exc)

    async def close(self) -> None:
        """Close the socket; with TURN, try for a short time to give the allocation back."""
        if self._close_task is None:
            self._close_task = asyncio.create_task(self._close())
        await asyncio.shield(self._close_task)

    async def _close(self) -> None:
        if not isinstance(self.transport, TurnTransport):
            await super().close()
            return
        closed = asyncio.ensure_future(super().close())
        done, _ = await asyncio.wait([closed], timeout=TURN_DELETE_TIMEOUT)
        if not done:
            # A server that is gone would be asked for a minute. The attempt's own clean-up
            # closes the socket.
            for task in unfinished_tasks_of(self.transport):
                task.cancel()
            await asyncio.wait([closed], timeout=TURN_DELETE_TIMEOUT)
