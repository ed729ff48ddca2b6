"""What a peer may send, checked before anything is done with it; no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from artico_sync.server.limits import ServerLimits

# What a value takes on the wire besides its own characters: quotes, comma, colon.
NODE_SIZE = 8
# More nodes than any signal has; keeps a message of millions of empty lists from being walked.
MAXIMUM_NODES = 20_000


class MalformedError(ValueError):
    """A payload is not what the protocol says; the message never quotes it."""


@dataclass(frozen=True)
class Signal:
    """A checked signal, as it is relayed."""

    target: str
    message: dict[str, object]


@dataclass(frozen=True)
class Join:
    """A checked wish to enter a room."""

    room: str
    metadata: object


def measure(value: object, max_depth: int) -> int:
    """About how many characters a value takes on the wire.

    Raises:
        MalformedError: It is nested more deeply, or has more parts, than any signal.
    """
    size = nodes = 0
    level: list[object] = [value]
    for _ in range(max_depth):
        deeper: list[object] = []
        for item in level:
            nodes += 1
            size += NODE_SIZE
            if isinstance(item, str):
                size += len(item)
            elif isinstance(item, dict):
                size += sum(len(key) + NODE_SIZE for key in item)
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
    """Whether a peer may be called so: printable, not too long, without blanks at its ends."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= limits.max_id
        and value.isprintable()
        and value == value.strip()
    )


def parse_signal(arguments: tuple[object, ...], source: str, limits: ServerLimits) -> Signal:
    """Check a `signal` and stamp it with the id of who sent it.

    Raises:
        MalformedError: It is not a signal.
    """
    payload = arguments[0] if arguments else None
    if not isinstance(payload, dict):
        raise MalformedError("is no mapping")
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
    return Signal(target, message)


def parse_join(arguments: tuple[object, ...], limits: ServerLimits) -> Join:
    """Check a `join`.

    Raises:
        MalformedError: It is not one.
    """
    room, metadata = (*arguments, None, None)[:2]
    if not isinstance(room, str) or not 0 < len(room) <= limits.max_room_id:
        raise MalformedError("names no room")
    if metadata is not None:
        _checked_metadata(metadata, limits)
    return Join(room, metadata)


def _checked_metadata(metadata: object, limits: ServerLimits) -> object:
    if measure(metadata, limits.max_depth) > limits.max_metadata + NODE_SIZE:
        raise MalformedError("has too large metadata")
    return metadata
