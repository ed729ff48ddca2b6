"""Artico's messages on the wire: those received are checked, those sent are built.

What a remote peer sends leaves this module only in the form that the protocol defines.
"""

from __future__ import annotations

import json
import secrets
import string
from dataclasses import dataclass
from typing import Any

from artico_sync._protocol.settings import Settings

CALL_PREFIX = "call:"
ROOM_PREFIX = "room:"
AGENT = "artico_sync"
CONTROL = "[artico]"

#: Signal types of this library, sent only to peers known to use it.
RINGING = "ringing"
BYE = "bye"

_ALPHABET = string.ascii_letters + string.digits
#: Maximum number of characters of a peer id and of a session id.
LONGEST_NAME = 1024
#: Maximum number of characters of the user's text in a bye.
LONGEST_DETAIL = 1000
#: Maximum number of characters of the token that identifies an offer.
LONGEST_TOKEN = 64
_LONGEST_CANDIDATE = 2048
#: Members of a candidate that are text; `sdpMLineIndex` is a number.
_CANDIDATE_TEXTS = ("candidate", "sdpMid", "usernameFragment")
_HIGHEST_LINE = 65535


class MalformedError(ValueError):
    """A message from the network is not one of the protocol."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A received signal, checked.

    Attributes:
        source: Id of the peer that sent it, as set by the server.
        session: Session id of the call.
        metadata: The caller's metadata of the call, if any.
        type: "sdp", "candidate", "ringing", "bye", or an unknown type.
        body: The known members of the signal, and no others.
        from_artico_sync: Whether the sender says that it is this library.
    """

    source: str
    session: str
    metadata: str | None
    type: str
    body: dict[str, Any]
    from_artico_sync: bool

    @property
    def is_offer(self) -> bool:
        """Return whether it carries an offer."""
        return self.type == "sdp" and self.body["data"]["type"] == "offer"

    @property
    def _data(self) -> dict[str, Any]:
        return self.body.get("data") or {}

    @property
    def characters(self) -> int:
        """Number of characters of text in the body."""
        return sum(len(value) for value in self._data.values() if isinstance(value, str))

    @property
    def reason(self) -> str:
        """The reason code of a bye; empty without one."""
        return str(self._data.get("reason", ""))

    @property
    def detail(self) -> str | None:
        """The text of the peer's user in a bye, if any."""
        return self._data.get("detail") or None


def random_token(length: int) -> str:
    """Return `length` random letters and digits that cannot be guessed."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_peer_id() -> str:
    """Return a random peer id."""
    return random_token(24)


def new_session_id() -> str:
    """Return a random session id of a call."""
    return CALL_PREFIX + random_token(10)


def _text(value: object, what: str, limit: int) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{what} is not text")
    if len(value) > limit:
        raise MalformedError(f"{what} has {len(value)} characters, more than {limit}")
    return value


def parse_signal(message: object, settings: Settings) -> Signal:
    """Check the message of a received `signal` event.

    Raises:
        MalformedError: It is not that of a signal.
    """
    if not isinstance(message, dict):
        raise MalformedError("the message is not an object")
    source = _text(message.get("source"), "source", LONGEST_NAME)
    session = _text(message.get("session"), "session", LONGEST_NAME)
    if not session.isprintable():
        # Session ids are shown in logs and on terminals.
        raise MalformedError("session is not printable")
    metadata = message.get("metadata")
    if metadata is not None:
        metadata = _text(metadata, "metadata", settings.maximum_message)
    raw = message.get("signal")
    if not isinstance(raw, dict):
        raise MalformedError("the signal is not an object")
    kind = _text(raw.get("type"), "signal type", 64)
    body: dict[str, Any] = {"type": kind}
    if kind == "sdp":
        body["data"] = _description(raw.get("data"), settings)
    elif kind == "candidate":
        body["data"] = _candidate(raw.get("data"))
    elif kind == BYE:
        body["data"] = _reasons(raw.get("data"))
    return Signal(source, session, metadata, kind, body, raw.get("agent") == AGENT)


def _description(data: object, settings: Settings) -> dict[str, str]:
    if not isinstance(data, dict):
        raise MalformedError("the description is not an object")
    kind, token = data.get("type"), data.get("offer")
    if kind not in ("offer", "answer"):
        raise MalformedError("the description is neither offer nor answer")
    sdp = _text(data.get("sdp"), "SDP", settings.maximum_sdp)
    lines = sdp.count("\nm=") + sdp.startswith("m=")
    if lines > settings.maximum_media_lines:
        raise MalformedError(
            f"the SDP has {lines} m-lines, more than {settings.maximum_media_lines}"
        )
    description = {"type": kind, "sdp": sdp}
    if token is not None:
        description["offer"] = _text(token, "the offer's token", LONGEST_TOKEN)
    return description


def _candidate(data: object) -> dict[str, object] | None:
    if data is None:
        return None
    if not isinstance(data, dict):
        raise MalformedError("the candidate is not an object")
    candidate: dict[str, object] = {
        name: _text(data[name], name, _LONGEST_CANDIDATE)
        for name in _CANDIDATE_TEXTS
        if data.get(name) is not None
    }
    index = data.get("sdpMLineIndex")
    if index is not None:
        if isinstance(index, bool) or not isinstance(index, int):
            raise MalformedError("sdpMLineIndex is not a whole number")
        if not 0 <= index <= _HIGHEST_LINE:
            raise MalformedError("sdpMLineIndex is out of range")
        candidate["sdpMLineIndex"] = index
    return candidate


def _reasons(data: object) -> dict[str, str]:
    given = data if isinstance(data, dict) else {}
    return {
        name: given[name][:LONGEST_DETAIL]
        for name in ("reason", "detail")
        if isinstance(given.get(name), str)
    }


def build_message(
    target: str, session: str, metadata: str | None, body: dict[str, Any]
) -> dict[str, object]:
    """Return a message for the server; without metadata if that is None."""
    message: dict[str, object] = {"target": target, "session": session, "signal": body}
    if metadata is not None:
        message["metadata"] = metadata
    return message


def bye(reason: str, detail: str | None = None) -> dict[str, Any]:
    """Return the body of a bye with a reason code and optional text of the user."""
    data = {"reason": reason}
    if detail:
        data["detail"] = detail[:LONGEST_DETAIL]
    return {"type": BYE, "agent": AGENT, "data": data}


def is_bye(message: dict[str, object]) -> bool:
    """Return whether an outgoing message is a bye."""
    body = message["signal"]
    return isinstance(body, dict) and body.get("type") == BYE


def ringing() -> dict[str, Any]:
    """Return the body of a ringing signal."""
    return {"type": RINGING, "agent": AGENT}


def _looks_like_object(text: str) -> bool:
    return text[:1] == "{" or text[:64].lstrip(" \t\r\n")[:1] == "{"


def parse_control(text: str) -> dict[str, Any] | None:
    """Return the control message in a text from the data channel; None for a text of the user.

    A text is a control message if Artico's JavaScript client treats it as one: JSON with the type
    "[artico]" and data.
    """
    if not _looks_like_object(text) or ("artico" not in text and "\\u" not in text):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("type") != CONTROL:
        return None
    data = value.get("data")
    if data is None:
        return None
    return data if isinstance(data, dict) else {}


def stream_metadata_message(stream_id: str, metadata: str | None) -> str:
    """Return the control message that precedes the tracks of a stream."""
    payload = {"streamId": stream_id, "metadata": metadata or ""}
    return json.dumps({"type": CONTROL, "data": {"cmd": "stream-meta", "payload": payload}})
