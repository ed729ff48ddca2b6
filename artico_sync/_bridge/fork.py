"""What happens after `fork`: a child has no loop thread, so connected objects refuse at once; any
thread."""

from __future__ import annotations

import os

from artico_sync.errors import ForkError


class ForkGuard:
    """Remembers the process an object was connected in."""

    __slots__ = ("_process", "_what")

    def __init__(self, what: str) -> None:
        self._process = os.getpid()
        self._what = what

    def check(self) -> None:
        """Raise `ForkError` in any process but the one this guard was made in."""
        if os.getpid() != self._process:
            raise ForkError(
                f"This {self._what} was connected in process {self._process} and cannot be used in"
                f" its child {os.getpid()}: connect in the child, after the fork."
            )
