"""The way from the options to an open call, with notes on progress."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from artico_sync._bridge.signaling import shown_url
from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync._stop_signals import Terminated
from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.cli.output import Output
from artico_sync.errors import ArticoTimeoutError, CallClosedError, InvalidStateError

# Limit for connecting to the server.
CONNECT_SECONDS = 10.0
# Limit for delivering sent messages after Ctrl-C.
INTERRUPTED_CLOSE_SECONDS = 0.1
# Interval of progress updates on a terminal.
PROGRESS_SECONDS = 0.25


@contextmanager
def connected(options: argparse.Namespace, output: Output) -> Iterator[Artico]:
    """Connect a client, and close it at the end: without delivering messages after a signal.

    Raises:
        SignalingError: The server cannot be reached, or refuses.
        ArticoTimeoutError: It took too long.
    """
    begun = monotonic()
    rtco = Artico(options.url, id=options.id, token=options.token, rtc_config=options.rtc_config)
    shown = shown_url(options.url)
    output.note(f"connecting to {shown} ...")
    output.event("connecting", url=shown)
    try:
        rtco.connect(CONNECT_SECONDS)
        seconds = monotonic() - begun
        output.event("ready", id=rtco.id, seconds=round(seconds, 3))
        if options.command == "call":
            output.note(f"ready as {rtco.id} after {seconds:.2f} s")
        yield rtco
    except (KeyboardInterrupt, Terminated):
        rtco.close(INTERRUPTED_CLOSE_SECONDS)
        raise
    finally:
        rtco.close()


def place(rtco: Artico, options: argparse.Namespace, output: Output) -> Call:
    """Call a peer and wait until the call is open.

    Raises:
        CallClosedError: The call failed; the subclasses say why.
        ArticoTimeoutError: The peer did not answer in time.
    """
    call = rtco.call(options.target, options.metadata)
    output.note(f"calling {options.target} ...")
    output.event("calling", peer=options.target, session=call.session)
    wait_open(call, options.timeout, output)
    return call


def accept(rtco: Artico, options: argparse.Namespace, output: Output) -> Call:
    """Wait for a call, answer it, and wait until it is open; if its caller gives up, wait again.

    Raises:
        ArticoTimeoutError: No call came in time.
    """
    deadline = Deadline(options.timeout)
    output.note(f"waiting for a call to {rtco.id} ...")
    while True:
        try:
            call: Call = rtco.wait_for("call", deadline.remaining())
        except ArticoTimeoutError:
            raise ArticoTimeoutError(f"Nobody has called within {options.timeout:g} s.") from None
        metadata = "" if call.metadata is None else f": {call.metadata}"
        output.note(f"answering {call.target}{metadata}")
        output.event("answering", peer=call.target, session=call.session, metadata=call.metadata)
        try:
            call.answer()
            wait_open(call, None, output)
        except (CallClosedError, InvalidStateError) as error:
            output.note(f"not connected: {error.message}")
            output.event("close", session=call.session, reason=call.close_reason)
            continue
        rtco.on("call", lambda other: _reject(other, output))
        return call


def _reject(call: Call, output: Output) -> None:
    output.note(f"busy: rejecting a call from {call.target}")
    output.event("refused", peer=call.target, session=call.session)
    call.hangup()


def wait_open(call: Call, timeout: float | None, output: Output) -> None:
    """Wait until a call is open, and show the seconds passed."""
    begun = monotonic()
    deadline = Deadline(timeout)
    activity = "calling" if call.initiator else "connecting to"
    while True:
        remaining = deadline.remaining()
        pause = (
            PROGRESS_SECONDS
            if output.live and (remaining is None or remaining > PROGRESS_SECONDS)
            else remaining
        )
        try:
            call.wait_open(pause)
            break
        except ArticoTimeoutError:
            if deadline.expired:
                text = f"{call.target} has not answered within {timeout:g} s."
                raise ArticoTimeoutError(text) from None
        output.progress(f"{activity} {call.target} ... {monotonic() - begun:.0f} s")
    seconds = monotonic() - begun
    output.note(f"connected in {seconds:.2f} s")
    output.event("open", peer=call.target, session=call.session, seconds=round(seconds, 3))
