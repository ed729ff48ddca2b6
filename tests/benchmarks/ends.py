"""The end of a call in a process of its own: artico_sync's, or aiortc's bare; child processes.

The parent sends orders, a function of a benchmark and its arguments, and gets what the function
returns. For artico_sync the functions are plain and run on the main thread, the user's; for
aiortc they are coroutine functions and run on its loop. Signals go through a pipe of their own.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiortc import RTCDataChannel, RTCPeerConnection

    from artico_sync import Call

#: The name whose resolution never ends, and for how many seconds it does not.
HANGING_NAME = "hangs.invalid"
HANGING = 3600.0


class SyncEnd:
    """A client of artico_sync, and what the orders keep here from one to the next."""

    def __init__(self, name: str, signals: Connection, options: dict[str, Any]) -> None:
        from artico_sync import Artico

        self.name = name
        self.other = "callee" if name == "caller" else "caller"
        self.kept: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []
        options = {"rtc_config": {"iceServers": []}, **options}
        if "url" in options:
            self.rtco = Artico(id=name, **options)
        else:
            self.rtco = Artico(signaling=_pipe_signaling(name, signals), **options)
        self.rtco.connect()

    def answer(self, on_call: Callable[[Call], object]) -> None:
        """From now on answer every call in a handler."""

        def incoming(call: Call) -> None:
            on_call(call)
            call.answer()

        self.rtco.off("call")
        self.rtco.on("call", incoming)

    def call(self) -> Call:
        """Return an open call to the other end."""
        return self.rtco.call(self.other).wait_open(60)

    def spawn(self, function: Callable[..., object], *arguments: Any) -> None:
        """Run a function on another thread of the user's."""
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()


def _pipe_signaling(name: str, signals: Connection) -> Any:
    from artico_sync.signaling import Message, Signaling

    class PipeSignaling(Signaling):
        """Signals through a pipe to the other process."""

        def connect(self) -> None:
            threading.Thread(target=self._read, daemon=True).start()
            self.emit("connect", self.id)

        def _read(self) -> None:
            while True:
                try:
                    message = signals.recv()
                except (EOFError, OSError):
                    return
                self.emit("signal", message)

        def disconnect(self) -> None:
            """The pipe ends with the process."""

        def signal(self, message: Message) -> bool | None:
            signals.send({**message, "source": self.id})
            return True

    return PipeSignaling(name)


class BareCall:
    """A peer connection and its data channel."""

    def __init__(self, end: BareEnd, session: int, connection: RTCPeerConnection) -> None:
        self.end = end
        self.session = session
        self.connection = connection
        self.channel: RTCDataChannel | None = None
        self.answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def offer(self) -> None:
        """Offer and await the answer."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        self._tell()
        await self._hear(await self.answers.get())

    async def take_offer(self, data: dict[str, str]) -> None:
        await self._hear(data)
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        self._tell()

    async def _hear(self, data: dict[str, str]) -> None:
        from aiortc import RTCSessionDescription

        await self.connection.setRemoteDescription(RTCSessionDescription(data["sdp"], data["type"]))

    def _tell(self) -> None:
        description = self.connection.localDescription
        data = {"type": description.type, "sdp": description.sdp}
        message = {"session": self.session, "signal": {"type": "sdp", "data": data}}
        self.end.signals.send(message)

    async def close(self) -> None:
        await self.connection.close()
        self.end.calls.pop(self.session, None)


class BareEnd:
    """Peer connections of aiortc, and what the orders keep here from one to the next."""

    def __init__(self, name: str, signals: Connection, options: dict[str, Any]) -> None:
        self.name = name
        self.signals = signals
        self.kept: dict[str, Any] = {}
        self.calls: dict[int, BareCall] = {}
        #: Called with each incoming call, before it is answered.
        self.on_call: Callable[[BareCall], object] = lambda call: None
        self.tasks: set[asyncio.Task[Any]] = set()
        self._options = options
        self._numbers = itertools.count(1)
        asyncio.get_running_loop().add_reader(signals.fileno(), self._read)

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _read(self) -> None:
        try:
            message = self.signals.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self.signals.fileno())
            return
        session, data = message["session"], message["signal"]["data"]
        if data["type"] == "answer":
            self.calls[session].answers.put_nowait(data)
            return
        call = self.calls.get(session)
        if call is None:
            call = self._new(session)
            self.on_call(call)
        self.spawn(call.take_offer(data))

    def _new(self, session: int) -> BareCall:
        from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

        servers = self._options.get("rtc_config", {}).get("iceServers", [])
        configuration = RTCConfiguration([RTCIceServer(server["urls"]) for server in servers])
        call = self.calls[session] = BareCall(self, session, RTCPeerConnection(configuration))
        return call

    async def call(self) -> BareCall:
        """Return an open call to the other end."""
        call = self._new(next(self._numbers))
        call.channel = channel = call.connection.createDataChannel("data")
        opened = asyncio.Event()
        channel.on("open", opened.set)
        await call.offer()
        await opened.wait()
        return call


def _hang_on_name() -> None:
    """Make the resolution of one name never finish."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in (HANGING_NAME, HANGING_NAME.encode()):
            time.sleep(HANGING)
        return resolve(host, *arguments, **options)

    socket.getaddrinfo = getaddrinfo


def run_end(
    kind: str, name: str, orders: Connection, signals: Connection, options: dict[str, Any]
) -> None:
    """Run the orders of the parent process until it ends this one."""
    _hang_on_name()
    if kind == "bare":
        asyncio.run(_run_bare(name, orders, signals, options))
    else:
        _run_sync(name, orders, signals, options)


def _run_sync(name: str, orders: Connection, signals: Connection, options: dict[str, Any]) -> None:
    end = SyncEnd(name, signals, options)
    orders.send((True, None))
    while True:
        try:
            order = orders.recv()
        except (EOFError, KeyboardInterrupt):
            return
        if order is None:
            end.rtco.close()
            return
        function, arguments = order
        try:
            orders.send((True, function(end, *arguments)))
        except Exception:
            # The parent raises it where the order was given.
            orders.send((False, traceback.format_exc()))


async def _run_bare(
    name: str, orders: Connection, signals: Connection, options: dict[str, Any]
) -> None:
    end = BareEnd(name, signals, options)
    inbox: asyncio.Queue[Any] = asyncio.Queue()

    def read() -> None:
        try:
            inbox.put_nowait(orders.recv())
        except EOFError:
            sys.exit()

    asyncio.get_running_loop().add_reader(orders.fileno(), read)
    orders.send((True, None))
    while (order := await inbox.get()) is not None:
        function, arguments = order
        try:
            orders.send((True, await function(end, *arguments)))
        except Exception:
            # The parent raises it where the order was given.
            orders.send((False, traceback.format_exc()))
    await asyncio.gather(*(call.close() for call in list(end.calls.values())))
