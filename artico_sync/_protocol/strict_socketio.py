"""What both ends need where python-socketio begins: strict packets and quiet loggers; loop thread.

python-socketio parses what strangers send before any handler of ours sees it. Left alone it waits
for any number of binary attachments, lets a peer trigger the handlers of `connect` and
`disconnect`, and logs whole packets, descriptions and tokens included.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import socketio.packet

NUMBER_DIGITS = 32
# No packet of ours asks under this number, so an acknowledgement of it is passed over.
NO_REQUEST = -1


def _refuse_constant(name: str) -> object:
    # A browser's JSON.parse refuses these, and with them the whole connection.
    raise ValueError(f"{name} is not JSON")


def _bounded_integer(digits: str) -> int:
    if len(digits) > NUMBER_DIGITS:
        raise ValueError("number too long")
    return int(digits)


def _finite_float(text: str) -> float:
    # 1e400 is JSON, but read as a float it is infinite, and cannot be passed on as JSON any more.
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("number too large")
    return value


def _loads(text: str) -> object:
    return json.loads(
        text,
        parse_constant=_refuse_constant,
        parse_int=_bounded_integer,
        parse_float=_finite_float,
    )


def _dumps(value: object, **options: Any) -> str:
    return json.dumps(value, allow_nan=False, **options)


strict_json = SimpleNamespace(loads=_loads, dumps=_dumps, JSONDecodeError=json.JSONDecodeError)


def strict_packet_class(
    types: frozenset[int], events: frozenset[str], on_malformed: Callable[[str], None]
) -> type[Any]:
    """Make a Socket.IO packet class that lets through only what Artico's protocol has.

    Anything else becomes an acknowledgement nobody waits for: raising out of the parser would end
    in a traceback in the log, or in a task whose exception nobody fetches.

    Args:
        types: The packet types accepted.
        events: The event names accepted.
        on_malformed: Told the reason, never the content.
    """

    class StrictPacket(socketio.packet.Packet):  # type: ignore[misc]
        uses_binary_events = False
        json = strict_json
        packet_type: Any
        namespace: Any
        id: Any
        data: Any

        def __init__(self, *args: Any, encoded_packet: object = None, **options: Any) -> None:
            super().__init__(*args, encoded_packet=encoded_packet, **options)
            if encoded_packet is not None and not encoded_packet:
                # The base class takes it for no packet at all, and itself for an event.
                self._refuse("empty")

        def decode(self, encoded_packet: object) -> int:
            try:
                self._decode_strictly(encoded_packet)
            except (ValueError, TypeError, IndexError, RecursionError) as error:
                self._refuse(str(error.args[0])[:80] if error.args else type(error).__name__)
            return 0

        def _refuse(self, reason: str) -> None:
            on_malformed(reason)
            self.packet_type = socketio.packet.ACK
            self.namespace, self.id, self.data = None, NO_REQUEST, []

        def _decode_strictly(self, encoded_packet: object) -> None:
            if not isinstance(encoded_packet, str):
                raise ValueError("not text")
            attachments = super().decode(encoded_packet)
            if attachments or self.packet_type not in types:
                raise ValueError("packet type not used by Artico")
            if self.namespace not in (None, "/"):
                # A connection to one as well: python-socketio answers it with the name it came by.
                raise ValueError("unknown namespace")
            if self.packet_type == socketio.packet.EVENT:
                self._check_event(self.data)
            elif self.packet_type == socketio.packet.ACK and not isinstance(self.data, list):
                raise ValueError("acknowledgement without a list")
            elif self.packet_type == socketio.packet.CONNECT:
                if self.data is not None and not isinstance(self.data, dict):
                    raise ValueError("connect payload is not a mapping")

        @staticmethod
        def _check_event(data: object) -> None:
            if not isinstance(data, list) or not data or not isinstance(data[0], str):
                raise ValueError("event without a name")
            if data[0] not in events:
                raise ValueError("unknown event")

    return StrictPacket


class QuietLogger:
    """Stands in for the loggers of python-socketio and python-engineio, which log whole packets.

    Only that something went wrong is passed on, to a logger of ours and at debug level; the
    outcome reaches the user as an exception or an event anyway.
    """

    level = logging.CRITICAL

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: object, *args: object, **options: object) -> None:
        """Drop it."""

    info = debug

    def warning(self, message: object, *args: object, **options: object) -> None:
        """Pass on the message's pattern, without what was to be filled in."""
        self._logger.debug("socket.io: %s", str(message)[:120])

    error = warning

    def exception(self, message: object, *args: object, **options: object) -> None:
        """Pass on with the traceback: this is a fault in this program, not in what came."""
        self._logger.error("socket.io: %s", str(message)[:120], exc_info=True)
