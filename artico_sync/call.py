"""A call with one other peer, for blocking code; user threads."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.call import CALL_EVENTS, CallBridge
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._checks import LONGEST_SECONDS, check_timeout
from artico_sync._display import Stats, table
from artico_sync.errors import ArticoTimeoutError, SignalingError
from artico_sync.events import EventEmitter
from artico_sync.messaging import Messaging
from artico_sync.sharing import MediaSharing

if TYPE_CHECKING:
    from artico_sync.event_types import CallRegister, CallWait


class Call(Messaging, MediaSharing, EventEmitter):
    """A session between two peers, made by `Artico.call` or by an incoming call, never by the user.

    Every method may be called from any thread, but none that blocks from a signal handler: raise an
    exception there. Used as a context manager it waits until it is open, 30 s at most, and hangs up
    at the end.

    Events: `open()`, `close()`, `error(err)`, `data(data)`, `stream(stream, metadata)`,
    `removestream(stream, metadata)`, `track(track, stream, metadata)`, `removetrack(track, stream,
    metadata)`, and `stats(stats)` after `watch_stats`.

    Example:
        >>> with rtco.call("bob") as call:
        ...     call.send("how are you?")
        ...     call.recv(timeout=5)
        'HOW ARE YOU?'
        >>> call.closed, call.close_reason
        (True, 'hangup')
    """

    _EVENTS = CALL_EVENTS
    _copy_hint = (
        "a call belongs to the process that made it, whose threads can all use the same object;"
        " another process places its own, to the same `target`."
    )

    if TYPE_CHECKING:
        # Which handler fits which event; the methods themselves are the base's.
        on: CallRegister  # type: ignore[assignment]
        once: CallRegister  # type: ignore[assignment]
        wait_for: CallWait  # type: ignore[assignment]

    def __init__(self, bridge: CallBridge, metadata: str | None, *, initiator: bool) -> None:
        Messaging.__init__(self, bridge)
        MediaSharing.__init__(self, bridge)
        self._bridge = bridge
        self._metadata = metadata
        self._initiator = initiator

    def __repr__(self) -> str:
        state = self.close_reason or self._bridge.call_state.value
        return f"<Call {self.session} {'to' if self._initiator else 'from'} {self.target}: {state}>"

    def _mailbox_of(self) -> Mailbox:
        return self._bridge.mailbox

    def _check_process(self) -> None:
        self._bridge.guard.check()

    def _check_wait(self) -> None:
        self._bridge.check()

    # what it is

    @property
    def session(self) -> str:
        """Session id: `call:` and a random token, the same at both ends."""
        return self._bridge.session_id

    @property
    def metadata(self) -> str | None:
        """What the caller gave when placing the call, at both ends; None where that was nothing."""
        return self._metadata

    @property
    def target(self) -> str:
        """The other peer's id."""
        return self._bridge.target

    @property
    def initiator(self) -> bool:
        """True for the caller, False for the callee."""
        return self._initiator

    @property
    def answered(self) -> bool:
        """True once the callee has accepted the call: at its side since `answer()` was called, at
        the caller's since the answer arrived. It stays True after the call.
        """
        return self._bridge.is_answered

    @property
    def open(self) -> bool:
        """Whether the call is open and can be used now."""
        return self._bridge.is_open

    @property
    def closed(self) -> bool:
        """Whether the call is over."""
        return self._bridge.is_closed

    @property
    def close_reason(self) -> str | None:
        """Why the call is over: None while it is not, "hangup" (we did), "remote" (they did),
        "rejected", "unavailable" (the target is not connected) or "failed" (connection lost or
        never made).
        """
        return self._bridge.reason if self._bridge.is_closed else None

    # its life

    def answer(self) -> Call:
        """Accept an incoming call; returns at once, `wait_open` or `with` wait for the connection.

        Example:
            >>> carol = Artico(server.url, id="carol").connect()
            >>> ringing = rtco.call("carol")
            >>> carol.wait_for("call", timeout=5).answer().wait_open(timeout=5).open
            True

        Returns:
            The call itself.

        Raises:
            InvalidStateError: For the caller, a second time, or after the call closed.
            ForkError: The call was made in another process.
        """
        self._bridge.guard.check()
        self._bridge.answer()
        return self

    def wait_open(self, timeout: float | None = 30) -> Call:
        """Block until the call is open.

        Example:
            >>> rtco.call("nobody").wait_open(timeout=5)
            Traceback (most recent call last):
            artico_sync.errors.PeerUnavailableError: ...

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            The call itself. Where the peer hangs up as soon as it is open it may be over by now,
            and the first wait returns all the same: what the peer sent is there to be read.

        Raises:
            PeerUnavailableError: The target is not connected to the server.
            CallRejectedError: The peer declined.
            ConnectionFailedError: No path to the peer was found.
            CallClosedError: The call was ended otherwise.
            ArticoTimeoutError: The time ran out; the call goes on ringing.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        self._bridge.wait_open(deadline)
        return self

    def wait_closed(self, timeout: float | None = None) -> None:
        """Block until the call is over.

        Example:
            >>> incoming.hangup()
            >>> call.wait_closed(timeout=5)
            >>> call.close_reason
            'remote'

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Raises:
            ArticoTimeoutError: The time ran out.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        self._bridge.wait_closed(deadline)

    def hangup(self, timeout: float | None = 5) -> None:
        """Deliver what was sent, tell the peer, and close; before `answer()` this rejects the call.

        Twice is harmless. What the peer had sent before can still be read.

        Example:
            >>> call.send("last words")
            >>> call.hangup()
            >>> list(incoming)
            ['last words']

        Args:
            timeout: Seconds for delivering what was sent; None for ever. Then the call closes
                anyway.

        Raises:
            ArticoTimeoutError: Not everything could be delivered in time; the call is closed all
                the same, and an `error` event says so as well.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        timeout = check_timeout(timeout)
        self._bridge.check()
        try:
            self._bridge.hangup(timeout)
        except SignalingError:
            # The client was closed meanwhile, and the call with it.
            if not self._bridge.is_closed:
                raise

    def reject(self, reason: str | None = None) -> None:
        """Decline an incoming call, with words for a caller that is of this library.

        Example:
            >>> carol = Artico(server.url, id="carol").connect()
            >>> ringing = rtco.call("carol")
            >>> carol.wait_for("call", timeout=5).reject("at lunch")
            >>> ringing.wait_open(timeout=5)
            Traceback (most recent call last):
            artico_sync.errors.CallRejectedError: The peer rejected the call: at lunch ...

        Args:
            reason: Shown in the caller's `CallRejectedError`, up to 1 000 characters.

        Raises:
            TypeError: A reason that is not a str.
            InvalidStateError: For the caller, or after the call was answered or ended.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        if reason is not None and not isinstance(reason, str):
            raise TypeError(f"reason must be a str or None, not {type(reason).__name__}")
        self._bridge.check()
        self._bridge.reject(reason)

    def __enter__(self) -> Call:
        try:
            return self.wait_open()
        except BaseException:
            # Nothing can have been sent; why the call did not open is what matters.
            with suppress(ArticoTimeoutError):
                self._bridge.hangup(0)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.hangup()
        except ArticoTimeoutError:
            # What went wrong inside the block matters more; the `error` event tells of this one.
            if error is None:
                raise

    # numbers

    def stats(self) -> Stats:
        """Numbers about the call, as a plain dict that shows itself as a table in a notebook.

        Example:
            >>> call.send("hello")
            >>> call.stats()["bytes_sent"]
            5

        Returns:
            `phase`; `messages_sent`, `bytes_sent` and the same received; `round_trip_time` in
            seconds, None while unknown; of the data channel, in bytes, `pending`, `unread`,
            `congestion_window` and `packet_size`, and `retransmissions`; `local` and `remote`: the
            selected candidate pair, each with type, address, bridge and protocol; `streams`: a dict
            for each RTP stream with its packets, losses, frames and codec. The names are those of
            W3C WebRTC Statistics, in snake_case.

        Raises:
            CallClosedError: The call is over.
            ArticoTimeoutError: The loop thread did not answer within 10 s.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        self._bridge.check()
        return Stats(self._bridge.stats())

    def watch_stats(self, interval: float = 1.0) -> None:
        """Emit `stats(stats)` again and again until the call is over, and keep a history.

        Example:
            >>> call.watch_stats(interval=0.1)
            >>> call.wait_for("stats", timeout=5)["phase"]
            'open'

        Args:
            interval: Seconds between two; at least 0.05.

        Raises:
            TypeError, ValueError: Not such a number.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        if isinstance(interval, bool) or not isinstance(interval, (int, float)):
            raise TypeError(f"interval must be seconds, not {type(interval).__name__}")
        if not interval >= 0.05:
            raise ValueError(f"interval must be at least 0.05 seconds, not {interval}")
        self._bridge.check_live()
        self._bridge.statistics.watch(float(min(interval, LONGEST_SECONDS)))

    def stats_history(self) -> list[dict[str, Any]]:
        """The newest hour of what `watch_stats` saw, as flat rows ready for `pandas.DataFrame`.

        Each row has `time` (seconds since the epoch) and the numbers of `stats()` that stand for
        themselves. It can also be had after the call.

        Example:
            >>> call.watch_stats(interval=0.1)
            >>> call.wait_for("stats", timeout=5)["phase"]
            'open'
            >>> call.stats_history()[0]["messages_sent"]
            0

        Returns:
            A dict for each row, oldest first; 3 600 at most.
        """
        return self._bridge.statistics.history()

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("state", self.close_reason or self._bridge.call_state.value),
            ("peer", self.target),
            ("metadata", self.metadata),
            ("age", f"{self._bridge.statistics.age:.1f} s"),
            ("streams", [stream.id for stream in self._bridge.received_streams.streams]),
        ]
        return table(f"Call {self.session}", rows)


def make_call(bridge: CallBridge, metadata: str | None) -> Call:
    """Make the user's object of a call; any thread."""
    return Call(bridge, metadata, initiator=bridge.initiator)
