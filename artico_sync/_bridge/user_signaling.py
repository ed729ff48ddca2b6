"""A user's `Signaling` made to look like the engine's transport: its methods on a worker thread,
its events to the loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

import janus

from artico_sync._bridge.portal import Portal
from artico_sync._bridge.waiting.deadline import Deadline, take
from artico_sync._engine.signaling.transport import SignalingListener
from artico_sync.errors import SignalingError

logger = logging.getLogger("artico_sync._bridge.user_signaling")

# Seconds a user's `disconnect` may take.
DISCONNECT_GRACE = 5.0

Job = tuple[Callable[..., Any], tuple[Any, ...], "asyncio.Future[Any] | None"]


class UserSignaling(Protocol):
    """What a user's object must have; `artico_sync.signaling.Signaling` has it."""

    @property
    def id(self) -> str: ...
    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def signal(self, message: dict[str, Any]) -> bool | None: ...
    def join(self, room: str, metadata: str | None = None) -> None: ...
    def on(self, event: str, handler: Callable[..., Any]) -> None: ...
    def off(self, event: str, handler: Callable[..., Any] | None = None) -> None: ...


class UserSignalingBridge:
    """Runs a user's signalling for the engine; loop thread, except where a method says
    otherwise."""

    def __init__(self, signaling: UserSignaling, lease: Portal) -> None:
        self.id = signaling.id
        self.state = "disconnected"
        self._signaling = signaling
        self._lease = lease
        self._listener: SignalingListener | None = None
        self._jobs: janus.Queue[Job | None] = janus.Queue()
        self._thread: threading.Thread | None = None
        self._opened: asyncio.Future[str] | None = None
        self._handlers: dict[str, Callable[..., None]] = {
            "connect": lambda *a: lease.post(self._on_connect, *a),
            "disconnect": lambda *a: lease.post(self._on_disconnect),
            "error": lambda error, *a: lease.post(self._on_error, error),
            "signal": lambda message, *a: lease.post(self._on_signal, message),
            "join": lambda *a: lease.post(self._on_join, *a),
        }

    async def open(self, listener: SignalingListener) -> None:
        """Have the user's object connect, and wait until it says that it is ready."""
        self._listener = listener
        self.state = "connecting"
        self._start()
        self._opened = asyncio.get_running_loop().create_future()
        try:
            await self._do(self._signaling.connect)
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
        return self._do(self._signaling.signal, message)

    def join(self, room: str, metadata: str | None) -> None:
        self._do(self._signaling.join, room, metadata)

    def check(self) -> None:
        """The user's object knows its own connection best."""

    async def close(self) -> None:
        """Have the user's object disconnect, and wait for the worker thread."""
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
        settled, _ = await asyncio.wait({done}, timeout=DISCONNECT_GRACE)
        if settled:
            done.exception()
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
        else:
            logger.warning(
                "disconnect() of the signalling has not returned within %g s", DISCONNECT_GRACE
            )

    # the worker thread

    def _start(self) -> None:
        if self._thread is None:
            for event, handler in self._handlers.items():
                self._signaling.on(event, handler)
            self._thread = threading.Thread(
                target=self._work, name=f"artico_sync-signaling-{self.id}", daemon=True
            )
            self._thread.start()

    def _do(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.sync_q.put_nowait((function, arguments, future))
        return future

    def _work(self) -> None:
        """Call the user's methods one after another; worker thread."""
        forever = Deadline(None)
        while (job := take(self._jobs.sync_q, forever)) is not None:
            function, arguments, future = job
            try:
                result = function(*arguments)
            except BaseException as error:
                # It may raise anything, SystemExit too, and nobody else calls the next one.
                self._lease.post(_settle, future, None, error)
            else:
                self._lease.post(_settle, future, result, None)

    # what the user's object reports, on the loop by now

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
                SignalingError("The signalling disconnected while connecting.")
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


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, SignalingError):
        future.set_exception(error)
    else:
        problem = SignalingError(f"The signalling failed: {error}")
        problem.__cause__ = error
        future.set_exception(problem)
