"""What is looked at after each test of a program: handlers that raised, threads and sockets left;
user threads."""

from __future__ import annotations

from artico_sync.testing.leaks import ErrorLog, Leaks


class Checks:
    """The two looks, from `start()` to `finish()`."""

    def __init__(self) -> None:
        # An `error` event that nobody handles is logged as well, but that is no fault of a handler.
        self._log = ErrorLog(("artico_sync",), tracebacks_only=True)
        self._leaks = Leaks(ours_only=True)

    def start(self) -> None:
        """Begin to listen to the log."""
        self._log.__enter__()

    def finish(self, settle_limit: float) -> str:
        """What went wrong, in words; empty when nothing did.

        Args:
            settle_limit: Seconds that what is still running gets to end.
        """
        left = self._leaks.settle(settle_limit)
        self._log.__exit__(None, None, None)
        problems = []
        if self._log.errors:
            problems += ["exceptions were logged:", *self._log.errors]
        if left:
            problems += ["left running by the test:", *(f"    {line}" for line in left)]
        return "\n".join(problems)
