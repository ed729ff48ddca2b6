"""Errors of connecting to a signaling server, with advice on what to do."""

from __future__ import annotations

import errno
import socket

import aiohttp

from artico_sync._engine.signaling.server_url import ServerUrl
from artico_sync.errors import IdTakenError, InvalidIdError, SignalingError

_STATUS_ADVICE = {
    401: "it requires a valid token: pass token=...",
    403: "it does not allow this client; if it requires a token, pass token=...",
    404: "there is no Socket.IO server under this path: check the URL",
    426: "it does not speak WebSocket: check the URL",
    429: "too many connections from this address: try again later",
    502: "the server behind the proxy does not answer",
    503: "it is full or stopping: try again later",
}


def refusal(code: str, peer_id: str) -> SignalingError:
    """Return the exception for an `error` event of the server."""
    if code == "id-taken":
        return IdTakenError(
            "Another client is connected with this id: choose another, or wait until it has left.",
            peer=peer_id,
        )
    if code == "invalid-id":
        return InvalidIdError(
            "The signaling server does not accept this id for this client.", peer=peer_id
        )
    if code == "unauthorized":
        return SignalingError(
            "The signaling server does not accept the token: pass a valid token=..."
        )
    return SignalingError(f"The signaling server reports an error: {code or 'unknown'}.")


def unreachable(url: ServerUrl, error: BaseException, refused: str | None) -> SignalingError:
    """Return the exception for a connection that could not be made.

    Args:
        url: The URL of the server.
        error: The exception of the Socket.IO client; the reason is in its chain of causes.
        refused: The message of the server if it refused the Socket.IO connection.
    """
    if refused is not None:
        return SignalingError(f"The signaling server at {url} refused: {refused}.")
    for cause in _chain(error):
        reason = _reason(cause)
        if reason is not None:
            return SignalingError(f"Cannot connect to the signaling server at {url}: {reason}.")
    # Without the text of the error, which may contain the URL with the secrets in its query.
    kind = type(error).__name__
    return SignalingError(
        f"What answers at {url} is not a signaling server ({kind}): check the URL."
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _reason(cause: BaseException) -> str | None:
    if isinstance(cause, aiohttp.WSServerHandshakeError):
        advice = _STATUS_ADVICE.get(cause.status, "check the URL")
        return f"it answered HTTP {cause.status}; {advice}"
    if isinstance(cause, aiohttp.ClientResponseError):
        return "it does not answer as a web server does: check the URL"
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return (
            "its certificate is not trusted: check the host name, or the certificates trusted here"
        )
    if isinstance(cause, aiohttp.ClientConnectorSSLError):
        return "no TLS connection could be made: is it an http:// server?"
    if isinstance(cause, socket.gaierror):
        return "the host name is unknown: check the URL, and the network"
    if isinstance(cause, aiohttp.ClientConnectorError):
        return _reason(cause.os_error) or f"{cause.os_error.strerror or cause.os_error}"
    if isinstance(cause, ConnectionRefusedError) or (
        isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED
    ):
        return (
            "connection refused. Is the server running there? `artico-sync serve` starts one;"
            " else check host and port"
        )
    if isinstance(cause, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "it closed the connection at once: is it an https:// server?"
    return None
