"""One WebSocket under the Socket.IO server, with bounds in both directions.

Both sides exchange ASGI's WebSocket messages with it, so that the same code runs under any ASGI
server and under aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from artico_sync._protocol.token_bucket import TokenBucket
from artico_sync.server.limits import ServerLimits
from artico_sync.server.limits.address_limits import Address
from artico_sync.server.limits.send_budget import TotalSendBudget
from artico_sync.server.messages import EncodedEvent
from artico_sync.server.registry import Peer

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
SendPacket = Callable[[str, str], Awaitable[None]]

# Engine.IO packet types accepted from clients.
CLOSE, PONG, MESSAGE = "1", "3", "4"
# Socket.IO packet types accepted in a message: connect, disconnect, event. The others answer
# requests, which this server never makes, or are binary.
SOCKETIO_TYPES = frozenset("012")
# The frames by which a client ends its connection: of Engine.IO, of Socket.IO.
CLOSING_FRAMES = (CLOSE, "41", "41/,")
#: Share of a message that a join counts for each member of the room it is announced to.
RECIPIENT_COST = 0.1
#: Seconds a dropped connection has to receive what is queued for it.
DRAIN_SECONDS = 1.0
# Besides ASGI's messages: a WebSocket ping or pong, which has been handled.
CONTROL: Message = {"type": "artico_sync.control"}
DISCONNECTED: Message = {"type": "websocket.disconnect", "code": 1000}


class Connection:
    """Filters and paces what goes between a WebSocket and the Socket.IO server.

    Args:
        receive, send: The WebSocket, as in ASGI.
        address: The client's address, with the limits that its connections share.
        total: The send budget of all connections.
        send_packet: Passes an encoded packet to the Socket.IO server, with the session id.
        on_dropped: Called once, when this connection is given up or has ended.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        address: Address,
        limits: ServerLimits,
        total: TotalSendBudget,
        send_packet: SendPacket,
        on_dropped: Callable[[Connection], None],
    ) -> None:
        self._receive = receive
        self._send = send
        self._address = address
        self._limits = limits
        self._send_packet = send_packet
        self._on_dropped = on_dropped
        self._signals = TokenBucket(limits.signals_per_second, limits.signals_burst)
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._accepted = False
        self._send_budget = total.allot(limits.max_unsent, self._on_overflow)
        self._send_timeout: asyncio.Timeout | None = None
        self._drain_deadline: float | None = None
        #: Session id of the Socket.IO server; None before the client has connected to it.
        self.sid: str | None = None
        #: The peer, once admitted.
        self.peer: Peer | None = None
        #: Whether the client has ended the connection itself, so that it will not reconnect.
        self.closed_cleanly = False

    # -- for the registry ----------------------------------------------------------------

    async def deliver_event(self, event: EncodedEvent) -> bool:
        """Send an event; return False if the connection is ending or the peer reads too slowly."""
        if self._dropped.done() or self.sid is None:
            return False
        await self._send_packet(self.sid, event.packet)
        return not self._dropped.done()

    def log_misbehavior(self, message: str, *arguments: object) -> None:
        """Log a fault of this peer, at the rate that its address may cause log lines."""
        self._address.log_throttle.warn(message, *arguments)

    def charge_recipients(self, recipients: int) -> None:
        """Count a message's recipients towards the rates of this peer and its address."""
        cost = RECIPIENT_COST * recipients
        self._signals.charge(cost)
        self._address.signals.charge(cost)

    def _on_overflow(self) -> None:
        # Not drained, because what is queued takes the memory to be freed.
        self.drop("it does not read what it is sent", drain_timeout=0.0)

    def drop(self, reason: str, drain_timeout: float = DRAIN_SECONDS) -> None:
        """End the connection after sending what is queued; has no effect if it is ending already.

        Args:
            drain_timeout: Seconds the peer has to receive that.
        """
        if not self._dropped.done():
            logger.debug("dropping a connection: %s", reason)
            self._dropped.set_result(None)
            self._send_budget.end()
            self._drain_deadline = asyncio.get_running_loop().time() + drain_timeout
            if self._send_timeout is not None and not self._send_timeout.expired():
                self._send_timeout.reschedule(self._drain_deadline)
            self._on_dropped(self)

    # -- for the Socket.IO server --------------------------------------------------------

    async def receive(self) -> Message:
        """Return the next message that the Socket.IO server's parser accepts."""
        if not self._accepted:
            self._accepted = True
            return {"type": "websocket.connect"}
        while not self._dropped.done():
            message = await self._receive_unless_dropped()
            if message is CONTROL:
                await self._pace()
                continue
            if message["type"] != "websocket.receive":
                return message
            text = message.get("text")
            if isinstance(text, str) and len(text) > self._limits.max_message:
                self.drop("its message is too large")
                break
            frame = _accepted_frame(text)
            if frame in CLOSING_FRAMES:
                self.closed_cleanly = True
            if frame == CLOSE:
                # Not passed on, because the Socket.IO server would go on reading.
                self.drop("closed by the client")
                break
            if frame is None:
                self.log_misbehavior("dropped a frame that is not of the protocol")
            await self._pace()
            if frame is not None:
                return {"type": "websocket.receive", "text": frame}
        return DISCONNECTED

    async def _receive_unless_dropped(self) -> Message:
        receiving = asyncio.ensure_future(self._receive())
        either: set[asyncio.Future[Any]] = {receiving, self._dropped}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            receiving.cancel()
            raise
        if not receiving.done():
            # Awaited, so that no task reads while the WebSocket is being closed.
            receiving.cancel()
            await asyncio.wait({receiving})
        if receiving.cancelled() or receiving.exception() is not None:
            return DISCONNECTED
        return receiving.result()

    async def _pace(self) -> None:
        # Reading slowly makes TCP hold back a fast sender, and loses nothing.
        pause = max(self._signals.charge(), self._address.signals.charge())
        if pause > 0:
            await asyncio.wait({self._dropped}, timeout=pause)

    def reserve_packet(self, packet: str) -> bool:
        """Count a packet that is about to be queued, and return whether it may be."""
        if self._dropped.done():
            # The last packets; the client's packets are no longer read.
            return True
        self._send_budget.add(len(packet))
        return not self._dropped.done()

    async def send(self, message: Message) -> None:
        """Send a message, unless the peer has stopped reading."""
        text = message.get("text") if message["type"] == "websocket.send" else None
        deadline = self._drain_deadline
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._limits.send_timeout
        try:
            async with asyncio.timeout_at(deadline) as self._send_timeout:
                await self._send(message)
        except TimeoutError:
            self.drop("it does not read what it is sent")
            raise ConnectionResetError("the peer does not read") from None
        finally:
            self._send_timeout = None
            if isinstance(text, str) and text.startswith(MESSAGE):
                self._send_budget.remove(len(text) - len(MESSAGE))


def _accepted_frame(text: object) -> str | None:
    """Return a frame that the Engine.IO parser accepts; None for one it would raise on."""
    if not isinstance(text, str) or not text:
        return None
    if text[0] in (CLOSE, PONG):
        return text[0]
    if text[0] == MESSAGE and text[1:2] in SOCKETIO_TYPES and len(text) > 1:
        return text
    return None
