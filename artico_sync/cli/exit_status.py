"""What the exit status of the command line means; any thread."""

from __future__ import annotations

from enum import IntEnum

from artico_sync.errors import (
    ArticoTimeoutError,
    CallClosedError,
    CallRejectedError,
    MessageTooLargeError,
    PeerUnavailableError,
    SignalingError,
)


class ExitStatus(IntEnum):
    """Exit statuses, so that a shell script can tell what happened."""

    OK = 0
    ERROR = 1
    USAGE = 2
    SIGNALING = 3
    UNAVAILABLE = 4
    REJECTED = 5
    FAILED = 6
    TIMEOUT = 7
    UNDELIVERED = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141


#: Shown by `--help`.
MEANINGS = """\
exit status:
  0    all went well
  1    something else went wrong: a port is taken, a step of the demo failed
  2    the command line is wrong
  3    the signalling server cannot be reached or refuses (the id is taken, say)
  4    nobody with that id is connected to the server
  5    the peer rejected the call
  6    the connection could not be made, or was lost
  7    it took longer than --timeout
  8    not everything could be delivered: the peer hung up early, a line was too long
  130  Ctrl-C; 128 and the signal's number for other signals
  141  whoever read the output has gone
"""


def status_of(error: BaseException) -> ExitStatus:
    """The exit status that tells of an error."""
    for kind, status in (
        (PeerUnavailableError, ExitStatus.UNAVAILABLE),
        (CallRejectedError, ExitStatus.REJECTED),
        (CallClosedError, ExitStatus.FAILED),
        (MessageTooLargeError, ExitStatus.UNDELIVERED),
        (SignalingError, ExitStatus.SIGNALING),
        (ArticoTimeoutError, ExitStatus.TIMEOUT),
    ):
        if isinstance(error, kind):
            return status
    return ExitStatus.ERROR
