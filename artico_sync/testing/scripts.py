"""Scripts for fake peers; each runs on a thread of its own.

A script is a function that is called with the `FakeCall`. These make the usual ones; one's own are
as easily written::

    def grumpy(call):
        call.pause(2)
        call.answer()
        call.send("what now?")
        call.receive()
        call.hangup()

    FakePeer(server, "bob", grumpy)
"""

from __future__ import annotations

from artico_sync.testing.fake_call import FakeCall, Script

#: Signals that are none, or that say something impossible.
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

#: Messages a program may not be prepared for.
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
    """Answers, and sends every message back.

    Args:
        after: Seconds before the answer.
    """

    def script(call: FakeCall) -> None:
        call.pause(after)
        call.answer()
        _echo(call)

    return script


def answers_late(seconds: float) -> Script:
    """Rings for so many seconds, then answers and echoes."""
    return echoes(after=seconds)


def rejects(after: float = 0.0) -> Script:
    """Declines the call.

    Args:
        after: Seconds it rings before.
    """

    def script(call: FakeCall) -> None:
        call.pause(after)
        call.hangup()

    return script


def never_answers() -> Script:
    """Lets it ring for ever."""

    def script(call: FakeCall) -> None:
        call.wait_closed()

    return script


def goes_silent(after_messages: int = 0) -> Script:
    """Answers, echoes so many messages, and then vanishes without a word: no packet comes any
    more."""

    def script(call: FakeCall) -> None:
        _open(call)
        _echo(call, after_messages)
        call.go_silent()
        call.wait_closed()

    return script


def hangs_up(after_messages: int = 0) -> Script:
    """Answers, echoes so many messages, and hangs up."""

    def script(call: FakeCall) -> None:
        _open(call)
        _echo(call, after_messages)
        call.hangup()

    return script


def sends_garbage(*messages: str | bytes) -> Script:
    """Answers, sends messages that are none, then echoes.

    Args:
        messages: By default `GARBAGE_MESSAGES`.
    """

    def script(call: FakeCall) -> None:
        _open(call)
        call.send(*(messages or GARBAGE_MESSAGES))
        _echo(call)

    return script


def sends_garbage_signals(*signals: object) -> Script:
    """Sends signals that are none, answers, sends them again, then echoes.

    Args:
        signals: By default `GARBAGE_SIGNALS`.
    """

    def script(call: FakeCall) -> None:
        call.send_signal(*(signals or GARBAGE_SIGNALS))
        _open(call)
        call.send_signal(*(signals or GARBAGE_SIGNALS))
        _echo(call)

    return script


def _open(call: FakeCall) -> None:
    """Answer an incoming call, or wait for the answer to one of ours."""
    if call.call.initiator:
        call.wait_open()
    else:
        call.answer()


def _echo(call: FakeCall, count: int | None = None) -> None:
    """Send that many messages back; None for all."""
    while count is None or len(call.received) < count:
        call.send(call.receive(timeout=float("inf")))
