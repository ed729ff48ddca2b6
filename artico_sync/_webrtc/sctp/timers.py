"""The timers of an association, on a clock that is passed in."""

from __future__ import annotations

from math import inf


class Timer:
    """A deadline that is moved far more often than it expires."""

    __slots__ = ("deadline", "is_postponed", "_timers")

    def __init__(self, timers: Timers) -> None:
        #: The time of expiry; infinite while the timer is stopped.
        self.deadline = inf
        #: The timer expired late and has been started once more.
        self.is_postponed = False
        self._timers = timers

    @property
    def is_running(self) -> bool:
        """True if it will expire."""
        return self.deadline != inf

    def start(self, deadline: float) -> None:
        """Set or move the time of expiry."""
        self.deadline = deadline
        self.is_postponed = False
        if deadline < self._timers.earliest:
            self._timers.earliest = deadline

    def stop(self) -> None:
        """Cancel the expiry."""
        self.deadline = inf


class Timers:
    """All timers of one association."""

    def __init__(self) -> None:
        self._timers: list[Timer] = []
        #: No timer expires before this time; it is exact after `next_deadline`.
        self.earliest = inf

    def make(self) -> Timer:
        """Make a timer."""
        timer = Timer(self)
        self._timers.append(timer)
        return timer

    def next_deadline(self) -> float:
        """Return the time the first timer expires, infinite if none runs."""
        self.earliest = earliest = min([timer.deadline for timer in self._timers])
        return earliest

    def stop_all(self) -> None:
        """Stop every timer."""
        for timer in self._timers:
            timer.stop()
        self.earliest = inf


class AssociationTimers(Timers):
    """The five timers of an association."""

    def __init__(self) -> None:
        super().__init__()
        #: Retransmission of INIT and COOKIE ECHO.
        self.t1: Timer = self.make()
        #: Retransmission of DATA (T3-rtx), and before it the probes of a silent peer.
        self.t3: Timer = self.make()
        #: A delayed SACK.
        self.sack: Timer = self.make()
        #: The next packets of a paced window.
        self.pacing: Timer = self.make()
        #: Retransmission of a stream reset request.
        self.reset: Timer = self.make()

    @staticmethod
    def has_expired(timer: Timer, now: float) -> bool:
        """Return True, and stop the timer, if its deadline has passed."""
        if now < timer.deadline:
            return False
        timer.deadline = inf
        return True
