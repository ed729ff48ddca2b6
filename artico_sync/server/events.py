"""What the server tells peers; no I/O."""

from __future__ import annotations

from artico_sync._protocol.strict_socketio import strict_json

# The type of an event's packet in Socket.IO.
EVENT = "2"


class Event:
    """An event, encoded once however many peers it goes to.

    Args:
        name: Its name in Artico's protocol.
        arguments: Anything JSON has.

    Raises:
        ValueError: An argument has no place in JSON.
    """

    __slots__ = ("packet",)

    def __init__(self, name: str, *arguments: object) -> None:
        #: The Socket.IO packet, ASCII only.
        self.packet: str = EVENT + strict_json.dumps([name, *arguments], separators=(",", ":"))
