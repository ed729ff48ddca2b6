"""The crossing of a client: connecting, incoming calls, and the waits for either.

Lock order: `_condition`, then the lock of the loop's inbox; it is never held while waiting for the
loop or for a thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.call import CallBridge
from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import Portal, acquire_portal, assert_not_loop_thread
from artico_sync._bridge.streams import RemoteFactory
from artico_sync._bridge.threads import ForkGuard, join_finished_workers
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync._engine.signaling.transport import SignalingTransport
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.configuration import (
    DEFAULT_SERVERS,
    build_configuration,
    check_configuration,
)
from artico_sync.errors import ArticoError, ArticoTimeoutError, NotReadyError

if TYPE_CHECKING:
    from artico_sync._engine.client import Client
    from artico_sync._engine.session import Session

__all__ = ["CLIENT_EVENTS", "DEFAULT_SERVERS", "ClientBridge", "check_configuration"]

logger = logging.getLogger(__name__)

#: Events of a client, each with its number of arguments.
CLIENT_EVENTS = {"open": 1, "close": 0, "error": 1, "call": 2, "reconnecting": 0}

#: Seconds an interrupted close gets to notify the peers and the server.
GOODBYE_SECONDS = 0.5

TransportFactory = Callable[[Portal], SignalingTransport]
CallFactory = Callable[[CallBridge, "str | None"], Any]


class ClientBridge:
    """Stands between an `Artico` and the engine's `Client`; the loop calls the `on_...` methods,
    users the others.

    Args:
        name: The name of the client in the log and of its threads.
        settings: Thresholds and limits.
        configuration: As returned by `check_configuration`.
        make_call: Makes the user's object of a call from its bridge and metadata; any thread.
        make_remote: Makes the user's objects of the peer's streams.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        configuration: object,
        make_call: CallFactory,
        make_remote: RemoteFactory,
    ) -> None:
        self._settings = settings
        self._configuration = configuration
        self._make_call = make_call
        self._make_remote = make_remote
        self._condition = Condition(threading.RLock())
        self._dispatcher = Dispatcher(name)
        self.mailbox = Mailbox(
            f"client {name}", CLIENT_EVENTS, self._dispatcher, ended=self._ended_error
        )
        self.state = "disconnected"
        self._phase = "idle"  # idle, connecting, connected, closing, closed
        self._opening: asyncio.Task[None] | None = None
        self._connect_cancelled = False
        self._portal: Portal | None = None
        self._client: Client | None = None
        self._guard: ForkGuard | None = None
        self._calls: dict[str, Any] = {}

    # the loop's side

    def on_state(self, state: str) -> None:
        with self._condition:
            self.state = state
            self._condition.notify_all()

    def on_event(self, name: str, *arguments: Any) -> None:
        self.mailbox.emit(name, *arguments)

    def on_incoming(self, session: Session) -> CallBridge:
        bridge = self._make_call_bridge(session.session, session.target, initiator=False)
        bridge.bind(session)
        call = self._make_call(bridge, session.metadata)
        with self._condition:
            self._calls[session.session] = call
        self.mailbox.emit("call", call, session.metadata)
        return bridge

    def on_session_ended(self, session: str) -> None:
        with self._condition:
            self._calls.pop(session, None)

    # the user's side

    def check_process(self) -> None:
        """Refuse any use in a child of the process that connected."""
        if self._guard is not None:
            self._guard.check()

    def check(self) -> None:
        """Refuse blocking calls from the loop thread, and any use in a child process."""
        self.check_process()
        assert_not_loop_thread()

    @property
    def calls(self) -> tuple[Any, ...]:
        self.check_process()
        with self._condition:
            return tuple(self._calls.values())

    def _ended_error(self) -> Exception:
        return NotReadyError("The client is closed: connect() it again to go on.")

    def _make_call_bridge(self, session: str, target: str, *, initiator: bool) -> CallBridge:
        assert self._portal is not None and self._guard is not None
        return CallBridge(
            self._portal,
            self._dispatcher,
            self._guard,
            self._settings,
            session=session,
            target=target,
            initiator=initiator,
            make_remote=self._make_remote,
        )

    def connect(self, make_transport: TransportFactory, deadline: Deadline) -> None:
        """Connect, or wait for another thread that is connecting.

        Raises:
            SignalingError: The server cannot be reached, or refuses; a subclass says why.
            ArticoTimeoutError: The deadline passed.
        """
        with self._condition:
            while self._phase in ("connecting", "closing"):
                if deadline.expired:
                    raise deadline.error("signaling to be ready")
                self._condition.wait(deadline.slice())
            if self._phase == "connected":
                if wait_until(self._condition, self._is_ready_or_closed, deadline):
                    if self.state == "ready":
                        return
                    raise self._ended_error()
                raise deadline.error("signaling to be ready again")
            self._phase = "connecting"
            self._connect_cancelled = False
        try:
            self._connect(make_transport, deadline)
        except BaseException:
            self._set_phase("idle")
            raise
        self._set_phase("connected")

    def _is_ready_or_closed(self) -> bool:
        return self.state == "ready" or self._phase != "connected"

    def _set_phase(self, phase: str) -> None:
        with self._condition:
            self._phase = phase
            self._condition.notify_all()

    def _connect(self, make_transport: TransportFactory, deadline: Deadline) -> None:
        from artico_sync._engine.client import Client

        self._dispatcher.resume()
        self.mailbox.reopen()
        self._guard = ForkGuard("client")
        self._portal = portal = acquire_portal()
        try:
            configuration = build_configuration(self._configuration)
            client = Client(make_transport(portal), self, configuration, self._settings)
            self._client = client
            try:
                portal.run(self._open, client, timeout=deadline.remaining())
            except ArticoTimeoutError as error:
                raise deadline.error("signaling to be ready") from error
            portal.at_exit(client.abort)
        except BaseException:
            self._abandon(portal)
            raise

    def _abandon(self, portal: Portal) -> None:
        """Leave nothing of a client whose connecting was given up: it may have been ready for a
        moment, in which calls came in."""
        try:
            if self._client is not None:
                portal.run(self._client.close, 0.0)
        finally:
            self._client = self._portal = self._guard = None
            self.state = "disconnected"
            portal.release()
            self._dispatcher.stop(Deadline(0))

    async def _open(self, client: Client) -> None:
        self._opening = asyncio.current_task()
        try:
            if self._connect_cancelled:
                raise asyncio.CancelledError
            await client.open()
        finally:
            self._opening = None

    def _cancel_connecting(self) -> None:
        # Either `_open` has not begun and sees the flag, or it is cancelled.
        self._connect_cancelled = True
        portal = self._portal
        if portal is not None:
            portal.post(self._cancel_opening)

    def _cancel_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()

    def place(self, session: str, target: str, metadata: str | None) -> Any:
        """Start a call; return the user's object of it.

        Raises:
            NotReadyError: Signaling is not ready.
        """
        self.check_process()
        with self._condition:
            if self.state != "ready" or self._phase != "connected":
                raise NotReadyError("Cannot call peers until signaling is ready.", peer=target)
            assert self._client is not None and self._portal is not None
            bridge = self._make_call_bridge(session, target, initiator=True)
            call = self._make_call(bridge, metadata)
            self._calls[session] = call
            self._portal.post(self._client.place, session, target, metadata, bridge, bridge.bind)
        return call

    def wait_closed(self, deadline: Deadline) -> None:
        with self._condition:
            if self._phase == "idle":
                raise NotReadyError("The client is not connected: connect() it first.")
            if not wait_until(self._condition, lambda: self._phase in ("closed", "idle"), deadline):
                raise deadline.error("the client to close")

    def close(self, deadline: Deadline) -> None:
        """Hang up all calls, disconnect and stop the threads; without effect once closed.

        A `connect` under way ends with an error.
        """
        with self._condition:
            while self._phase in ("connecting", "closing"):
                if self._phase == "connecting" and not self._connect_cancelled:
                    self._cancel_connecting()
                if self._dispatcher.is_current or deadline.expired:
                    return
                self._condition.wait(deadline.slice())
            if self._phase in ("idle", "closed"):
                return
            self._phase = "closing"
            client, portal = self._client, self._portal
        assert client is not None and portal is not None
        try:
            self._shut_down(client, portal, deadline)
        finally:
            self._set_phase("closed")
        # Only then, because a handler may be waiting for the close, or connect again.
        self._dispatcher.wait_ended(deadline)

    def _shut_down(self, client: Client, portal: Portal, deadline: Deadline) -> None:
        if portal.is_over:
            # At the exit, which has said goodbye already; no thread would answer.
            self.mailbox.finish()
            self._forget_connection()
            return
        try:
            portal.run(client.close, deadline.remaining())
        except (ArticoError, OSError):
            logger.exception("error while closing the client, which is closed nevertheless")
        except BaseException:
            # Ctrl-C: nothing more is delivered, but no call is left without its end.
            with suppress(ArticoError, OSError):
                portal.run(client.abort, timeout=GOODBYE_SECONDS)
            raise
        finally:
            self.mailbox.emit("close")
            self.mailbox.finish()
            portal.release()
            join_finished_workers()
            self._forget_connection()
            self._dispatcher.request_stop()

    def _forget_connection(self) -> None:
        with self._condition:
            self._client = self._portal = self._guard = None
            self.state = "disconnected"
            self._condition.notify_all()
