"""A call with one other peer, for blocking code.

Large because `help(Call)` is one page, and most of it is documentation with examples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.call import CALL_EVENTS, CallBridge
from artico_sync._bridge.events.mailbox import Mailbox
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._checks import (
    check_instance,
    check_optional_text,
    check_seconds,
    check_timeout,
    check_unicode,
    type_name,
)
from artico_sync._notebook import Stats, html_table
from artico_sync._protocol.bounds import message_size
from artico_sync._protocol.messages import stream_metadata_message
from artico_sync._protocol.settings import Settings
from artico_sync.errors import ArticoTimeoutError, CallClosedError, SignalingError
from artico_sync.events import EventEmitter
from artico_sync.media.remote import RemoteMediaStream
from artico_sync.media.streams import MediaStream, Track, check_track, has_ended

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from artico_sync.events import CallRegister, CallWait

#: Seconds between two `stats` events, at least.
SHORTEST_STATS_INTERVAL = 0.05


class Call(EventEmitter):
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

    Large because one object, and one page of help, has all that can be done with a call.
    """

    _EVENTS = CALL_EVENTS
    _copy_hint = (
        "a call belongs to the process that made it, whose threads can all use the same object;"
        " another process places its own, to the same `target`."
    )

    if TYPE_CHECKING:
        # The types of handlers by event; the methods are those of the base class.
        on: CallRegister  # type: ignore[assignment]
        once: CallRegister  # type: ignore[assignment]
        wait_for: CallWait  # type: ignore[assignment]

    def __init__(self, bridge: CallBridge, metadata: str | None) -> None:
        self._bridge = bridge
        self._metadata = metadata

    def __repr__(self) -> str:
        state = self.close_reason or self._bridge.call_state.value
        return f"<Call {self.session} {'to' if self.initiator else 'from'} {self.target}: {state}>"

    def _mailbox_of(self) -> Mailbox:
        return self._bridge.mailbox

    def _check_process(self) -> None:
        self._bridge.guard.check()

    def _check_wait(self) -> None:
        self._bridge.check()

    @property
    def session(self) -> str:
        """Session id: `call:` and a random token, the same at both ends."""
        return self._bridge.session_id

    @property
    def metadata(self) -> str | None:
        """The metadata the caller gave with the call, at both ends; None if it gave none."""
        return self._metadata

    @property
    def target(self) -> str:
        """The other peer's id."""
        return self._bridge.target

    @property
    def initiator(self) -> bool:
        """True for the caller, False for the callee."""
        return self._bridge.initiator

    @property
    def answered(self) -> bool:
        """True once the callee has accepted the call: at its side since `answer()` was called, at
        the caller's since the answer arrived. It stays True after the call.
        """
        return self._bridge.is_answered

    @property
    def open(self) -> bool:
        """True while the call is open and can be used."""
        return self._bridge.is_open

    @property
    def closed(self) -> bool:
        """True once the call is over."""
        return self._bridge.is_closed

    @property
    def close_reason(self) -> str | None:
        """The reason the call is over: None while it is not, "hangup" (this side hung up), "remote"
        (the peer did), "rejected", "unavailable" (the target is not connected) or "failed"
        (connection lost or never made).
        """
        return self._bridge.reason if self._bridge.is_closed else None

    # life

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
            timeout: Seconds to wait; None without limit, 0 polls.

        Returns:
            The call itself. If the peer hung up right after opening, the first wait still returns,
            so that its messages can be read.

        Raises:
            PeerUnavailableError: The target is not connected to the server.
            CallRejectedError: The peer declined.
            ConnectionFailedError: No path to the peer was found.
            CallClosedError: The call ended for another reason.
            ArticoTimeoutError: The time ran out; the call keeps ringing.
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
            timeout: Seconds to wait; None without limit, 0 polls.

        Raises:
            ArticoTimeoutError: The time ran out.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        self._bridge.wait_closed(deadline)

    def hangup(self, timeout: float | None = 5) -> None:
        """Deliver what was sent, notify the peer, and close; before `answer()`, reject the call.

        A second time it has no effect. Messages that came before can still be read.

        Example:
            >>> call.send("last words")
            >>> call.hangup()
            >>> list(incoming)
            ['last words']

        Args:
            timeout: Seconds for delivering what was sent, None without limit. After that the call
                closes anyway.

        Raises:
            ArticoTimeoutError: Not everything could be delivered in time; the call is closed
                nevertheless, and an `error` event reports it as well.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        timeout = check_timeout(timeout)
        self._bridge.check()
        try:
            self._bridge.hangup(timeout)
        except SignalingError:
            # Another thread closed the client, and the call with it.
            if not self._bridge.is_closed:
                raise

    def reject(self, reason: str | None = None) -> None:
        """Decline an incoming call, with a reason for a caller that runs artico_sync.

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
            TypeError: The reason is not a str.
            InvalidStateError: For the caller, or after the call was answered or ended.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        check_optional_text("reason", reason)
        self._bridge.check()
        self._bridge.reject(reason)

    def __enter__(self) -> Call:
        try:
            return self.wait_open()
        except BaseException:
            # Nothing can have been sent: the reason the call did not open matters more.
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
            # The error inside the block matters more; the `error` event reports this one.
            if error is None:
                raise

    # messages

    def send(self, data: str | Buffer, timeout: float | None = None) -> None:
        """Send a message, whole and in order; any thread. When it raises, nothing was sent.

        It blocks only while more than `send_buffer` (1 MiB) waits to be sent already; `flush` waits
        until the other side has it all.

        Text that is JSON of the form `{"type": "[artico]", "data": ...}` is a control message of
        Artico's protocol, with any peer: it is sent, but never reaches the other side's user. If
        the text is not known in advance, wrap it, as in `send_json({"text": text})`, or send bytes
        to a Python peer.

        Example:
            >>> call.send("how are you?")
            >>> incoming.recv(timeout=5)
            'how are you?'

        Args:
            data: Text, sent as UTF-8; or for a Python peer (JavaScript's drops them) bytes or any
                other object with a buffer, like a memoryview or an array: its bytes are sent.
                At most the size the peer accepts, 262 144 bytes with Artico's peers.
            timeout: Seconds to wait for room in the buffer; None without limit, 0 not at all.

        Raises:
            NotOpenError: The call is not open yet.
            CallClosedError: The call is over; the subclass says why.
            MessageTooLargeError: The peer does not accept messages that large (RFC 8841 section 6).
            ArticoTimeoutError: The time ran out.
            TypeError: Neither text nor bytes.
            ValueError: Text that is not valid Unicode.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        if type(data) is not bytes and not isinstance(data, str):
            # A copy: later changes of the buffer must not reach the wire.
            data = _bytes_of(data)
        size = message_size(data)
        deadline = Deadline(timeout)
        self._bridge.check()
        self._bridge.send(data, size, deadline)

    def flush(self, timeout: float | None = None) -> None:
        """Block until the peer's transport has acknowledged all that was sent (RFC 9260 section
        6.2); any thread. The peer's program may not have read it yet.

        Example:
            >>> call.send(b"x" * 100_000)
            >>> call.flush(timeout=5)
            >>> call.stats()["pending"]
            0

        Args:
            timeout: Seconds to wait; None without limit, 0 polls.

        Raises:
            NotOpenError: The call is not open yet.
            CallClosedError: The call ended before that.
            ArticoTimeoutError: The time ran out.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        self._bridge.flush(deadline)

    def recv(self, timeout: float | None = None) -> str | bytes:
        """Block for the next message that no handler gets; any thread, each message goes to one.

        Messages that came before the close can still be read after it.

        Example:
            >>> incoming.send("fine")
            >>> call.recv(timeout=5)
            'fine'
            >>> call.recv(timeout=0)
            Traceback (most recent call last):
            artico_sync.errors.ArticoTimeoutError: ...

        Args:
            timeout: Seconds to wait; None without limit, 0 polls.

        Returns:
            Text as `str`, binary messages as `bytes`.

        Raises:
            CallClosedError: The call is over and everything was read; the subclass says why.
            ArticoTimeoutError: The time ran out.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self._bridge.check()
        arguments = self._bridge.mailbox.get("data", deadline, "a message", observe=False)
        assert arguments is not None
        message: str | bytes = arguments[0]
        return message

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive until the call is over, for any reason: `close_reason` says which.

        Example:
            >>> for text in ("one", "two"):
            ...     incoming.send(text)
            >>> incoming.hangup()
            >>> list(call)
            ['one', 'two']

        Raises:
            RuntimeError: On the library's loop thread.
        """
        while True:
            try:
                message = self.recv()
            except CallClosedError:
                return
            yield message

    def send_json(self, value: Any, timeout: float | None = None) -> None:
        """Send a value as JSON text (RFC 8259), which JavaScript peers understand as well.

        Example:
            >>> call.send_json({"question": 6 * 7})
            >>> incoming.recv_json(timeout=5)
            {'question': 42}

        Args:
            value: Any value `json.dumps` accepts; not-a-number and infinity are not JSON.
            timeout: Seconds to wait for room in the buffer; None without limit, 0 not at all.

        Raises:
            TypeError: The value contains an object that has no form in JSON.
            ValueError: It contains not-a-number, infinity, or itself.
            ArticoError: As `send` does.
            RuntimeError: On the library's loop thread.
        """
        self.send(json.dumps(value, allow_nan=False), timeout)

    def recv_json(self, timeout: float | None = None) -> Any:
        """Like `recv`, for a message that is JSON (RFC 8259).

        Example:
            >>> incoming.send('["from JavaScript", 1, null]')
            >>> call.recv_json(timeout=5)
            ['from JavaScript', 1, None]

        Args:
            timeout: Seconds to wait; None without limit, 0 polls.

        Returns:
            The value.

        Raises:
            ValueError: The message is not JSON; it has been received nevertheless.
            ArticoError: As `recv` does.
            RuntimeError: On the library's loop thread.
        """
        return json.loads(self.recv(timeout))

    # media

    def add_stream(self, stream: MediaStream, metadata: str | None = None) -> None:
        """Share a stream; the peer gets a `stream` event, and a `track` event for each track.

        Returns at once; before the call is open, the stream is shared as soon as it is.

        Example:
            >>> camera = VideoTrack(fps=15)
            >>> call.add_stream(MediaStream([camera]), metadata="from the roof")
            >>> incoming.wait_for("stream", timeout=5).metadata
            'from the roof'

        Args:
            stream: The stream to share, with at least one track.
            metadata: Shown to the peer with the stream.

        Raises:
            TypeError: Not a `MediaStream`, or metadata that is not a str.
            ValueError: The stream has no tracks; the metadata does not fit into one message of
                262 144 bytes, as JSON, or is not valid Unicode.
            InvalidStateError: One of its tracks is shared on this call already.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_instance("stream", stream, MediaStream)
        check_optional_text("metadata", metadata)
        if not stream.tracks:
            raise ValueError("the stream has no tracks to share")
        if metadata is not None:
            check_unicode(metadata)
            size = len(stream_metadata_message(stream.id, metadata))
            if size > Settings.maximum_message:
                raise ValueError(
                    f"the metadata takes {size} bytes on the wire, more than"
                    f" {Settings.maximum_message}: send data of that size as a message"
                )
        self._share(stream.id, metadata, stream.tracks)

    def add_track(self, track: Track, stream: MediaStream) -> None:
        """Share one track with the peer, as part of a stream; returns at once.

        Example:
            >>> call.add_track(VideoTrack(fps=15), MediaStream(id="desk"))
            >>> incoming.wait_for("track", timeout=5).stream.id
            'desk'

        Args:
            track: A local track, a remote one of any call, or an `aiortc.MediaStreamTrack`.
            stream: The stream it belongs to at the other end; the object itself does not change.

        Raises:
            TypeError: Not a track, or not a `MediaStream`.
            InvalidStateError: The track is shared on this call already.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_track(track)
        check_instance("stream", stream, MediaStream)
        self._share(stream.id, None, (track,))

    def _share(self, stream_id: str, metadata: str | None, tracks: tuple[Track, ...]) -> None:
        self._bridge.check_live()
        self._bridge.shared_tracks.add(stream_id, metadata, tracks, has_ended)

    def remove_stream(self, stream: MediaStream) -> None:
        """Stop sharing a stream; the peer gets `removetrack` for each track and `removestream`.

        Its tracks go on for other calls; `stop()` of the stream ends them.

        Example:
            >>> stream = MediaStream([VideoTrack(fps=15)], id="desk")
            >>> call.add_stream(stream)
            >>> incoming.wait_for("stream", timeout=5).id
            'desk'
            >>> call.remove_stream(stream)
            >>> incoming.wait_for("removestream", timeout=5).id
            'desk'

        Args:
            stream: One given to `add_stream`, or to `add_track` with a track.

        Raises:
            TypeError: Not a `MediaStream`.
            ValueError: The stream is not shared on this call.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_instance("stream", stream, MediaStream)
        self._bridge.check_live()
        self._bridge.shared_tracks.remove_stream(stream.id)

    def remove_track(self, track: Track) -> None:
        """Stop sharing one track; the peer gets `removetrack`, and `removestream` with the last.

        Example:
            >>> camera = VideoTrack(fps=15)
            >>> call.add_track(camera, MediaStream())
            >>> incoming.wait_for("track", timeout=5).ended
            False
            >>> call.remove_track(camera)
            >>> incoming.wait_for("removetrack", timeout=5).ended
            True

        Args:
            track: One that is shared on this call, alone or with its stream.

        Raises:
            TypeError: Not a track.
            ValueError: The track is not shared on this call.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_track(track)
        self._bridge.check_live()
        self._bridge.shared_tracks.remove(track)

    def replace_track(self, old: Track, new: Track) -> None:
        """Send another track of the same kind in the place of one, without an event for the peer
        (W3C WebRTC, RTCRtpSender.replaceTrack).

        If the old one has ended already, and so has been removed at the peer, the new one comes as
        another track of the same stream.

        Example:
            >>> camera, slides = VideoTrack(fps=15), VideoTrack(fps=1)
            >>> call.add_stream(MediaStream([camera]))
            >>> call.replace_track(camera, slides)
            >>> incoming.wait_for("track", timeout=5).id == camera.id
            True

        Args:
            old: A track shared on this call.
            new: Its replacement; the peer keeps the old one's id for it.

        Raises:
            TypeError: Not tracks.
            ValueError: `old` is not shared on this call, or the kinds differ.
            InvalidStateError: `new` is shared on this call already.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        check_track(old)
        check_track(new)
        if old.kind != new.kind:
            raise ValueError(
                f"a track of kind {old.kind} cannot be replaced by one of kind {new.kind}"
            )
        self._bridge.check_live()
        self._bridge.shared_tracks.replace(old, new)

    @property
    def streams(self) -> tuple[RemoteMediaStream, ...]:
        """The streams the peer shares now.

        Raises:
            ForkError: The call was made in another process.
        """
        self._bridge.guard.check()
        return self._bridge.received_streams.streams

    # statistics

    def stats(self) -> Stats:
        """Return numbers about the call: a plain dict, shown as a table in a notebook.

        Example:
            >>> call.send("hello")
            >>> call.stats()["bytes_sent"]
            5

        Returns:
            `phase`; `messages_sent`, `bytes_sent` and the same received; `round_trip_time` in
            seconds, None while unknown; of the data channel, in bytes, `pending`, `unread`,
            `congestion_window` and `packet_size`, and `retransmissions`; `local` and `remote`: the
            selected candidate pair, each with type, address, port and protocol; `streams`: a dict
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
        """Emit `stats(stats)` regularly until the call is over, and keep a history.

        Example:
            >>> call.watch_stats(interval=0.1)
            >>> call.wait_for("stats", timeout=5)["phase"]
            'open'

        Args:
            interval: Seconds between two events; at least 0.05.

        Raises:
            TypeError: The interval is not a number.
            ValueError: It is too short.
            CallClosedError: The call is over.
            ForkError: The call was made in another process.
        """
        seconds = check_seconds("interval", interval, least=SHORTEST_STATS_INTERVAL)
        self._bridge.check_live()
        self._bridge.statistics.watch(seconds)

    def stats_history(self) -> list[dict[str, Any]]:
        """Return the numbers of `watch_stats` of the newest hour, as rows for `pandas.DataFrame`.

        Each row has `time` (seconds since the epoch) and the numbers of `stats()` that are plain
        values. It can be read after the call as well.

        Example:
            >>> call.watch_stats(interval=0.1)
            >>> call.wait_for("stats", timeout=5)["phase"]
            'open'
            >>> call.stats_history()[0]["messages_sent"]
            0

        Returns:
            A dict for each row, oldest first; at most 3 600.
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
        return html_table(f"Call {self.session}", rows)


def make_call(bridge: CallBridge, metadata: str | None) -> Call:
    """Make the user's object of a call; any thread."""
    return Call(bridge, metadata)


def _bytes_of(data: object) -> bytes:
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"data must be str or bytes, not {type_name(data)}") from None
    if "O" in view.format:
        # Addresses of objects mean nothing elsewhere.
        raise TypeError("data must be str or bytes, not an array of Python objects")
    return view.tobytes()
