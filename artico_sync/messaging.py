"""The part of a call that sends and receives messages; user threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.call import CallBridge
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._protocol.sizes import message_size
from artico_sync.errors import CallClosedError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Messaging:
    """Sends and receives text and bytes over the call's data channel, reliably and in order."""

    def __init__(self, bridge: CallBridge) -> None:
        self.__bridge = bridge

    def send(self, data: str | Buffer, timeout: float | None = None) -> None:
        """Send a message, whole and in order; any thread.

        It blocks only while more than `send_buffer` (1 MiB) waits to be sent already; `flush` waits
        until the other side has it all.

        Text that is JSON of the form `{"type": "[artico]", "data": ...}` is a control message of
        Artico's protocol, with any peer: it is sent, but never reaches the other side's user. Where
        text may be anything at all, wrap it, as in `send_json({"text": text})`, or send bytes to a
        Python peer.

        Example:
            >>> call.send("how are you?")
            >>> incoming.recv(timeout=5)
            'how are you?'

        Args:
            data: Text, sent as UTF-8; or for a Python peer (JavaScript's drops them) bytes or
                whatever else has a buffer, like a memoryview or an array: its bytes are sent.
                At most what the peer accepts, 262 144 bytes with Artico's peers.
            timeout: Seconds to wait for room in the buffer; None for ever, 0 not at all.

        Raises:
            NotOpenError: The call is not open yet.
            CallClosedError: The call is over; of the kind that says why.
            MessageTooLargeError: The peer does not accept messages that large (RFC 8841 section 6).
            ArticoTimeoutError: The time ran out.
            TypeError: Neither text nor bytes.
            ValueError: Text that is no valid Unicode.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.

        When it raises, nothing was sent.
        """
        if type(data) is not bytes and not isinstance(data, str):
            # A copy: what the user does to the buffer afterwards must not reach the wire.
            data = _bytes_of(data)
        size = message_size(data)
        deadline = Deadline(timeout)
        self.__bridge.check()
        self.__bridge.send(data, size, deadline)

    def flush(self, timeout: float | None = None) -> None:
        """Block until the peer's transport has acknowledged all that was sent (RFC 9260 section
        6.2); any thread. Whether the peer's program has read it is another matter.

        Example:
            >>> call.send(b"x" * 100_000)
            >>> call.flush(timeout=5)
            >>> call.stats()["pending"]
            0

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Raises:
            NotOpenError: The call is not open yet.
            CallClosedError: The call ended before that.
            ArticoTimeoutError: The time ran out.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self.__bridge.check()
        self.__bridge.flush(deadline)

    def recv(self, timeout: float | None = None) -> str | bytes:
        """Block for the next message that no handler took; any thread, each message goes to one.

        Messages that came before the close can still be read after it.

        Example:
            >>> incoming.send("fine")
            >>> call.recv(timeout=5)
            'fine'
            >>> call.recv(timeout=0)
            Traceback (most recent call last):
            artico_sync.errors.ArticoTimeoutError: ...

        Args:
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            Text as `str`, binary messages as `bytes`.

        Raises:
            CallClosedError: The call is over and everything was read; of the kind that says why.
            ArticoTimeoutError: The time ran out.
            ForkError: The call was made in another process.
            RuntimeError: On the library's loop thread.
        """
        deadline = Deadline(timeout)
        self.__bridge.check()
        arguments = self.__bridge.mailbox.take("data", deadline, "a message", observe=False)
        assert arguments is not None
        message: str | bytes = arguments[0]
        return message

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive until the call is over, however it ended: `close_reason` says how.

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
            value: Whatever `json.dumps` takes; not-a-number and infinity are no JSON.
            timeout: Seconds to wait for room in the buffer; None for ever, 0 not at all.

        Raises:
            TypeError: The value has something in it that JSON cannot tell.
            ValueError: It has not-a-number, infinity, or itself in it.
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
            timeout: Seconds to wait; None for ever, 0 polls.

        Returns:
            The value.

        Raises:
            ValueError: The message is no JSON; it has been taken all the same.
            ArticoError: As `recv` does.
            RuntimeError: On the library's loop thread.
        """
        return json.loads(self.recv(timeout))


def _bytes_of(data: object) -> bytes:
    try:
        view = memoryview(data)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"data must be str or bytes, not {type(data).__name__}") from None
    if "O" in view.format:
        # Addresses of objects mean nothing elsewhere.
        raise TypeError("data must be str or bytes, not an array of Python objects")
    return view.tobytes()
