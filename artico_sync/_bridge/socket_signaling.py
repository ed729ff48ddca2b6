"""`SocketSignaling` used by itself: its transport on the loop, its events on a dispatcher
thread."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.fork import ForkGuard
from artico_sync._bridge.portal import Portal, assert_not_loop_thread, lease
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.transport import SignalingTransport, leave
from artico_sync.errors import NotReadyError, SignalingError

#: Events of a way to signal, each with its number of arguments.
SIGNALING_EVENTS = {"connect": 1, "disconnect": 0, "error": 1, "signal": 1, "join": 3}

# Seconds the dispatcher gets to finish what it is at when signalling is disconnected.
STOP_GRACE = 5.0

# Seconds the server has to say whether a message was delivered.
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Link:
    """A connection and its hold on the loop, which begin and end together."""

    lease: Portal
    transport: SignalingTransport
    guard: ForkGuard


class SocketSignalingBridge:
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
        # Held while connecting, so that a second thread finds it done; `_lock` alone or within it.
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._link: Link | None = None

    def _emitter(self, event: str) -> Callable[..., None]:
        return lambda *arguments: self._emit(event, *arguments)

    def _not_connected(self) -> Exception:
        return NotReadyError("Not connected to the signalling server: connect() first.")

    @property
    def state(self) -> str:
        link = self._link
        return "disconnected" if link is None else link.transport.state

    def make_transport(self, id: str) -> SignalingTransport:
        from artico_sync._engine.signaling.socket import SocketTransport

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
        assert_not_loop_thread()
        self._check_process()
        try:
            with self._connecting:
                if self.state != "ready":
                    self._leave()
                    self._connect(deadline)
        except BaseException:
            self._dispatcher.wait_ended(Deadline(STOP_GRACE))
            raise

    def _connect(self, deadline: Deadline) -> None:
        self._dispatcher.resume()
        guard = ForkGuard("signalling connection")
        link = self._link = Link(lease(), self.make_transport(self._id), guard)
        link.lease.at_exit(functools.partial(leave, link.transport))
        try:
            link.lease.run(link.transport.open, self, timeout=deadline.remaining())
            if self._link is not link:
                # Another thread disconnected before the transport could know.
                link.lease.run(link.transport.close)
                raise SignalingError("The signalling was disconnected while connecting.")
        except BaseException:
            self._leave()
            raise

    def _check_process(self) -> None:
        link = self._link
        if link is not None:
            link.guard.check()

    def disconnect(self) -> None:
        assert_not_loop_thread()
        self._check_process()
        if self._leave():
            self._dispatcher.wait_ended(Deadline(STOP_GRACE))

    def _leave(self) -> bool:
        """Give the link up, if there is one and no other thread does; returns whether it was."""
        with self._lock:
            link, self._link = self._link, None
        if link is None:
            return False
        try:
            # At the exit no thread would answer.
            if not link.lease.is_over:
                link.lease.run(link.transport.close)
        finally:
            link.lease.release()
            self._dispatcher.order_stop()
        return True

    def _ready(self) -> Link:
        self._check_process()
        link = self._link
        if link is None or link.transport.state != "ready":
            raise self._not_connected()
        return link

    def signal(self, message: dict[str, Any]) -> bool | None:
        link = self._ready()

        async def send() -> bool | None:
            try:
                return await asyncio.wait_for(link.transport.send(message), ANSWER_SECONDS)
            except TimeoutError as error:
                raise Deadline(ANSWER_SECONDS).error("the server to answer") from error

        return link.lease.run(send)

    def join(self, room: str, metadata: str | None) -> None:
        link = self._ready()
        link.lease.post(link.transport.join, room, metadata)
