"""A client's crossing: connecting, calls coming in, and waiting for either; between `Artico` and
the engine.

Lock order: `_condition`, then the lock of the loop's inbox; it is never held while waiting for the
loop or for a thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from artico_sync._bridge import workers
from artico_sync._bridge.call import CallBridge
from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.fork import ForkGuard
from artico_sync._bridge.media import RemoteFactory
from artico_sync._bridge.portal import Portal, assert_not_loop_thread, lease
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync._protocol.settings import Settings
from artico_sync.errors import ArticoError, ArticoTimeoutError, NotReadyError, SignalingError

if TYPE_CHECKING:
    from artico_sync._engine.client import Client
    from artico_sync._engine.session import Session

logger = logging.getLogger("artico_sync._bridge.client")

CallT = TypeVar("CallT")

#: Events of a client, each with its number of arguments.
CLIENT_EVENTS = {"open": 1, "close": 0, "error": 1, "call": 2, "reconnecting": 0}

#: Seconds a close that is interrupted gets to tell peers and server.
GOODBYE_SECONDS = 0.5

ClientFactory = Callable[["ClientBridge"], "Client"]
CallFactory = Callable[[CallBridge, "str | None"], Any]


class ClientBridge:
    """Stands between an `Artico` and its `Client`; the loop calls the `on_...` methods, users the
    others."""

    def __init__(
        self, name: str, settings: Settings, make_call: CallFactory, make_remote: RemoteFactory
    ) -> None:
        """
        Args:
            name: What the log and the threads call the client.
            make_call: Makes the user's object of a call from its port and metadata; any thread.
            make_remote: Makes the user's objects of what a peer shares.
        """
        self.settings = settings
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
        self._connect_given_up = False
        self._lease: Portal | None = None
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
        port = self._new_port(session.session, session.target, initiator=False)
        port.bind(session)
        call = self._make_call(port, session.metadata)
        with self._condition:
            self._calls[session.session] = call
        self.mailbox.emit("call", call, session.metadata)
        return port

    def on_session_gone(self, session: str) -> None:
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

    @property
    def lease(self) -> Portal:
        """The lease of a client that is connecting or connected."""
        assert self._lease is not None
        return self._lease

    def _ended_error(self) -> Exception:
        return NotReadyError("The client is closed: connect() it again to go on.")

    def _new_port(self, session: str, target: str, *, initiator: bool) -> CallBridge:
        assert self._lease is not None and self._guard is not None
        return CallBridge(
            self._lease,
            self._dispatcher,
            self._guard,
            self.settings,
            session=session,
            target=target,
            initiator=initiator,
            make_remote=self._make_remote,
        )

    def connect(self, make_client: ClientFactory, deadline: Deadline) -> None:
        """Connect, or wait for another thread that is connecting.

        Raises:
            SignalingError: And its subclasses, as the server says.
            ArticoTimeoutError: The deadline passed.
        """
        with self._condition:
            while self._phase in ("connecting", "closing"):
                if deadline.expired:
                    raise deadline.error("signalling to be ready")
                self._condition.wait(deadline.slice())
            if self._phase == "connected":
                if wait_until(self._condition, self._settled, deadline):
                    if self.state == "ready":
                        return
                    raise self._ended_error()
                raise deadline.error("signalling to be ready again")
            self._phase = "connecting"
            self._connect_given_up = False
        try:
            self._connect(make_client, deadline)
        except BaseException:
            self._set_phase("idle")
            raise
        self._set_phase("connected")

    def _settled(self) -> bool:
        return self.state == "ready" or self._phase != "connected"

    def _set_phase(self, phase: str) -> None:
        with self._condition:
            self._phase = phase
            self._condition.notify_all()

    def _connect(self, make_client: ClientFactory, deadline: Deadline) -> None:
        self._dispatcher.resume()
        self.mailbox.reopen()
        self._guard = ForkGuard("client")
        self._lease = loop_lease = lease()
        try:
            self._client = client = make_client(self)
            try:
                loop_lease.run(self._open, client, timeout=deadline.remaining())
            except ArticoTimeoutError as error:
                raise deadline.error("signalling to be ready") from error
            loop_lease.at_exit(client.say_goodbye)
        except BaseException:
            self._abandon(loop_lease)
            raise

    def _abandon(self, loop_lease: Portal) -> None:
        """Leave nothing of a client that was given up while connecting: it may have been ready for
        a moment, and calls have come in."""
        try:
            if self._client is not None:
                loop_lease.run(self._client.close, 0.0)
        finally:
            self._client = self._lease = self._guard = None
            self.state = "disconnected"
            loop_lease.release()
            self._dispatcher.stop(Deadline(0))

    async def _open(self, client: Client) -> None:
        self._opening = asyncio.current_task()
        try:
            if self._connect_given_up:
                raise asyncio.CancelledError
            await client.open()
        finally:
            self._opening = None

    def _give_up_connecting(self) -> None:
        # Either `_open` has not begun and sees the flag, or it is cancelled.
        self._connect_given_up = True
        loop_lease = self._lease
        if loop_lease is not None:
            loop_lease.post(self._cancel_opening)

    def _cancel_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()

    def place(self, session: str, target: str, metadata: str | None) -> Any:
        """Start a call; returns the user's object of it.

        Raises:
            NotReadyError: Signalling is not ready.
        """
        self.check_process()
        with self._condition:
            if self.state != "ready" or self._phase != "connected":
                raise NotReadyError("Cannot call peers until signaling is ready.", peer=target)
            assert self._client is not None and self._lease is not None
            port = self._new_port(session, target, initiator=True)
            call = self._make_call(port, metadata)
            self._calls[session] = call
            self._lease.post(self._client.place, session, target, metadata, port, port.bind)
        return call

    def wait_closed(self, deadline: Deadline) -> None:
        with self._condition:
            if self._phase == "idle":
                raise NotReadyError("The client is not connected: connect() it first.")
            if not wait_until(self._condition, lambda: self._phase in ("closed", "idle"), deadline):
                raise deadline.error("the client to close")

    def close(self, deadline: Deadline) -> None:
        """Hang up all calls, disconnect and stop the threads; twice is harmless.

        A `connect` under way ends with an error.
        """
        with self._condition:
            while self._phase in ("connecting", "closing"):
                if self._phase == "connecting" and not self._connect_given_up:
                    self._give_up_connecting()
                if self._dispatcher.is_current or deadline.expired:
                    return
                self._condition.wait(deadline.slice())
            if self._phase in ("idle", "closed"):
                return
            self._phase = "closing"
            client, loop_lease = self._client, self._lease
        assert client is not None and loop_lease is not None
        try:
            self._shut_down(client, loop_lease, deadline)
        finally:
            self._set_phase("closed")
        # Only then, because a handler may be waiting for the close, or connect again.
        self._dispatcher.wait_ended(deadline)

    def _shut_down(self, client: Client, loop_lease: Portal, deadline: Deadline) -> None:
        if loop_lease.is_over:
            # At the exit, which has said goodbye already; no thread would answer.
            self.mailbox.finish()
            self._guard_off()
            return
        try:
            loop_lease.run(client.close, deadline.remaining())
        except (ArticoError, OSError):
            logger.exception("closing the client met an error; it is closed all the same")
        except BaseException:
            # Ctrl-C: nothing more is delivered, but no call is left without its end.
            with suppress(ArticoError, OSError):
                loop_lease.run(client.say_goodbye, timeout=GOODBYE_SECONDS)
            raise
        finally:
            self.mailbox.emit("close")
            self.mailbox.finish()
            loop_lease.release()
            workers.settle()
            self._guard_off()
            self._dispatcher.order_stop()

    def _guard_off(self) -> None:
        with self._condition:
            self._client = self._lease = self._guard = None
            self.state = "disconnected"
            self._condition.notify_all()

    def run(self, function: Any, *arguments: Any, timeout: float | None = None) -> Any:
        """Run an async engine function of this client and wait for it."""
        loop_lease = self._lease
        if loop_lease is None:
            raise SignalingError("The client is closed: connect() it again to go on.")
        return loop_lease.run(function, *arguments, timeout=timeout)
