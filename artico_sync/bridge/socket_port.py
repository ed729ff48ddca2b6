"""`SocketSignaling` used by itself: its transport on the loop, its events on a dispatcher
thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from artico_sync.bridge.dispatcher import Dispatcher
from artico_sync.bridge.fork import ForkGuard
from artico_sync.bridge.loop import LoopLease, lease
from artico_sync.bridge.mailbox import Mailbox
from artico_sync.bridge.waiting import Deadline
from artico_sync.engine.signaling.server_url import ServerUrl
from artico_sync.errors import NotReadyError

if TYPE_CHECKING:
    from artico_sync.engine.signaling.transport import SignalingTransport

#: Events of a way to signal, each with its number of arguments.
SIGNALING_EVENTS = {"connect": 1, "disconnect": 0, "error": 1, "signal": 1, "join": 3}

# Seconds the dispatcher gets to finish what it is at when signalling is disconnected.
STOP_GRACE = 5.0


class SocketPort:
    """Stands between a `SocketSignaling` and its transport; the loop calls the `on_...` methods."""

    def __init__(self, url: str, id: str, token: str | None, emit: Callable[..., None]) -> None:
        # Checked without importing the network stack, which is not needed until somebody connects.
        ServerUrl.parse(url)
        self._url = url
        self._id = id
        self._token = token
        self._emit = emit
        self._dispatcher = Dispatcher(f"signaling-{id}")
        self._mailbox = Mailbox(
            f"signaling {id}", SIGNALING_EVENTS, self._dispatcher, ended=self._not_connected
        )
        for event in SIGNALING_EVENTS:
            self._mailbox.on(event, self._emitter(event))
        self._transport: SignalingTransport | None = None
        self._lease: LoopLease | None = None
        self._guard: ForkGuard | None = None

    def _emitter(self, event: str) -> Callable[..., None]:
        return lambda *arguments: self._emit(event, *arguments)

    def _not_connected(self) -> Exception:
        return NotReadyError("Not connected to the signalling server: connect() first.")

    @property
    def state(self) -> str:
        return "disconnected" if self._transport is None else self._transport.state

    def make_transport(self, id: str) -> SignalingTransport:
        from artico_sync.engine.signaling.socket import SocketTransport

        return SocketTransport(self._url, id, token=self._token)

    # the loop's side

    def on_ready(self, peer_id: str) -> None:
        self._mailbox.emit("connect", peer_id)

    def on_disconnected(self) -> None:
        self._mailbox.emit("disconnect")

    def on_error(self, error: Exception) -> None:
        self._mailbox.emit("error", error)

    def on_signal(self, message: dict[str, object]) -> None:
        self._mailbox.emit("signal", message)

    def on_gone(self, peer_id: str) -> None:
        """Of interest to calls only."""

    def on_back(self, peer_id: str) -> None:
        """Of interest to calls only."""

    def on_join(self, room: str, peer_id: str, metadata: str | None) -> None:
        self._mailbox.emit("join", room, peer_id, metadata)

    # the user's side

    def connect(self, timeout: float | None) -> None:
        deadline = Deadline(timeout)
        self._check_process()
        if self.state == "ready":
            return
        if self._lease is not None:
            self.disconnect()
        self._dispatcher.resume()
        self._guard = ForkGuard("signalling connection")
        self._lease = lease()
        self._transport = self.make_transport(self._id)
        try:
            self._lease.run(self._transport.open, self, timeout=deadline.remaining())
        except BaseException:
            self.disconnect()
            raise

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    def disconnect(self) -> None:
        self._check_process()
        self._guard = None
        loop_lease, self._lease = self._lease, None
        transport, self._transport = self._transport, None
        if loop_lease is None or transport is None:
            return
        try:
            # At the exit no thread would answer.
            if not loop_lease.is_over:
                loop_lease.run(transport.close)
        finally:
            loop_lease.release()
            self._dispatcher.stop(Deadline(STOP_GRACE))

    def _ready(self) -> tuple[LoopLease, SignalingTransport]:
        self._check_process()
        if self._lease is None or self._transport is None or self._transport.state != "ready":
            raise self._not_connected()
        return self._lease, self._transport

    def signal(self, message: dict[str, Any]) -> bool | None:
        loop_lease, transport = self._ready()

        async def send() -> bool | None:
            return await asyncio.wait_for(transport.send(message), STOP_GRACE)

        return loop_lease.run(send)

    def join(self, room: str, metadata: str | None) -> None:
        loop_lease, transport = self._ready()
        loop_lease.post(transport.join, room, metadata)
