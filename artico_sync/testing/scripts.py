"""Scripts for fake peers.

A script is a function that is called with the `FakeCall`, on a thread of its own. These functions
return the usual ones; the example of `FakeCall` shows how to write another.
"""

from __future__ import annotations

from artico_sync.testing.fake_call import FakeCall, Script

#: Malformed signals, and signals with impossible content.
GARBAGE_SIGNALS: tuple[dict[str, object], ...] = (
    {},
    {"type": "garbage"},
    {"type": 5, "data": None},
    {"type": "sdp"},
    {"type": "sdp", "data": "v=0"},
    {"type": "sdp", "data": {"type": "offer", "sdp": 5}},
    {"type": "sdp", "data": {"type": "rollback", "sdp": ""}},
    {"type": "sdp", "data": {"type": "offer", "sdp": "v=0\r\nthis is no SDP\r\n"}},
    {"type": "candidate", "data": []},
    {"type": "candidate", "data": {"candidate": 5}},
    {"type": "candidate", "data": {"candidate": "candidate:garbage", "sdpMid": "0"}},
    {"type": "candidate", "data": {"candidate": "", "sdpMLineIndex": -1}},
)

#: Messages that a program may not expect.
GARBAGE_MESSAGES: tuple[str | bytes, ...] = (
    "",
    "\x00",
    "null",
    "[]",
    "{",
    '{"type":"[artico]"}',
    '{"type":"[artico]","data":{"cmd":"garbage"}}',
    "\N{REPLACEMENT CHARACTER}\u202e\U0001f4a9",
    "x" * 200_000,
    b"",
    b"\xff\xfe\x00",
    bytes(range(256)) * 64,
)


def echoes(after: float = 0.0) -> Script:
    """Return a script that answers and sends every message back.

    Example:
        >>> with FakePeer(server, "dave", scripts.echoes()), rtco.call("dave") as call:
        ...     call.send("hello")
        ...     call.recv(timeout=5)
        'hello'

    Args:
        after: Seconds until the answer.

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        call.pause(after)
        call.answer()
        _echo(call)

    return script


def answers_late(seconds: float) -> Script:
    """Return a script that rings for a time, then answers and echoes.

    Example:
        >>> with FakePeer(server, "dave", scripts.answers_late(0.2)):
        ...     call = rtco.call("dave")
        ...     call.wait_open(timeout=0.01)
        Traceback (most recent call last):
        artico_sync.errors.ArticoTimeoutError: ...

    Args:
        seconds: Seconds until the answer.

    Returns:
        The script.
    """
    return echoes(after=seconds)


def rejects(after: float = 0.0) -> Script:
    """Return a script that declines the call.

    Example:
        >>> with FakePeer(server, "dave", scripts.rejects()):
        ...     rtco.call("dave").wait_open(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.CallRejectedError: ...

    Args:
        after: Seconds until it declines.

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        call.pause(after)
        call.hangup()

    return script


def never_answers() -> Script:
    """Return a script that rings without end.

    Example:
        >>> with FakePeer(server, "dave", scripts.never_answers()):
        ...     rtco.call("dave").wait_open(timeout=0.1)
        Traceback (most recent call last):
        artico_sync.errors.ArticoTimeoutError: ...

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        call.wait_closed()

    return script


def goes_silent(after_messages: int = 0) -> Script:
    """Return a script that answers, echoes n messages, and then vanishes: no packet arrives any
    more.

    Example:
        >>> quick = Artico(server.url, silence_timeout=1.0).connect()
        >>> with FakePeer(server, "dave", scripts.goes_silent()), quick.call("dave") as call:
        ...     call.recv(timeout=5)
        Traceback (most recent call last):
        artico_sync.errors.ConnectionFailedError: ...

    Args:
        after_messages: Number of messages it echoes before.

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        _open(call)
        _echo(call, after_messages)
        call.go_silent()
        call.wait_closed()

    return script


def hangs_up(after_messages: int = 0) -> Script:
    """Return a script that answers, echoes n messages, and hangs up.

    Example:
        >>> with FakePeer(server, "dave", scripts.hangs_up(1)), rtco.call("dave") as call:
        ...     call.send("hello")
        ...     list(call)
        ['hello']

    Args:
        after_messages: Number of messages it echoes before.

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        _open(call)
        _echo(call, after_messages)
        call.hangup()

    return script


def sends_garbage(*messages: str | bytes) -> Script:
    """Return a script that answers, sends messages a program may not expect, then echoes.

    Example:
        >>> with FakePeer(server, "dave", scripts.sends_garbage("{")), rtco.call("dave") as call:
        ...     call.recv_json(timeout=5)
        Traceback (most recent call last):
        json.decoder.JSONDecodeError: ...

    Args:
        messages: The messages; by default `GARBAGE_MESSAGES`.

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        _open(call)
        call.send(*(messages or GARBAGE_MESSAGES))
        _echo(call)

    return script


def sends_garbage_signals(*signals: object) -> Script:
    """Return a script that sends invalid signals, answers, sends them again, then echoes.

    Example:
        >>> with FakePeer(server, "dave", scripts.sends_garbage_signals()):
        ...     with rtco.call("dave") as call:
        ...         call.send("hello")
        ...         call.recv(timeout=5)
        'hello'

    Args:
        signals: The signals; by default `GARBAGE_SIGNALS`.

    Returns:
        The script.
    """

    def script(call: FakeCall) -> None:
        call.send_signal(*(signals or GARBAGE_SIGNALS))
        _open(call)
        call.send_signal(*(signals or GARBAGE_SIGNALS))
        _echo(call)

    return script


def _open(call: FakeCall) -> None:
    """Answer an incoming call, or wait for the answer to an outgoing one."""
    if call.call.initiator:
        call.wait_open()
    else:
        call.answer()


def _echo(call: FakeCall, count: int | None = None) -> None:
    """Send `count` messages back; None for all until the call ends."""
    while count is None or len(call.received) < count:
        call.send(call.receive(timeout=float("inf")))
