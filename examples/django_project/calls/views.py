"""Views that call a peer while the request waits."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from artico_sync import (
    ArticoTimeoutError,
    CallRejectedError,
    PeerUnavailableError,
    SignalingError,
)
from artico_sync.contrib.django import calling, get_artico

LONGEST_WAIT = 20.0


def whoami(request: HttpRequest) -> JsonResponse:
    """The peer id of the process that serves this request."""
    return JsonResponse({"peer": get_artico().id})


@csrf_exempt  # for curl and scripts; leave it out for forms
@require_POST
def ask(request: HttpRequest) -> JsonResponse:
    """Call a peer, send a text, and respond with its reply."""
    peer, text = request.POST["peer"], request.POST["text"]
    timeout = min(float(request.POST.get("timeout", "5")), LONGEST_WAIT)
    try:
        with calling(peer, metadata="ask", timeout=timeout) as call:
            call.send(text)
            return JsonResponse({"peer": peer, "answer": call.recv(timeout)})
    except ArticoTimeoutError as error:
        # The call is cancelled: the other side does not ring any more.
        return JsonResponse({"error": str(error)}, status=504)
    except PeerUnavailableError as error:
        return JsonResponse({"error": str(error)}, status=404)
    except CallRejectedError as error:
        return JsonResponse({"error": str(error)}, status=409)
    except SignalingError as error:
        return JsonResponse({"error": str(error)}, status=503)
