"""The two ways of signaling that cross threads.

`SocketSignalingBridge` serves a `SocketSignaling` used by itself: its transport runs on the loop,
its events come on a dispatcher thread. `UserSignalingBridge` serves a user's `Signaling` given to
an `Artico`: the engine sees a transport, whose methods it calls on a worker thread.

Lock order: `_connecting`, then `_lock`, then a mailbox.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import janus

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import Portal, acquire_portal, assert_not_loop_thread
from artico_sync._bridge.threads import ForkGuard, start_thread
from artico_sync._bridge.waiting.deadline import Deadline, get_item
from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync._engine.signaling.transport import (
    SignalingListener,
    SignalingTransport,
    leave,
)
from artico_sync.errors import NotReadyError, SignalingError

__all__ = [
    "SIGNALING_EVENTS",
    "SignalingTransport",
    "SocketSignalingBridge",
    "UserSignalingBridge",
    "shown_url",
]

logger = logging.getLogger(__name__)

#: Events of a way to signal, each with its number of arguments.
SIGNALING_EVENTS = {"connect": 1, "disconnect": 0, "error": 1, "signal": 1, "join": 3}

# Seconds the dispatcher gets to finish the current event when signaling is disconnected.
STOP_GRACE_SECONDS = 5.0
# Seconds the server has to say if a message was delivered.
ANSWER_SECONDS = 5.0
# Seconds a user's `disconnect` may take.
DISCONNECT_GRACE_SECONDS = 5.0


def shown_url(url: str) -> str:
    """Return a signaling server's URL as it may be shown: without its query, which may be secret.

    Raises:
        TypeError: Not a string.
        ValueError: Not the URL of a server; the message says why.
    """
    return str(ServerUrl.parse(url))


@dataclass(frozen=True)
class _Connection:
    """A transport, its portal to the loop, and the process of both."""

    portal: Portal
    transport: SignalingTransport
    guard: ForkGuard


class SocketSignalingBridge:
    """Stands between a `SocketSignaling` and its transport; the loop calls the `on_...` methods.

    Args:
        url: The server's URL.
        id: The wanted peer id.
        token: Shown to the server when connecting.
        emit: Called on the dispatcher thread with each event's name and arguments.
    """

    def __init__(self, url: str, id: str, token: str | None, emit: Callable[..., None]) -> None:
        # Checked without importing the network stack, which is not needed before connecting.
        ServerUrl.parse(url)
        self._url = url
        self._id = id
        self._token = token
        self._dispatcher = Dispatcher(f"signaling-{id}")
        self._mailbox = Mailbox(
            f"signaling {id}", SIGNALING_EVENTS, self._dispatcher, ended=self._not_connected
        )
        for event in SIGNALING_EVENTS:
            self._mailbox.on(event, functools.partial(emit, event))
        # Held while connecting, so that a second thread finds it done; `_lock` alone or within it.
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

    def _not_connected(self) -> Exception:
        return NotReadyError("Not connected to the signaling server: connect() first.")

    @property
    def state(self) -> str:
        connection = self._connection
        return "disconnected" if connection is None else connection.transport.state

    def make_transport(self, id: str) -> SignalingTransport:
        """Return a new transport to the same server, to be opened on the loop."""
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

    def on_peer_left(self, peer_id: str) -> None:
        """Ignore it: of use to calls only."""

    def on_peer_returned(self, peer_id: str) -> None:
        """Ignore it: of use to calls only."""

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
            self._dispatcher.wait_ended(Deadline(STOP_GRACE_SECONDS))
            raise

    def _connect(self, deadline: Deadline) -> None:
        self._dispatcher.resume()
        guard = ForkGuard("signaling connection")
        connection = self._connection = _Connection(
            acquire_portal(), self.make_transport(self._id), guard
        )
        portal, transport = connection.portal, connection.transport
        portal.at_exit(functools.partial(leave, transport))
        try:
            portal.run(transport.open, self, timeout=deadline.remaining())
            if self._connection is not connection:
                # Another thread disconnected before the transport could know.
                portal.run(transport.close)
                raise SignalingError("The signaling was disconnected while connecting.")
        except BaseException:
            self._leave()
            raise

    def _check_process(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.guard.check()

    def disconnect(self) -> None:
        assert_not_loop_thread()
        self._check_process()
        if self._leave():
            self._dispatcher.wait_ended(Deadline(STOP_GRACE_SECONDS))

    def _leave(self) -> bool:
        """Close the connection; return False if there is none or another thread closes it."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is None:
            return False
        try:
            # At the exit no thread would answer.
            if not connection.portal.is_over:
                connection.portal.run(connection.transport.close)
        finally:
            connection.portal.release()
            self._dispatcher.request_stop()
        return True

    def _ready(self) -> _Connection:
        self._check_process()
        connection = self._connection
        if connection is None or connection.transport.state != "ready":
            raise self._not_connected()
        return connection

    def signal(self, message: dict[str, Any]) -> bool | None:
        connection = self._ready()

        async def send() -> bool | None:
            try:
                return await asyncio.wait_for(connection.transport.send(message), ANSWER_SECONDS)
            except TimeoutError as error:
                raise Deadline(ANSWER_SECONDS).error("the server to answer") from error

        return connection.portal.run(send)

    def join(self, room: str, metadata: str | None) -> None:
        connection = self._ready()
        connection.portal.post(connection.transport.join, room, metadata)


class UserSignaling(Protocol):
    """The methods a user's object must have; `artico_sync.Signaling` has them."""

    @property
    def id(self) -> str: ...
    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def signal(self, message: dict[str, Any]) -> bool | None: ...
    def join(self, room: str, metadata: str | None = None) -> None: ...
    def on(self, event: str, handler: Callable[..., Any]) -> None: ...
    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None: ...


_Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any]"]


class UserSignalingBridge:
    """Runs a user's signaling for the engine, as a `SignalingTransport`; loop thread, except where
    a method says otherwise."""

    def __init__(self, signaling: UserSignaling, portal: Portal) -> None:
        self.id = signaling.id
        self.state = "disconnected"
        self._signaling = signaling
        self._portal = portal
        self._listener: SignalingListener | None = None
        self._jobs: janus.Queue[_Job | None] = janus.Queue()
        self._thread: threading.Thread | None = None
        self._opened: asyncio.Future[str] | None = None
        post = portal.post
        self._handlers: dict[str, Callable[..., None]] = {
            "connect": lambda *a: post(self._on_connect, *a),
            "disconnect": lambda *a: post(self._on_disconnect),
            "error": lambda error, *a: post(self._on_error, error),
            "signal": lambda message, *a: post(self._on_signal, message),
            "join": lambda *a: post(self._on_join, *a),
        }

    async def open(self, listener: SignalingListener) -> None:
        """Connect the user's object, and wait until it reports that it is ready."""
        self._listener = listener
        self.state = "connecting"
        self._start()
        self._opened = asyncio.get_running_loop().create_future()
        try:
            await self._run_job(self._signaling.connect)
            await self._opened
        except Exception as error:
            self.state = "disconnected"
            if isinstance(error, SignalingError):
                raise
            raise SignalingError(
                f"{type(self._signaling).__name__} could not connect: {error}"
            ) from error
        finally:
            self._opened = None

    def send(self, message: dict[str, object]) -> asyncio.Future[bool | None]:
        return self._run_job(self._signaling.signal, message)

    def join(self, room: str, metadata: str | None) -> None:
        self._run_job(self._signaling.join, room, metadata)

    def check(self) -> None:
        """Do nothing: the user's object knows its own connection best."""

    async def close(self) -> None:
        """Disconnect the user's object, and wait for the worker thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self.state = "disconnected"
        self._listener = None
        for event, handler in self._handlers.items():
            self._signaling.off(event, handler)
        done = asyncio.get_running_loop().create_future()
        self._jobs.sync_q.put_nowait((self._signaling.disconnect, (), done))
        self._jobs.sync_q.put_nowait(None)
        # A user's disconnect() that hangs keeps its daemon thread, but must not keep the client.
        finished, _ = await asyncio.wait({done}, timeout=DISCONNECT_GRACE_SECONDS)
        if finished:
            done.exception()
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
        else:
            logger.warning(
                "disconnect() of the signaling has not returned within %g s",
                DISCONNECT_GRACE_SECONDS,
            )

    # the worker thread

    def _start(self) -> None:
        if self._thread is None:
            for event, handler in self._handlers.items():
                self._signaling.on(event, handler)
            self._thread = start_thread(f"signaling-{self.id}", self._work)

    def _run_job(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.sync_q.put_nowait((function, arguments, future))
        return future

    def _work(self) -> None:
        """Call the user's methods one after another; worker thread."""
        no_limit = Deadline(None)
        while (job := get_item(self._jobs.sync_q, no_limit)) is not None:
            function, arguments, future = job
            try:
                result = function(*arguments)
            except BaseException as error:
                # Even SystemExit must not end the thread, which no other would replace.
                self._portal.post(_resolve, future, None, error)
            else:
                self._portal.post(_resolve, future, result, None)

    # the events of the user's object, posted to the loop

    def _on_connect(self, peer_id: object = None) -> None:
        if self._listener is None or self.state == "ready":
            return
        self.id = peer_id if isinstance(peer_id, str) and peer_id else self._signaling.id
        self.state = "ready"
        self._listener.on_ready(self.id)
        if self._opened is not None and not self._opened.done():
            self._opened.set_result(self.id)

    def _on_disconnect(self) -> None:
        was_ready, self.state = self.state == "ready", "disconnected"
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(
                SignalingError("The signaling disconnected while connecting.")
            )
        elif was_ready and self._listener is not None:
            self._listener.on_disconnected()

    def _on_error(self, error: object) -> None:
        problem = error if isinstance(error, Exception) else SignalingError(str(error))
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(problem)
        elif self._listener is not None:
            self._listener.on_error(problem)

    def _on_signal(self, message: object) -> None:
        if self._listener is not None:
            self._listener.on_signal(message)  # type: ignore[arg-type]  # the engine checks it

    def _on_join(
        self, room: object = None, peer_id: object = None, metadata: object = None
    ) -> None:
        if self._listener is not None and isinstance(room, str) and isinstance(peer_id, str):
            self._listener.on_join(room, peer_id, metadata if isinstance(metadata, str) else None)


def _resolve(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, SignalingError):
        future.set_exception(error)
    else:
        problem = SignalingError(f"The signaling failed: {error}")
        problem.__cause__ = error
        future.set_exception(problem)
