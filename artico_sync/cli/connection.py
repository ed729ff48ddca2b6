"""From the options to an open call, with notes on how it goes; main thread."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.cli.interruption import Terminated
from artico_sync.cli.output import Output
from artico_sync.errors import ArticoTimeoutError, CallClosedError, InvalidStateError

# Seconds signalling may take, and a farewell after Ctrl-C.
CONNECT_LIMIT = 10.0
FAREWELL = 0.1
TICK = 0.25


@contextmanager
def connected(options: argparse.Namespace, output: Output) -> Iterator[Artico]:
    """A ready client, closed at the end: delivering what was sent, or at once after a signal.

    Raises:
        SignalingError: The server cannot be reached, or refuses.
        ArticoTimeoutError: It took too long.
    """
    begun = monotonic()
    rtco = Artico(options.url, id=options.id, token=options.token, rtc_config=options.rtc_config)
    shown = str(ServerUrl.parse(options.url))  # without its query, which may be secret
    output.note(f"connecting to {shown} ...")
    output.event("connecting", url=shown)
    try:
        rtco.connect(CONNECT_LIMIT)
        seconds = monotonic() - begun
        output.event("ready", id=rtco.id, seconds=round(seconds, 3))
        if options.command == "call":
            output.note(f"ready as {rtco.id} after {seconds:.2f} s")
        yield rtco
    except (KeyboardInterrupt, Terminated):
        rtco.close(FAREWELL)
        raise
    finally:
        rtco.close()


def place(rtco: Artico, options: argparse.Namespace, output: Output) -> Call:
    """Call the peer of the options until it is open.

    Raises:
        CallClosedError: It was not answered; the subclasses tell why.
        ArticoTimeoutError: Nobody answered in time.
    """
    call = rtco.call(options.target, options.metadata)
    output.note(f"calling {options.target} ...")
    output.event("calling", peer=options.target, session=call.session)
    wait_open(call, options.timeout, output)
    return call


def accept(rtco: Artico, options: argparse.Namespace, output: Output) -> Call:
    """Wait for a call, answer it, and wait until it is open; a caller who gives up is not the last.

    Raises:
        ArticoTimeoutError: Nobody called in time.
    """
    deadline = Deadline(options.timeout)
    output.note(f"waiting for a call to {rtco.id} ...")
    while True:
        try:
            call: Call = rtco.wait_for("call", deadline.remaining())
        except ArticoTimeoutError:
            raise ArticoTimeoutError(f"Nobody has called within {options.timeout:g} s.") from None
        about = "" if call.metadata is None else f": {call.metadata}"
        output.note(f"answering {call.target}{about}")
        output.event("answering", peer=call.target, session=call.session, metadata=call.metadata)
        try:
            call.answer()
            wait_open(call, None, output)
        except (CallClosedError, InvalidStateError) as error:
            output.note(f"not connected: {error.message}")
            output.event("close", session=call.session, reason=call.close_reason)
            continue
        rtco.on("call", lambda other: _refuse(other, output))
        return call


def _refuse(call: Call, output: Output) -> None:
    output.note(f"busy: rejecting a call from {call.target}")
    output.event("refused", peer=call.target, session=call.session)
    call.hangup()


def wait_open(call: Call, timeout: float | None, output: Output) -> None:
    """Wait until a call is open, showing that time goes by."""
    begun = monotonic()
    deadline = Deadline(timeout)
    what = "calling" if call.initiator else "connecting to"
    while True:
        remaining = deadline.remaining()
        pause = TICK if output.live and (remaining is None or remaining > TICK) else remaining
        try:
            call.wait_open(pause)
            break
        except ArticoTimeoutError:
            if deadline.expired:
                text = f"{call.target} has not answered within {timeout:g} s."
                raise ArticoTimeoutError(text) from None
        output.progress(f"{what} {call.target} ... {monotonic() - begun:.0f} s")
    seconds = monotonic() - begun
    output.note(f"connected in {seconds:.2f} s")
    output.event("open", peer=call.target, session=call.session, seconds=round(seconds, 3))
