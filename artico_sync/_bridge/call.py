"""A call's crossing: what the loop tells of it, and how user threads wait for that and send.

Lock order: a port's condition, then the lock of the loop's inbox or of the mailbox; nothing blocks
under them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.fork import ForkGuard
from artico_sync._bridge.media import MediaBridge, RemoteFactory
from artico_sync._bridge.portal import Portal, assert_not_loop_thread
from artico_sync._bridge.send_buffer import SendBuffer
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync._engine.call_state import CallState, CloseReason, closed_error
from artico_sync._protocol.settings import KIB, Settings
from artico_sync._protocol.sizes import OVERHEAD, message_size
from artico_sync._speedups.switch_interval import switch_interval
from artico_sync.errors import (
    ArticoTimeoutError,
    InvalidStateError,
    MessageTooLargeError,
    NotOpenError,
)

if TYPE_CHECKING:
    from aiortc import MediaStreamTrack

    from artico_sync._engine.session import Session

logger = logging.getLogger("artico_sync._bridge.call")

#: Rows of statistics kept: an hour of one a second.
HISTORY_LENGTH = 3600

#: Events of a call, each with its number of arguments.
CALL_EVENTS = {
    "open": 0,
    "close": 0,
    "error": 1,
    "stats": 1,
    "data": 1,
    "stream": 2,
    "removestream": 2,
    "track": 3,
    "removetrack": 3,
}


class CallBridge:
    """Stands between a `Call` and its `Session`; the loop calls the `on_...` methods, users the
    others."""

    def __init__(
        self,
        lease: Portal,
        dispatcher: Dispatcher,
        guard: ForkGuard,
        settings: Settings,
        *,
        session: str,
        target: str,
        initiator: bool,
        make_remote: RemoteFactory,
    ) -> None:
        self.lease = lease
        self.guard = guard
        self.settings = settings
        self.session_id = session
        self.target = target
        self.engine: Session | None = None
        self.mailbox = Mailbox(
            f"call {session} with {target!r}",
            CALL_EVENTS,
            dispatcher,
            ended=self.closed_error,
            unbounded=frozenset({"data"}),
        )
        self.media = MediaBridge(self.mailbox, lease.post, make_remote)
        self.phase = CallState.CALLING if initiator else CallState.RINGING
        self.reason: str | None = None
        self._detail: str | None = None
        self._made = monotonic()
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_LENGTH)
        self._initiator = initiator
        self._answered = False
        self._has_opened = False
        #: Whether a wait has ended that tells its thread whether the call is open or over.
        self._told = False
        self._lock = threading.RLock()
        self._condition = Condition(self._lock)
        self._hurried: float | None = None
        self._maximum_message = 0
        self._outgoing = SendBuffer(
            lease, self._lock, self._condition, settings.send_buffer, lambda: self.engine
        )
        #: Footprints of all messages read so far, and of those the session knows of.
        self._read = 0
        self._released = 0
        self._release_step = min(64 * KIB, settings.receive_buffer // 8)

    # the loop's side

    def bind(self, session: Session) -> None:
        """The session exists; loop thread."""
        self.engine = session

    def on_phase(
        self, phase: CallState, reason: str | None, detail: str | None, maximum_message: int
    ) -> None:
        if phase is CallState.OPEN:
            self._hurry()  # before anybody goes on
        with self._condition:
            self.phase = phase
            self.reason = reason
            self._detail = detail
            if phase is CallState.OPEN:
                self._has_opened = True
                self._maximum_message = maximum_message
            self._condition.notify_all()
        if phase is CallState.OPEN:
            self.mailbox.emit("open")
        elif phase is CallState.CLOSED:
            self._relax()
            self._outgoing.end()
            self.media.close()
            self.mailbox.emit("close")
            self.mailbox.finish()

    def _hurry(self) -> None:
        if self.settings.switch_interval is not None:
            self._hurried = self.settings.switch_interval
            switch_interval.shorten(self._hurried)

    def _relax(self) -> None:
        if self._hurried is not None:
            switch_interval.restore(self._hurried)
            self._hurried = None

    def on_stats(self, numbers: dict[str, Any]) -> None:
        row = {"time": time()}
        for name, value in numbers.items():
            if not isinstance(value, (dict, list)):
                row[name] = value
        with self._condition:
            self._history.append(row)
        self.mailbox.emit("stats", numbers)
        self._release()  # so that the next numbers do not call unread what has been read

    def on_event(self, name: str, *arguments: Any) -> None:
        self.mailbox.emit(name, *arguments)

    def on_stream(
        self, stream_id: str, metadata: str | None, tracks: list[MediaStreamTrack]
    ) -> None:
        self.media.on_stream(stream_id, metadata, tracks)

    def on_stream_described(self, stream_id: str, metadata: str | None) -> None:
        self.media.on_stream_described(stream_id, metadata)

    def on_track(self, stream_id: str, track: MediaStreamTrack, metadata: str | None) -> None:
        self.media.on_track(stream_id, track, metadata)

    def on_track_removed(
        self, stream_id: str, track: MediaStreamTrack, metadata: str | None
    ) -> None:
        self.media.on_track_removed(stream_id, track, metadata)

    def on_stream_removed(self, stream_id: str, metadata: str | None) -> None:
        self.media.on_stream_removed(stream_id, metadata)

    def on_messages(self, messages: list[str | bytes]) -> None:
        self.mailbox.emit_all("data", [(data,) for data in messages], self._consumed)

    def on_delivered(self, delivered: int) -> None:
        self._outgoing.on_delivered(delivered)

    # the user's side

    def check(self) -> None:
        """Refuse blocking calls from the loop thread and any from a forked child."""
        self.guard.check()
        assert_not_loop_thread()

    def closed_error(self) -> Exception:
        return closed_error(self.reason, self._detail, self.session_id, self.target)

    @property
    def is_open(self) -> bool:
        return self.phase is CallState.OPEN

    @property
    def is_closed(self) -> bool:
        return self.phase is CallState.CLOSED

    @property
    def is_answered(self) -> bool:
        """Whether we accepted the call, be it open yet or not, or over."""
        return self._answered

    def _consumed(self, data: str | bytes) -> None:
        # Told in steps: a wake-up of the loop for each message would cost more than the message.
        footprint = message_size(data) + OVERHEAD
        with self._lock:
            before = self._read
            self._read += footprint
            steps = self._read // self._release_step - before // self._release_step
        # Where Ctrl-C comes in between, the next step tells of both.
        if steps:
            self.lease.post(self._release)

    def _release(self) -> None:
        if self.engine is not None:
            read = self._read
            self.engine.release(read - self._released)
            self._released = read

    def answer(self) -> None:
        """Accept the call.

        Raises:
            InvalidStateError: For the caller, a second time, or after the call closed.
        """
        with self._condition:
            problem = None
            if self._initiator:
                problem = "Only non-initiators can answer calls."
            elif self.phase in (CallState.CLOSING, CallState.CLOSED):
                problem = "The call is closed and cannot be answered any more."
            elif self._answered:
                problem = "The call has been answered already."
            if problem is not None:
                raise InvalidStateError(problem, session=self.session_id, peer=self.target)
            self._answered = True
        assert self.engine is not None
        self.lease.post(self.engine.answer)

    def hangup(self, timeout: float | None) -> None:
        """Deliver, tell the peer, close.

        Raises:
            ArticoTimeoutError: Not everything could be delivered.
        """
        if self.phase is CallState.CLOSED:
            return
        if not self.lease.run(self._hangup, timeout):
            within = "" if timeout is None else f" within {timeout:g} s"
            raise ArticoTimeoutError(
                f"Not all messages could be delivered{within}; the call is closed.",
                session=self.session_id,
                peer=self.target,
            )

    def reject(self, detail: str | None) -> None:
        """Decline the call.

        Raises:
            InvalidStateError: For the caller, or after the call was answered or ended.
        """
        with self._condition:
            if self._initiator or self._answered or self.phase is not CallState.RINGING:
                raise InvalidStateError(
                    "Only an incoming call that has not been answered can be rejected.",
                    session=self.session_id,
                    peer=self.target,
                )
            self._answered = True
        self.lease.run(self._reject, detail)

    async def _reject(self, detail: str | None) -> None:
        if self.engine is not None:
            await self.engine.reject(detail)

    async def _hangup(self, timeout: float | None) -> bool:
        # Made on the loop in the order of posts, so the session exists by now.
        return True if self.engine is None else await self.engine.hangup(timeout)

    def share(self, stream_id: str, metadata: str | None, tracks: tuple[Any, ...]) -> None:
        """Share tracks of a stream, as soon as the call is open."""
        self.lease.post(self._share, stream_id, metadata, tracks)

    def _share(self, stream_id: str, metadata: str | None, tracks: tuple[Any, ...]) -> None:
        if self.engine is not None:
            self.engine.sharing.share(stream_id, metadata, tracks)

    def unshare(self, tracks: tuple[Any, ...]) -> None:
        """Share tracks no longer."""
        self.lease.post(self._unshare, tracks)

    def _unshare(self, tracks: tuple[Any, ...]) -> None:
        if self.engine is not None:
            self.engine.sharing.unshare(tracks)

    def replace(self, old: Any, new: Any, stream_id: str) -> None:
        """Send another track in the place of one."""
        self.lease.post(self._replace, old, new, stream_id)

    def _replace(self, old: Any, new: Any, stream_id: str) -> None:
        if self.engine is not None:
            self.engine.sharing.replace(old, new, stream_id)

    def check_live(self) -> None:
        """Refuse what needs a call that is not over."""
        self.guard.check()
        if self.phase in (CallState.CLOSING, CallState.CLOSED):
            raise self.closed_error()

    @property
    def age(self) -> float:
        """Seconds since the call was placed or came in."""
        return monotonic() - self._made

    def watch_stats(self, interval: float) -> None:
        """Have the session tell its numbers again and again."""
        self.lease.post(self._watch_stats, interval)

    def _watch_stats(self, interval: float) -> None:
        if self.engine is not None:
            self.engine.watch_stats(interval)

    def stats_history(self) -> list[dict[str, Any]]:
        """What `on_stats` was told, oldest first."""
        with self._condition:
            return [dict(row) for row in self._history]

    def stats(self) -> dict[str, Any]:
        """Ask the session for its numbers."""
        if self.phase is CallState.CLOSED:
            raise self.closed_error()
        result: dict[str, Any] = self.lease.run(self._stats, timeout=10.0)
        return result

    async def _stats(self) -> dict[str, Any]:
        self._release()
        return {} if self.engine is None else await self.engine.stats()

    def wait_open(self, deadline: Deadline) -> None:
        """Wait until the call is open; raises what ended it otherwise."""
        with self._condition:
            over = (CallState.OPEN, CallState.CLOSING, CallState.CLOSED)
            told = self._told
            if not wait_until(self._condition, lambda: self.phase in over, deadline):
                raise deadline.error("the call to open", self.session_id, self.target)
            self._told = True
            if not told and self._has_opened and self.reason == CloseReason.REMOTE:
                # Nobody came in time to see it open, yet what the peer sent can be read.
                return
            if self.phase is not CallState.OPEN:
                raise self.closed_error()

    def wait_closed(self, deadline: Deadline) -> None:
        with self._condition:
            if not wait_until(self._condition, lambda: self.phase is CallState.CLOSED, deadline):
                raise deadline.error("the call to close", self.session_id, self.target)
            self._told = True

    def send(self, data: str | bytes, size: int, deadline: Deadline) -> None:
        """Hand a message over, waiting while too much waits to be sent already."""
        if not self._outgoing.put(data, size, deadline, self._check_sendable):
            raise deadline.error("room in the send buffer", self.session_id, self.target)

    def _check_sendable(self, size: int) -> None:
        if self.phase is CallState.OPEN and (
            size <= self._maximum_message or not self._maximum_message
        ):
            return
        if self.phase in (CallState.CLOSING, CallState.CLOSED):
            raise self.closed_error()
        if self.phase is not CallState.OPEN:
            raise NotOpenError(
                "Connection is not established yet.", session=self.session_id, peer=self.target
            )
        raise MessageTooLargeError(
            f"The message takes {size} bytes, but the peer accepts {self._maximum_message} at"
            " most: send it in parts.",
            session=self.session_id,
            peer=self.target,
        )

    def flush(self, deadline: Deadline) -> None:
        """Wait until what was accepted so far is acknowledged."""
        with self._condition:
            if self.phase in (CallState.CALLING, CallState.RINGING, CallState.CONNECTING):
                raise NotOpenError(
                    "Connection is not established yet.", session=self.session_id, peer=self.target
                )
            if self._outgoing.wait_delivered(deadline, lambda: self.phase is CallState.CLOSED):
                return
            if self.phase is CallState.CLOSED:
                raise self.closed_error()
            raise deadline.error(
                "the peer to acknowledge what was sent", self.session_id, self.target
            )
