"""Cuts a call's connection for a test of a program: no packet goes in or out any more; user
threads."""

from __future__ import annotations

import threading

from artico_sync._bridge.call import CallBridge
from artico_sync._bridge.waiting.deadline import Deadline

# Seconds the loop gets to take the order.
LIMIT = 5.0


def blackhole(port: CallBridge) -> None:
    """Have the call fall silent; returns when it has.

    Raises:
        ArticoTimeoutError: The loop is not there any more, or too busy.
    """
    done = threading.Event()
    deadline = Deadline(LIMIT)
    port.lease.post(_cut, port, done)
    while not done.wait(deadline.slice()):
        if deadline.expired:
            raise deadline.error("the call to fall silent", port.session_id, port.target)


def _cut(port: CallBridge, done: threading.Event) -> None:
    from artico_sync._webrtc.ice.blackhole import blackhole as cut

    session = port.engine
    if session is not None and session.connection is not None:
        cut(session.connection.ice_transport)
    done.set()
