"""Messages between server and peer: those received are checked, those sent are encoded once."""

from __future__ import annotations

from dataclasses import dataclass

from artico_sync._protocol._socketio import EVENT, strict_json
from artico_sync._protocol.messages import MalformedError
from artico_sync.server.limits import ServerLimits

# Characters a value takes on the wire besides its own: quotes, comma, colon.
NODE_OVERHEAD = 8
# More nodes than any signal has; bounds the time to walk a message of millions of empty lists.
MAXIMUM_NODES = 20_000


class EncodedEvent:
    """An event, encoded once for any number of recipients.

    Args:
        name: Its name in Artico's protocol.
        arguments: JSON values.

    Raises:
        ValueError: An argument cannot be written as JSON.
    """

    __slots__ = ("packet",)

    def __init__(self, name: str, *arguments: object) -> None:
        #: The Socket.IO packet, ASCII only.
        self.packet: str = str(EVENT) + strict_json.dumps([name, *arguments], separators=(",", ":"))


@dataclass(frozen=True)
class RelayedSignal:
    """A checked signal, with the message to relay."""

    target: str
    message: dict[str, object]


@dataclass(frozen=True)
class JoinRequest:
    """A checked request to enter a room."""

    room: str
    metadata: object


def measure(value: object, max_depth: int) -> int:
    """Return the approximate number of characters a value takes on the wire.

    Raises:
        MalformedError: It is nested more deeply, or has more parts, than any signal.
    """
    size = nodes = 0
    level: list[object] = [value]
    for _ in range(max_depth):
        deeper: list[object] = []
        for item in level:
            nodes += 1
            size += NODE_OVERHEAD
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, dict):
                size += sum(len(key) + NODE_OVERHEAD for key in item)
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
        if nodes + len(deeper) > MAXIMUM_NODES:
            raise MalformedError("has too many parts")
        if not deeper:
            return size
        level = deeper
    raise MalformedError("is nested too deeply")


def is_valid_id(value: object, limits: ServerLimits) -> bool:
    """Return whether a value may be a peer id: printable, bounded, without blanks at its ends."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= limits.max_id
        and value.isprintable()
        and value == value.strip()
    )


def parse_relayed_signal(
    arguments: tuple[object, ...], source: str, limits: ServerLimits
) -> RelayedSignal:
    """Check the arguments of a `signal` event and add the sender's id.

    Raises:
        MalformedError: They are not those of a signal; the message never quotes them.
    """
    payload = arguments[0] if arguments else None
    if not isinstance(payload, dict):
        raise MalformedError("is not a mapping")
    target, session, signal = (payload.get(name) for name in ("target", "session", "signal"))
    if not isinstance(target, str) or not 0 < len(target) <= limits.max_id:
        raise MalformedError("has no target")
    if not isinstance(session, str) or not 0 < len(session) <= limits.max_session:
        raise MalformedError("has no session")
    if not isinstance(signal, dict):
        raise MalformedError("has nothing to relay")
    message: dict[str, object] = {"target": target, "source": source, "session": session}
    metadata = payload.get("metadata")
    if metadata is not None:
        message["metadata"] = _checked_metadata(metadata, limits)
    message["signal"] = signal
    measure(message, limits.max_depth)
    return RelayedSignal(target, message)


def parse_join(arguments: tuple[object, ...], limits: ServerLimits) -> JoinRequest:
    """Check the arguments of a `join` event.

    Raises:
        MalformedError: They are not those of a join.
    """
    room, metadata = (*arguments, None, None)[:2]
    if not isinstance(room, str) or not 0 < len(room) <= limits.max_room_id:
        raise MalformedError("names no room")
    if metadata is not None:
        _checked_metadata(metadata, limits)
    return JoinRequest(room, metadata)


def _checked_metadata(metadata: object, limits: ServerLimits) -> object:
    if measure(metadata, limits.max_depth) > limits.max_metadata + NODE_OVERHEAD:
        raise MalformedError("has too large metadata")
    return metadata
