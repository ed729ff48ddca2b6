"""Whether the peer is still there, asked of the path in use; loop thread."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ice_connection import IceConnection

logger = logging.getLogger(__name__)

# All of these are fractions of the silence after which a call is lost (6 s by default).

#: Silence after which the peer is asked. A link that was cut for 5 s must not have been
#: silent for 6 s when it returns, so the peer has to be heard at least once a second.
ASK_AFTER = 0.11
#: Time between the questions while the answers stay away.
ASK_AGAIN = 0.025
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
        self._connection: IceConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._told = False

    def watch(self, connection: IceConnection) -> None:
        """Watch `connection`, which has just connected, and nothing else from now on."""
        self.stop()
        self._connection = connection
        path = connection.path
        path.heard_at = path.consent_at = asyncio.get_running_loop().time()
        path.ask()  # the first answer measures the round trip
        self._sleep(self._timeout * ASK_AFTER)

    def stop(self) -> None:
        self._connection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sleep(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + delay
        self._timer = loop.call_at(self._due, self._look)

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
        ask_after = timeout * ASK_AFTER
        if silence >= ask_after * 0.75 or now - path.asked_at >= CONSENT_INTERVAL:
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
        if self._connection is not connection:
            return  # a handler stopped us or let us follow another one
        if silence >= ask_after * 0.75:
            self._sleep(min(timeout * ASK_AGAIN, timeout - silence))
        else:
            # Uneven, or both sides would ask at the same time; who is asked has heard enough.
            self._sleep(ask_after * random.uniform(0.75, 1.0) - silence)
