"""Consent freshness of the pair in use (RFC 7675), and detection of a lost peer."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from artico_sync._webrtc.ice.agent import IceAgent

logger = logging.getLogger(__name__)

# These are fractions of `silence_timeout`, after which a call is lost (6 s by default).

#: The timers of all calls fire at multiples of this, so that many calls wake the loop no more often
#: than one.
GRID = 1 / 60
#: Silence after which the controlling and the controlled side send a Binding request; one request
#: shows both sides that the path works. They receive at least one message per second, so that a
#: link cut for 5 s is not silent for 6 s.
REQUEST_INTERVALS = 6 * GRID, 8 * GRID
#: Interval between requests without a response, and the shorter one above the threshold.
RETRY_INTERVAL = 2 * GRID
LATE_RETRY_INTERVAL = GRID
LATE_THRESHOLD = 0.75
#: Silence that is reported, because a new path may be needed.
SILENCE_REPORT_THRESHOLD = 0.3
#: Silence after which the other pairs are checked.
RECHECK_THRESHOLD = 0.25
#: Delay of a timer that shows that the loop was suspended, for example by a sleeping laptop.
SUSPENDED_THRESHOLD = 0.15
#: Time in which the peer must be received after that.
RESUMED_INTERVAL = 0.34

#: Seconds between consent checks while other datagrams are received (RFC 7675 5.1).
CONSENT_INTERVAL_SECONDS = 5.0
#: Seconds after which consent expires although other datagrams are received (RFC 7675 5.1).
CONSENT_LIFETIME_SECONDS = 30.0


class Consent:
    """Monitors the pair in use, also after another pair has replaced it.

    Its only timer is postponed while datagrams of the peer are received.
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
        self._reported = False

    def watch(self, connection: IceAgent) -> None:
        """Monitor `connection`, which has just connected, in place of any other."""
        self.stop()
        self._connection = connection
        path = connection.path
        # The check that was just answered counts as a consent check.
        path.last_received_at = path.consent_at = path.last_request_at = (
            asyncio.get_running_loop().time()
        )
        self._sleep_until(path.last_received_at + self._request_interval(connection))

    def stop(self) -> None:
        """Monitor no connection any more."""
        self._connection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _request_interval(self, connection: IceAgent) -> float:
        return self._timeout * REQUEST_INTERVALS[0 if connection.ice_controlling else 1]

    def _sleep_until(self, due: float) -> None:
        grid = self._timeout * GRID
        self._due = math.ceil(due / grid) * grid
        self._timer = asyncio.get_running_loop().call_at(self._due, self._check)

    def _check(self) -> None:
        connection = self._connection
        if connection is None:
            return
        path = connection.path
        now = asyncio.get_running_loop().time()
        timeout = self._timeout
        if now - self._due > timeout * SUSPENDED_THRESHOLD:
            earliest = now - timeout * (1 - RESUMED_INTERVAL)
            if path.last_received_at < earliest:
                logger.info("The loop was suspended for %.1f s", now - self._due)
                path.last_received_at = earliest
            path.consent_at = max(path.consent_at, now - CONSENT_INTERVAL_SECONDS)
        silence = now - path.last_received_at
        if silence >= timeout or now - path.consent_at >= CONSENT_LIFETIME_SECONDS:
            self.stop()
            self._on_lost()
            return
        request_interval = self._request_interval(connection)
        is_silent = silence >= request_interval
        if is_silent:
            is_late = silence >= timeout * LATE_THRESHOLD
            interval = LATE_RETRY_INTERVAL if is_late else RETRY_INTERVAL
            self._sleep_until(min(now + timeout * interval, path.last_received_at + timeout))
        else:
            self._sleep_until(path.last_received_at + request_interval)
        # The timer is already set: an exception below must not end the monitoring.
        if is_silent or now - path.last_request_at >= CONSENT_INTERVAL_SECONDS:
            path.send_binding_request()
        if silence >= timeout * RECHECK_THRESHOLD:
            connection.restart_checks()
        else:
            connection.stop_checks()
        if silence >= timeout * SILENCE_REPORT_THRESHOLD:
            self._reported = True
            self._on_silence(silence)
        elif self._reported:
            self._reported = False
            self._on_silence(0.0)
