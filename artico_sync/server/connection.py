"""One WebSocket under the Socket.IO server, with bounds both ways; the loop that serves.

It speaks ASGI's WebSocket messages to both sides, so that the same code runs under any ASGI server
and under aiohttp.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from artico_sync._protocol.token_bucket import TokenBucket
from artico_sync.server.events import Event
from artico_sync.server.limits import ServerLimits
from artico_sync.server.limits.address_limits import Address
from artico_sync.server.limits.send_budget import TotalSendBudget
from artico_sync.server.registry import Peer

logger = logging.getLogger("artico_sync.server")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Emit = Callable[[str, str], Awaitable[None]]

# Engine.IO packet types a client has business to send: close, pong, and message.
CLOSE, PONG, MESSAGE = "1", "3", "4"
# Socket.IO packet types in a message: connect, disconnect, event. The others would be answers to
# requests we never make, or binary.
SOCKETIO_TYPES = frozenset("012")
# The ends of a connection, Engine.IO's and Socket.IO's.
GOODBYES = (CLOSE, "41", "41/,")
# One more recipient of what a peer sends to a room costs about so much of a message.
RECIPIENT_COST = 0.1
#: Seconds a connection that is given up has to take what was waiting for it.
FAREWELL_TIMEOUT = 1.0
# Besides ASGI's messages: a ping or pong of the WebSocket's own, which was seen to.
CONTROL: Message = {"type": "artico_sync.control"}
DISCONNECTED: Message = {"type": "websocket.disconnect", "code": 1000}


class Link:
    """Stands between a WebSocket and the Socket.IO server.

    Args:
        receive, send: The WebSocket, as ASGI has it.
        address: Who is at the other end, with what all of that address do.
        total: What waits for all peers together.
        emit: Hands a packet to the Socket.IO server, with the session id it is for.
        on_dropped: Called when this connection is given up, before it has ended.
    """

    def __init__(
        self,
        receive: Receive,
        send: Send,
        address: Address,
        limits: ServerLimits,
        total: TotalSendBudget,
        emit: Emit,
        on_dropped: Callable[[Link], None],
    ) -> None:
        self._receive = receive
        self._send = send
        self._address = address
        self._limits = limits
        self._emit = emit
        self._on_dropped = on_dropped
        self._rate = TokenBucket(limits.signals_per_second, limits.signals_burst)
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun = False
        self._backlog = total.part(limits.max_unsent, self._give_up)
        self._sending: asyncio.Timeout | None = None
        self._cut_off: float | None = None
        #: Session id of the Socket.IO server, once it has one.
        self.sid: str | None = None
        #: Who this is, once admitted.
        self.peer: Peer | None = None
        #: Whether it has ended the connection itself, so that it will not come back for its calls.
        self.closed_cleanly = False

    # -- the hub's side ------------------------------------------------------------------

    async def deliver(self, event: Event) -> bool:
        """Send an event; False when the connection is ending, or the peer reads too slowly."""
        if self._dropped.done() or self.sid is None:
            return False
        await self._emit(self.sid, event.packet)
        return not self._dropped.done()

    def log_misbehaviour(self, message: str, *arguments: object) -> None:
        """Log what this peer did wrong, as often as its address deserves."""
        self._address.complaints.say(message, *arguments)

    def charge(self, recipients: int) -> None:
        """Count towards its rates that something it sent went to so many peers."""
        cost = RECIPIENT_COST * recipients
        self._rate.take(cost)
        self._address.signals.take(cost)

    def _give_up(self) -> None:
        # At once: what waits for it takes the memory that is wanted.
        self.drop("it does not read what it is sent", drain_timeout=0.0)

    def drop(self, reason: str, drain_timeout: float = FAREWELL_TIMEOUT) -> None:
        """End the connection after what was delivered so far; harmless when it has ended.

        Args:
            farewell: Seconds the peer has to take that.
        """
        if not self._dropped.done():
            logger.debug("dropping a connection: %s", reason)
            self._dropped.set_result(None)
            self._backlog.end()
            self._cut_off = asyncio.get_running_loop().time() + drain_timeout
            if self._sending is not None and not self._sending.expired():
                self._sending.reschedule(self._cut_off)
            self._on_dropped(self)

    # -- the Socket.IO server's side -----------------------------------------------------

    async def receive(self) -> Message:
        """The next message that is fit for the Socket.IO server's parser."""
        if not self._begun:
            self._begun = True
            return {"type": "websocket.connect"}
        while not self._dropped.done():
            message = await self._next()
            if message is CONTROL:
                await self._pace()
                continue
            if message["type"] != "websocket.receive":
                return message
            text = message.get("text")
            if isinstance(text, str) and len(text) > self._limits.max_message:
                self.drop("its message is too large")
                break
            frame = _fit(text)
            if frame in GOODBYES:
                self.closed_cleanly = True
            if frame == CLOSE:
                # Ended here: the Socket.IO server would go on reading without knowing the peer.
                self.drop("it said good-bye")
                break
            if frame is None:
                self.log_misbehaviour("dropped a frame that is not of the protocol")
            await self._pace()
            if frame is not None:
                return {"type": "websocket.receive", "text": frame}
        return DISCONNECTED

    async def _next(self) -> Message:
        receiving = asyncio.ensure_future(self._receive())
        either: set[asyncio.Future[Any]] = {receiving, self._dropped}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            receiving.cancel()
            raise
        if not receiving.done():
            # Ended here, so that nobody reads while the WebSocket is being closed.
            receiving.cancel()
            await asyncio.wait({receiving})
        if receiving.cancelled() or receiving.exception() is not None:
            return DISCONNECTED
        return receiving.result()

    async def _pace(self) -> None:
        # Reading slowly holds a fast sender by TCP itself, and loses nothing.
        pause = max(self._rate.take(), self._address.signals.take())
        if pause > 0:
            await asyncio.wait({self._dropped}, timeout=pause)

    def queue(self, packet: str) -> bool:
        """Count a packet that is about to wait for the peer; whether there is room for it."""
        if self._dropped.done():
            # The last words, and what was under way: nothing it sends is read any more.
            return True
        self._backlog.add(len(packet))
        return not self._dropped.done()

    async def send(self, message: Message) -> None:
        """Pass a message on, unless the other end has stopped reading."""
        text = message.get("text") if message["type"] == "websocket.send" else None
        end = self._cut_off or asyncio.get_running_loop().time() + self._limits.send_timeout
        try:
            async with asyncio.timeout_at(end) as self._sending:
                await self._send(message)
        except TimeoutError:
            self.drop("it does not read what it is sent")
            raise ConnectionResetError("the peer does not read") from None
        finally:
            self._sending = None
            if isinstance(text, str) and text.startswith(MESSAGE):
                self._backlog.remove(len(text) - len(MESSAGE))


def _fit(text: object) -> str | None:
    """The frame as the Engine.IO parser may have it; None for one it would raise on."""
    if not isinstance(text, str) or not text:
        return None
    if text[0] in (CLOSE, PONG):
        return text[0]
    if text[0] == MESSAGE and text[1:2] in SOCKETIO_TYPES and len(text) > 1:
        return text
    return None
