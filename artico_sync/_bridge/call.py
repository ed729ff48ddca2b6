"""The crossing of a call: how user threads send and wait, and the events the loop reports.

Lock order: the condition of a call, then the lock of the loop's inbox or of the mailbox; nothing
blocks under them.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.events.dispatcher import Dispatcher
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.portal import Portal, assert_not_loop_thread
from artico_sync._bridge.send_buffer import SendBuffer
from artico_sync._bridge.streams import ReceivedStreams, RemoteFactory, SharedTracks
from artico_sync._bridge.threads import ForkGuard
from artico_sync._bridge.waiting.deadline import Deadline, wait_until
from artico_sync._bridge.waiting.interrupt_safe import Condition
from artico_sync._engine.call_state import CallState, CloseReason, closed_error
from artico_sync._protocol.bounds import footprint
from artico_sync._protocol.settings import KIB, Settings
from artico_sync._speedups.thread_scheduling import switch_interval
from artico_sync.errors import (
    ArticoTimeoutError,
    InvalidStateError,
    MessageTooLargeError,
    NotOpenError,
)

if TYPE_CHECKING:
    from artico_sync._engine.local_media import LocalMedia
    from artico_sync._engine.session import Session

logger = logging.getLogger(__name__)

#: Rows of statistics in the history: an hour of one per second.
HISTORY_LENGTH = 3600
#: Seconds the loop thread has to collect the statistics of a call.
STATS_SECONDS = 10.0
#: Seconds the loop thread has to cut a call's connection for a test.
BLACKHOLE_SECONDS = 5.0

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

_NOT_OPEN_YET = (CallState.CALLING, CallState.RINGING, CallState.CONNECTING)
_OVER = (CallState.CLOSING, CallState.CLOSED)


class CallBridge:
    """Stands between a `Call` and its `Session`; the loop calls `bind` and the `on_...` methods,
    users the others."""

    def __init__(
        self,
        portal: Portal,
        dispatcher: Dispatcher,
        guard: ForkGuard,
        settings: Settings,
        *,
        session: str,
        target: str,
        initiator: bool,
        make_remote: RemoteFactory,
    ) -> None:
        self.portal = portal
        self.guard = guard
        self.session_id = session
        self.target = target
        self.initiator = initiator
        #: The engine's half, once the loop has made it.
        self.engine: Session | None = None
        self.mailbox = _make_mailbox(session, target, dispatcher, self.closed_error)
        self.received_streams = ReceivedStreams(self.mailbox, portal.post, make_remote)
        self.shared_tracks = SharedTracks(portal.post, self._local_media, session, target)
        self.call_state = CallState.CALLING if initiator else CallState.RINGING
        self.reason: str | None = None
        self._detail: str | None = None
        #: The callee's answer, "answered" or "rejected", as far as this side knows it.
        self._decision: str | None = None
        self._has_opened = False
        #: True once some wait has reported to its caller that the call is open, or over.
        self._reported = False
        self._switch_interval = settings.switch_interval
        lock = threading.RLock()
        self._condition = Condition(lock)
        engine: Callable[[], Session | None] = lambda: self.engine  # noqa: E731
        self._send_buffer = SendBuffer(portal, lock, self._condition, settings.send_buffer, engine)
        self._read_account = ReadAccount(portal, settings.receive_buffer, engine)
        self.statistics = CallStatistics(portal, engine, self._read_account)

    # the loop's side

    def bind(self, session: Session) -> None:
        """Connect the bridge to its session; loop thread."""
        self.engine = session

    def on_call_state(
        self, state: CallState, reason: str | None, detail: str | None, maximum_message: int
    ) -> None:
        opens = state is CallState.OPEN
        if opens and self._switch_interval is not None:
            switch_interval.acquire(self._switch_interval)  # before any thread is woken
        with self._condition:
            self.call_state = state
            self.reason = reason
            self._detail = detail
            if self.initiator and state in (CallState.CONNECTING, CallState.OPEN):
                self._decision = "answered"
            if opens:
                self._has_opened = True
                self._send_buffer.maximum_message = maximum_message
            self._condition.notify_all()
        if opens:
            self.mailbox.emit("open")
        elif state is CallState.CLOSED:
            if self._has_opened and self._switch_interval is not None:
                switch_interval.release(self._switch_interval)
            self._send_buffer.cancel_notice()
            self.received_streams.close()
            self.mailbox.emit("close")
            self.mailbox.finish()

    def on_stats(self, numbers: dict[str, Any]) -> None:
        self.statistics.append(numbers)
        self.mailbox.emit("stats", numbers)
        # So that the next numbers do not count messages as unread which have been read.
        self._read_account.report()

    def on_event(self, name: str, *arguments: Any) -> None:
        self.mailbox.emit(name, *arguments)

    def on_messages(self, messages: list[str | bytes]) -> None:
        self.mailbox.emit_all("data", [(data,) for data in messages], self._read_account.on_read)

    def on_delivered(self, delivered: int) -> None:
        self._send_buffer.on_delivered(delivered)

    def _local_media(self) -> LocalMedia | None:
        return None if self.engine is None else self.engine.local_media

    # the user's side

    def check(self) -> None:
        """Refuse blocking calls from the loop thread and any from a forked child."""
        self.guard.check()
        assert_not_loop_thread()

    def check_live(self) -> None:
        """Refuse a change of a call that is over."""
        self.guard.check()
        if self.call_state in _OVER:
            raise self.closed_error()

    def closed_error(self) -> Exception:
        return closed_error(self.reason, self._detail, self.session_id, self.target)

    @property
    def is_open(self) -> bool:
        return self.call_state is CallState.OPEN

    @property
    def is_closed(self) -> bool:
        return self.call_state is CallState.CLOSED

    @property
    def is_answered(self) -> bool:
        """True once the callee has accepted the call, also after its end."""
        return self._decision == "answered"

    def answer(self) -> None:
        """Accept the call.

        Raises:
            InvalidStateError: For the caller, a second time, or after the call closed.
        """
        with self._condition:
            problem = None
            if self.initiator:
                problem = "Only non-initiators can answer calls."
            elif self.call_state in _OVER:
                problem = "The call is closed and cannot be answered any more."
            elif self._decision is not None:
                problem = f"The call has been {self._decision} already."
            if problem is not None:
                raise InvalidStateError(problem, session=self.session_id, peer=self.target)
            self._decision = "answered"
        assert self.engine is not None
        self.portal.post(self.engine.answer)

    def reject(self, detail: str | None) -> None:
        """Decline the call.

        Raises:
            InvalidStateError: For the caller, or after the call was answered or ended.
        """
        with self._condition:
            if self.initiator or self._decision or self.call_state is not CallState.RINGING:
                raise InvalidStateError(
                    "Only an incoming call that has not been answered can be rejected.",
                    session=self.session_id,
                    peer=self.target,
                )
            self._decision = "rejected"
        assert self.engine is not None
        self.portal.run(self.engine.reject, detail)

    def hangup(self, timeout: float | None) -> None:
        """Deliver the messages sent so far, notify the peer, close.

        Raises:
            ArticoTimeoutError: Not everything could be delivered.
        """
        if self.call_state is CallState.CLOSED:
            return
        if not self.portal.run(self._hangup, timeout):
            within = "" if timeout is None else f" within {timeout:g} s"
            raise ArticoTimeoutError(
                f"Not all messages could be delivered{within}; the call is closed.",
                session=self.session_id,
                peer=self.target,
            )

    async def _hangup(self, timeout: float | None) -> bool:
        # The loop makes the session in the order of posts, so it exists by now if it ever will.
        return True if self.engine is None else await self.engine.hangup(timeout)

    def wait_open(self, deadline: Deadline) -> None:
        """Wait until the call is open, or raise the error that says why it is over."""
        with self._condition:
            reported = self._reported
            if not wait_until(
                self._condition, lambda: self.call_state not in _NOT_OPEN_YET, deadline
            ):
                raise deadline.error("the call to open", self.session_id, self.target)
            self._reported = True
            if not reported and self._has_opened and self.reason == CloseReason.REMOTE:
                # The peer hung up before any thread saw the call open; its messages can be read.
                return
            if self.call_state is not CallState.OPEN:
                raise self.closed_error()

    def wait_closed(self, deadline: Deadline) -> None:
        with self._condition:
            if not wait_until(self._condition, lambda: self.is_closed, deadline):
                raise deadline.error("the call to close", self.session_id, self.target)
            self._reported = True

    def send(self, data: str | bytes, size: int, deadline: Deadline) -> None:
        """Queue a message for the loop, waiting while the send buffer is full."""
        if not self._send_buffer.enqueue_message(data, size, deadline, self._check_sendable):
            raise deadline.error("room in the send buffer", self.session_id, self.target)

    def _check_sendable(self, size: int) -> None:
        maximum = self._send_buffer.maximum_message
        if self.call_state is CallState.OPEN and (size <= maximum or not maximum):
            return
        if self.call_state in _OVER:
            raise self.closed_error()
        if self.call_state is not CallState.OPEN:
            raise self._not_open_error()
        raise MessageTooLargeError(
            f"The message takes {size} bytes, but the peer accepts at most {maximum}: send it in"
            " parts.",
            session=self.session_id,
            peer=self.target,
        )

    def _not_open_error(self) -> NotOpenError:
        return NotOpenError(
            "Connection is not established yet.", session=self.session_id, peer=self.target
        )

    def flush(self, deadline: Deadline) -> None:
        """Wait until the messages accepted so far are acknowledged."""
        with self._condition:
            if self.call_state in _NOT_OPEN_YET:
                raise self._not_open_error()
            if self._send_buffer.wait_delivered(deadline, lambda: self.is_closed):
                return
            if self.is_closed:
                raise self.closed_error()
            raise deadline.error(
                "the peer to acknowledge what was sent", self.session_id, self.target
            )

    def stats(self) -> dict[str, Any]:
        """Return the session's numbers as of now."""
        if self.is_closed:
            raise self.closed_error()
        return self.statistics.collect()

    def blackhole(self) -> None:
        """Cut the connection for a test: no packet goes in or out any more once this returns.

        Raises:
            ArticoTimeoutError: The loop has ended or is too busy.
        """
        done = threading.Event()
        deadline = Deadline(BLACKHOLE_SECONDS)

        def cut() -> None:
            if self.engine is not None and self.engine.connection is not None:
                self.engine.connection.ice_transport.discard_all()
            done.set()

        self.portal.post(cut)
        while not done.wait(deadline.slice()):
            if deadline.expired:
                raise deadline.error("the call to fall silent", self.session_id, self.target)


def _make_mailbox(
    session: str, target: str, dispatcher: Dispatcher, ended: Callable[[], Exception]
) -> Mailbox:
    return Mailbox(
        f"call {session} with {target!r}",
        CALL_EVENTS,
        dispatcher,
        ended=ended,
        # The session accepts messages only while there is room in the receive buffer.
        unbounded=frozenset({"data"}),
    )


class ReadAccount:
    """Reports the messages user threads have read to the session, which then accepts more.

    Args:
        portal: To the loop.
        receive_buffer: Bytes of unread messages the session accepts.
        engine: Returns the session, once it exists; called on the loop thread.
    """

    def __init__(
        self, portal: Portal, receive_buffer: int, engine: Callable[[], Session | None]
    ) -> None:
        self._portal = portal
        self._engine = engine
        self._lock = threading.RLock()  # a signal handler may interrupt its holder
        #: Bytes of all messages read so far with their overhead, and of those reported.
        self._read = 0
        self._reported = 0
        self._step = min(64 * KIB, receive_buffer // 8)

    def on_read(self, data: str | bytes) -> None:
        """Count a message a user thread has read; any thread."""
        # Reported in steps: a wake-up of the loop for each message would cost more than it.
        size = footprint(data)
        with self._lock:
            before = self._read
            self._read += size
            steps = self._read // self._step - before // self._step
        # If Ctrl-C comes in between, the next step reports both.
        if steps:
            self._portal.post(self.report)

    def report(self) -> None:
        """Report what has been read since the last report; loop thread."""
        session = self._engine()
        if session is not None:
            read = self._read
            session.release(read - self._reported)
            self._reported = read


class CallStatistics:
    """The statistics of a call, now and in its newest hour, and its age; any thread.

    Args:
        portal: To the loop.
        engine: Returns the session, once it exists; called on the loop thread.
        read_account: Reports before each look, so that no message counts as unread which was read.
    """

    def __init__(
        self, portal: Portal, engine: Callable[[], Session | None], read_account: ReadAccount
    ) -> None:
        self._portal = portal
        self._engine = engine
        self._read_account = read_account
        self._created = monotonic()
        self._rows: deque[dict[str, Any]] = deque(maxlen=HISTORY_LENGTH)
        self._lock = threading.RLock()  # a signal handler may interrupt its holder

    @property
    def age(self) -> float:
        """Seconds since the call was placed or came in."""
        return monotonic() - self._created

    def collect(self) -> dict[str, Any]:
        """Return the session's numbers as of now; user threads.

        Raises:
            ArticoTimeoutError: The loop thread is too busy.
        """
        numbers: dict[str, Any] = self._portal.run(self._collect, timeout=STATS_SECONDS)
        return numbers

    async def _collect(self) -> dict[str, Any]:
        self._read_account.report()
        session = self._engine()
        return {} if session is None else await session.stats()

    def watch(self, interval: float) -> None:
        """Start emitting `stats` with the session's numbers every `interval` seconds."""
        self._portal.post(self._watch, interval)

    def _watch(self, interval: float) -> None:
        session = self._engine()
        if session is not None:
            session.watch_stats(interval)

    def append(self, numbers: dict[str, Any]) -> None:
        """Add those numbers to the history that are plain values."""
        row = {"time": time()}
        for name, value in numbers.items():
            if not isinstance(value, (dict, list)):
                row[name] = value
        with self._lock:
            self._rows.append(row)

    def history(self) -> list[dict[str, Any]]:
        """Return copies of the rows of the history, oldest first."""
        with self._lock:
            return [dict(row) for row in self._rows]
