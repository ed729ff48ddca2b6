"""Calls in a Django project; user threads.

In the settings::

    INSTALLED_APPS = [..., "artico_sync.contrib.django"]
    ARTICO = {"URL": "http://localhost:9000"}

Its keys are `URL`, `ID` (`"shop-{pid}"` gives each process its own), `TOKEN`, `RTC_CONFIG`,
`CONNECT_TIMEOUT` in seconds, and `OPTIONS`, a mapping of further arguments of `Artico`; all may be
left out. In a view::

    from artico_sync.contrib.django import calling

    def greet(request, peer):
        with calling(peer, timeout=5) as call:
            call.send("hello")
            return JsonResponse({"answer": call.recv(timeout=5)})

Incoming calls are served by a function of one's own, on a thread for each, and by a process of its
own, `manage.py artico_answer shop.calls.answer --id shop`::

    def answer(call, metadata):
        with call.answer():
            for text in call:
                call.send(text.upper())
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from artico_sync.artico import Artico
from artico_sync.call import Call
from artico_sync.contrib.django.client import settings_client
from artico_sync.contrib.process_client import calling as calling_with

__all__ = ["calling", "get_artico"]


def get_artico(timeout: float | None = None) -> Artico:
    """This process's client, made from the setting `ARTICO` and connected when first asked for.

    Each worker has its own; a process that only watches for changed files never asks, and so never
    connects. At the exit of the process it hangs up and disconnects. Any thread.

    Example:
        >>> get_artico().state
        'ready'

    Args:
        timeout: Seconds to wait for signalling; else the setting's `CONNECT_TIMEOUT` (10).

    Returns:
        The client, connected.

    Raises:
        IdTakenError, InvalidIdError, SignalingError, ArticoTimeoutError: As `Artico.connect`.
        ImproperlyConfigured: The setting cannot be used.
    """
    return settings_client.connected(timeout)


def calling(
    target: str, metadata: str | None = None, timeout: float | None = 10
) -> AbstractContextManager[Call]:
    """Call a peer for the length of a `with` block, which begins when the call is open and hangs
    up at its end; any thread.

    Example:
        >>> with calling("bob", timeout=5) as call:
        ...     call.send("hello")
        ...     call.recv(timeout=5)
        'HELLO'

    Args:
        target: The other peer's id.
        metadata: Given with the call.
        timeout: Seconds it may ring and connect; None for ever. A call that takes longer is
            cancelled: the other side stops ringing.

    Returns:
        For `with`: the open `Call`.

    Raises:
        ArticoTimeoutError: Nobody answered in time.
        CallError: The call came to nothing otherwise: `PeerUnavailableError`, `CallRejectedError`,
            `ConnectionFailedError`.
        SignalingError: The server cannot be reached.
        ImproperlyConfigured: The setting `ARTICO` cannot be used.
    """
    return calling_with(get_artico(), target, metadata, timeout)
