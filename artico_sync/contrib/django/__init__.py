"""Calls in a Django project.

In the settings::

    INSTALLED_APPS = [..., "artico_sync.contrib.django"]
    ARTICO = {"URL": "http://localhost:9000"}

Its keys are `URL`, `ID` (`"shop-{pid}"` gives each process its own), `TOKEN`, `RTC_CONFIG`,
`CONNECT_TIMEOUT` in seconds, and `OPTIONS`, a mapping of further arguments of `Artico`; all are
optional. In a view::

    from artico_sync.contrib.django import calling

    def greet(request, peer):
        with calling(peer, timeout=5) as call:
            call.send("hello")
            return JsonResponse({"answer": call.recv(timeout=5)})

A function of the project serves incoming calls, on one thread per call, in a process of its own:
`manage.py artico_answer shop.calls.answer --id shop`::

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
    """Return the client of this process, made from the setting `ARTICO` and connected at first use.

    Each worker has its own; a process that only watches for changed files does not connect. At the
    exit of the process it hangs up and disconnects. May be called from any thread.

    Example:
        >>> get_artico().state
        'ready'

    Args:
        timeout: Seconds to wait for signaling; else the setting's `CONNECT_TIMEOUT` (10).

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
    """Call a peer for the duration of a `with` block, which begins when the call is open; its end
    hangs up. May be called from any thread.

    Example:
        >>> with calling("bob", timeout=5) as call:
        ...     call.send("hello")
        ...     call.recv(timeout=5)
        'HELLO'

    Args:
        target: The other peer's id.
        metadata: Sent with the call.
        timeout: Seconds it may ring and connect; None waits without limit. A call that takes
            longer is canceled: the other side stops ringing.

    Returns:
        For `with`: the open `Call`.

    Raises:
        ArticoTimeoutError: The peer did not answer in time.
        CallError: The call failed for another reason: `PeerUnavailableError`, `CallRejectedError`,
            `ConnectionFailedError`.
        SignalingError: The server cannot be reached.
        ImproperlyConfigured: The setting `ARTICO` cannot be used.
    """
    return calling_with(get_artico(), target, metadata, timeout)
