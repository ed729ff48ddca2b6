"""Whether the peer is still there, asked of the path in use; loop thread."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artico_sync._webrtc.ice.agent import IceAgent

logger = logging.getLogger(__name__)

# All of these are fractions of the silence after which a call is lost (6 s by default).

#: The watches of all calls look at multiples of this, so that many calls wake the loop, and
#: each other, no more often than one.
GRID = 1 / 60
#: Silence after which the peer is asked, by the controlling side and by the other: one question
#: tells both. A link that was cut for 5 s must not have been silent for 6 s when it returns, so
#: the peer has to be heard at least once a second.
ASK_AFTER = 6 * GRID, 8 * GRID
#: Time between the questions while the answers stay away, and when it becomes late.
ASK_AGAIN = 2 * GRID
ASK_AGAIN_LATE = GRID
LATE = 0.75
#: Silence that is worth telling, because a new path may be needed.
TELL_AFTER = 0.3
#: Silence after which the other pairs are tried.
SEARCH_AFTER = 0.25
#: A timer this late means that our own loop stood still, a laptop asleep for one.
STOOD_STILL = 0.15
#: What the peer is given to be heard after that.
FRESH_CHANCE = 0.34

#: Seconds after which the peer's consent is asked for though it is heard (RFC 7675).
CONSENT_INTERVAL = 5.0
#: Seconds after which consent expires when only other things are heard (RFC 7675).
CONSENT_LIFETIME = 30.0


class Consent:
    """Watches the path in use, and follows when another takes its place.

    One timer, which sleeps for as long as the peer is heard anyway.
    """

    def __init__(
        self,
        timeout: float,
        *,
        on_silence: Callable[[float], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._timeout = timeout
        self._on_silence = on_silence
        self._on_lost = on_lost
        self._connection: IceAgent | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._told = False

    def watch(self, connection: IceAgent) -> None:
        """Watch `connection`, which has just connected, and nothing else from now on."""
        self.stop()
        self._connection = connection
        path = connection.path
        # The check that was just answered says all that a question would.
        path.heard_at = path.consent_at = path.asked_at = asyncio.get_running_loop().time()
        self._sleep_until(path.heard_at + self._ask_after(connection))

    def stop(self) -> None:
        self._connection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask_after(self, connection: IceAgent) -> float:
        return self._timeout * ASK_AFTER[0 if connection.ice_controlling else 1]

    def _sleep_until(self, due: float) -> None:
        grid = self._timeout * GRID
        self._due = math.ceil(due / grid) * grid
        self._timer = asyncio.get_running_loop().call_at(self._due, self._look)

    def _look(self) -> None:
        connection = self._connection
        if connection is None:
            return
        path = connection.path
        now = asyncio.get_running_loop().time()
        timeout = self._timeout
        if now - self._due > timeout * STOOD_STILL:
            late = now - timeout * (1 - FRESH_CHANCE)
            if path.heard_at < late:
                logger.info("The loop stood still for %.1f s", now - self._due)
                path.heard_at = late
            path.consent_at = max(path.consent_at, now - CONSENT_INTERVAL)
        silence = now - path.heard_at
        if silence >= timeout or now - path.consent_at >= CONSENT_LIFETIME:
            self.stop()
            self._on_lost()
            return
        ask_after = self._ask_after(connection)
        is_silent = silence >= ask_after
        if is_silent:
            again = ASK_AGAIN_LATE if silence >= timeout * LATE else ASK_AGAIN
            self._sleep_until(min(now + timeout * again, path.heard_at + timeout))
        else:
            self._sleep_until(path.heard_at + ask_after)
        # The timer is set before anything else: what raises here must not end the watch.
        if is_silent or now - path.asked_at >= CONSENT_INTERVAL:
            path.ask()
        if silence >= timeout * SEARCH_AFTER:
            connection.search()
        else:
            connection.end_search()
        if silence >= timeout * TELL_AFTER:
            self._told = True
            self._on_silence(silence)
        elif self._told:
            self._told = False
            self._on_silence(0.0)
