"""python-socketio as both ends use it: strict packets, quiet loggers, and its private parts.

python-socketio parses what a remote peer sends before any handler sees it. By default it waits for
any number of binary attachments, lets a peer trigger the handlers of `connect` and `disconnect`,
and logs whole packets, session descriptions and tokens included.

No other module uses undocumented names of python-socketio or python-engineio; setup.cfg holds both
packages to the versions that have the names used here.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import engineio
import socketio
import socketio.packet

CONNECT = socketio.packet.CONNECT
DISCONNECT = socketio.packet.DISCONNECT
EVENT = socketio.packet.EVENT
ACK = socketio.packet.ACK
CONNECT_ERROR = socketio.packet.CONNECT_ERROR

MAXIMUM_NUMBER_DIGITS = 32
# No request has this number, so its acknowledgement is ignored.
UNUSED_REQUEST_NUMBER = -1


# -- JSON ------------------------------------------------------------------------------------


def _refuse_constant(name: str) -> object:
    # A browser's JSON.parse refuses NaN and Infinity, and its client drops the connection.
    raise ValueError(f"{name} is not JSON")


def _bounded_integer(digits: str) -> int:
    if len(digits) > MAXIMUM_NUMBER_DIGITS:
        raise ValueError("number too long")
    return int(digits)


def _finite_float(text: str) -> float:
    # 1e400 is valid JSON, but Python reads it as infinity, which cannot be written as JSON again.
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


#: Stands in for the `json` module in python-socketio.
strict_json = SimpleNamespace(loads=_loads, dumps=_dumps, JSONDecodeError=json.JSONDecodeError)


# -- packets ---------------------------------------------------------------------------------


class _StrictPacket(socketio.packet.Packet):  # type: ignore[misc]
    """A Socket.IO packet that is one of Artico's protocol, or an acknowledgement without effect.

    An exception from the parser would end in a traceback in the log, or in a task whose exception
    is never retrieved.
    """

    uses_binary_events = False
    json = strict_json
    packet_type: Any
    namespace: Any
    id: Any
    data: Any

    accepted_types: frozenset[int]
    accepted_events: frozenset[str]
    on_malformed: Callable[[str], None]

    def __init__(self, *args: Any, encoded_packet: object = None, **options: Any) -> None:
        super().__init__(*args, encoded_packet=encoded_packet, **options)
        if encoded_packet is not None and not encoded_packet:
            # The base class treats an empty packet as none, and makes an event of it.
            self._refuse("empty")

    def decode(self, encoded_packet: object) -> int:
        """Parse a packet, and return the number of its binary attachments: always 0."""
        try:
            self._decode_strictly(encoded_packet)
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            self._refuse(str(error.args[0])[:80] if error.args else type(error).__name__)
        return 0

    def _refuse(self, reason: str) -> None:
        self.on_malformed(reason)
        self.packet_type = ACK
        self.namespace, self.id, self.data = None, UNUSED_REQUEST_NUMBER, []

    def _decode_strictly(self, encoded_packet: object) -> None:
        if not isinstance(encoded_packet, str):
            raise ValueError("not text")
        attachments = super().decode(encoded_packet)
        if attachments or self.packet_type not in self.accepted_types:
            raise ValueError("packet type not used by Artico")
        if self.namespace not in (None, "/"):
            # Also for a connect packet: python-socketio echoes its namespace in the answer.
            raise ValueError("unknown namespace")
        if self.packet_type == EVENT:
            self._check_event(self.data)
        elif self.packet_type == ACK and not isinstance(self.data, list):
            raise ValueError("acknowledgement without a list")
        elif self.packet_type == CONNECT:
            if self.data is not None and not isinstance(self.data, dict):
                raise ValueError("connect payload is not a mapping")

    def _check_event(self, data: object) -> None:
        if not isinstance(data, list) or not data or not isinstance(data[0], str):
            raise ValueError("event without a name")
        if data[0] not in self.accepted_events:
            raise ValueError("unknown event")


def strict_packet_class(
    types: frozenset[int], events: frozenset[str], on_malformed: Callable[[str], None]
) -> type[Any]:
    """Return a Socket.IO packet class that lets through only what Artico's protocol has.

    Args:
        types: The packet types accepted.
        events: The event names accepted.
        on_malformed: Called with the reason, never the content, for each packet not accepted.
    """
    return type(
        "StrictPacket",
        (_StrictPacket,),
        {
            "accepted_types": types,
            "accepted_events": events,
            "on_malformed": staticmethod(on_malformed),
        },
    )


# -- logging ---------------------------------------------------------------------------------


class QuietLogger:
    """Stands in for the loggers of python-socketio and python-engineio, which log whole packets.

    It passes on that something went wrong, at debug level and without content; the outcome reaches
    the user as an exception or an event.
    """

    level = logging.CRITICAL

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: object, *args: object, **options: object) -> None:
        """Discard the message."""

    info = debug

    def warning(self, message: object, *args: object, **options: object) -> None:
        """Log the format string of the message, without its arguments."""
        self._logger.debug("socket.io: %s", str(message)[:120])

    error = warning

    def exception(self, message: object, *args: object, **options: object) -> None:
        """Log with the traceback, because this is a fault in this program."""
        self._logger.error("socket.io: %s", str(message)[:120], exc_info=True)


# -- private parts: the server ---------------------------------------------------------------


class _EngineServer(engineio.AsyncServer):  # type: ignore[misc]
    """An Engine.IO server that keeps its background tasks and asks before it queues a packet."""

    def __init__(self, **options: Any) -> None:
        #: Engine.IO does not end its tasks itself: a ping task sleeps on after its connection.
        self.background_tasks: set[Any] = set()
        #: Called with the session id and the content before a packet is queued.
        self.may_queue: Callable[[str, str], bool] = lambda session, packet: True
        super().__init__(**options)

    async def send_packet(self, sid: str, pkt: Any) -> None:
        """Queue a packet; Socket.IO sends events, answers and acknowledgements through this."""
        if self.may_queue(sid, pkt.data):
            await super().send_packet(sid, pkt)

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Start a task and keep it until it ends."""
        task = super().start_background_task(target, *args, **kwargs)
        self.background_tasks.add(task)
        task.add_done_callback(self.background_tasks.discard)
        return task


class StrictServer(socketio.AsyncServer):  # type: ignore[misc]
    """A Socket.IO server whose queues can be bounded and whose tasks can be ended.

    Args:
        may_queue: Called with an Engine.IO session id and the packet before it is queued.
        options: Those of `socketio.AsyncServer`.
    """

    def __init__(self, may_queue: Callable[[str, str], bool], **options: Any) -> None:
        super().__init__(**options)
        self.eio.may_queue = may_queue

    def _engineio_server_class(self) -> type[_EngineServer]:
        """Called by the constructor to make `eio`."""
        return _EngineServer

    @property
    def background_tasks(self) -> set[Any]:
        """Tasks that the Engine.IO server has started and that have not ended."""
        return set(self.eio.background_tasks)

    async def send_encoded(self, sid: str, packet: str) -> None:
        """Send an encoded packet; `emit()` would encode an event again for each recipient."""
        # The manager maps session ids of Socket.IO to those of Engine.IO.
        session = self.manager.eio_sid_from_sid(sid, "/")
        if session is not None:
            await self.eio.send(session, packet)

    def scope(self, session: str) -> Any:
        """Return the ASGI scope of an Engine.IO session, or None if it has ended."""
        environ = self.environ.get(session)
        return environ["asgi.scope"] if environ is not None else None


# -- private parts: the client ---------------------------------------------------------------


class StrictClient(socketio.AsyncClient):  # type: ignore[misc]
    """A Socket.IO client whose queue can be bounded and whose tasks can be awaited."""

    @property
    def is_transport_connected(self) -> bool:
        """Return whether the Engine.IO connection under the Socket.IO one is open."""
        return bool(self.eio.state == "connected")

    @property
    def queued_packets(self) -> int:
        """Number of packets that the Engine.IO client has not written yet."""
        return int(self.eio.queue.qsize())

    @property
    def transport_queue(self) -> Any:
        """The queue of packets to be written, with `join()`."""
        return self.eio.queue

    @property
    def writer_task(self) -> Any:
        """The task that writes the queued packets; None before the connection is open."""
        return self.eio.write_loop_task

    @property
    def transport_tasks(self) -> set[Any]:
        """The tasks that read from and write to the connection."""
        return {self.eio.read_loop_task, self.eio.write_loop_task} - {None}

    async def send_disconnect(self) -> None:
        """Queue a Socket.IO disconnect packet; `disconnect()` closes before it is written."""
        await self.eio.send(str(DISCONNECT))

    async def abort(self) -> None:
        """End the Engine.IO connection without waiting for its tasks."""
        await self.eio.disconnect(abort=True)
