"""The two ends of a data measurement, each in a process of its own: aiortc bare, and artico_sync.

A pipe to the parent carries the signals and the orders. The caller measures, the callee answers:
a message that begins with b"e" comes back, b"d" is counted, b"f" asks for the count.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from artico_sync import Artico, Call
from artico_sync.signaling import Message, Signaling

ECHO, DATA, FINISH = b"e", b"d", b"f"
#: Bytes, and messages, that bare aiortc is given ahead; artico_sync bounds itself.
AHEAD_BYTES = 1024 * 1024
AHEAD_MESSAGES = 2000
WARM_UP = 50


@dataclass
class Count:
    """What the callee saw of a measurement."""

    messages: int = 0
    begun: float = 0.0
    processor_begun: float = 0.0

    def take(self) -> None:
        if not self.messages:
            self.begun, self.processor_begun = time.perf_counter(), time.process_time()
        self.messages += 1

    def report(self) -> bytes:
        report = {
            "messages": self.messages,
            "seconds": time.perf_counter() - self.begun,
            "processor": time.process_time() - self.processor_begun,
        }
        self.messages = 0
        return json.dumps(report).encode()


@dataclass
class Throughput:
    """Messages and bytes a second, and the processor time of both ends for a megabyte."""

    messages: float
    megabytes: float
    processor: float


def throughput(size: int, report: bytes, processor: float) -> dict[str, float]:
    seen = json.loads(report)
    volume = seen["messages"] * size / 1e6
    both = processor + seen["processor"]
    rate = seen["messages"] / seen["seconds"]
    return asdict(Throughput(rate, volume / seen["seconds"], both / volume))


def round_trips(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples[WARM_UP:])
    return {
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[int(len(ordered) * 0.99)],
    }


# artico_sync


class PipeSignaling(Signaling):
    """Signals through the parent; orders among them are kept for the caller."""

    def __init__(self, id: str, pipe: Connection) -> None:
        super().__init__(id)
        self._pipe = pipe
        self._sending = threading.Lock()

    def connect(self) -> None:
        self.emit("connect", self.id)

    def disconnect(self) -> None:
        pass

    def signal(self, message: Message) -> bool | None:
        with self._sending:
            self._pipe.send(("signal", {**message, "source": self.id}))
        return True

    def join(self, room: str, metadata: str | None = None) -> None:
        pass

    def orders(self) -> Any:
        """The parent's orders, one by one; signals are passed on in between."""
        while True:
            kind, body = self._pipe.recv()
            if kind == "signal":
                self.emit("signal", body)
            elif kind == "end":
                return
            else:
                yield kind, body


def sync_caller(pipe: Connection) -> None:
    signaling = PipeSignaling("caller", pipe)
    with Artico(signaling=signaling, rtc_config={"iceServers": []}) as rtco:
        call = rtco.call("callee")
        opened = threading.Event()
        call.on("open", opened.set)
        for kind, body in _when(opened, signaling, pipe):
            if kind == "round trips":
                pipe.send(("result", sync_round_trips(call, *body)))
            else:
                pipe.send(("result", sync_throughput(call, *body)))
        call.hangup()


def _when(opened: threading.Event, signaling: PipeSignaling, pipe: Connection) -> Any:
    """Orders, once the call is open."""

    def announce() -> None:
        opened.wait()
        pipe.send(("open", None))

    threading.Thread(target=announce, daemon=True).start()
    return signaling.orders()


def sync_round_trips(call: Call, size: int, count: int) -> dict[str, float]:
    message = ECHO * size
    samples = []
    for _ in range(count + WARM_UP):
        begun = time.perf_counter()
        call.send(message)
        call.recv(timeout=20)
        samples.append(time.perf_counter() - begun)
    return round_trips(samples)


def sync_throughput(call: Call, size: int, seconds: float) -> dict[str, float]:
    message = DATA * size
    processor = time.process_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(8):
            call.send(message)
    call.send(FINISH)
    report = call.recv(timeout=120)
    assert isinstance(report, bytes)
    return throughput(size, report, time.process_time() - processor)


def sync_callee(pipe: Connection) -> None:
    signaling = PipeSignaling("callee", pipe)
    with Artico(signaling=signaling, rtc_config={"iceServers": []}) as rtco:
        threading.Thread(target=sync_answer, args=(rtco,), daemon=True).start()
        for _ in signaling.orders():
            pass


def sync_answer(rtco: Artico) -> None:
    call = rtco.wait_for("call", timeout=30)
    count = Count()
    for message in call.answer():
        if message[:1] == DATA:
            count.take()
        elif message[:1] == ECHO:
            call.send(message)
        else:
            call.send(count.report())


# aiortc bare


class BareEnd:
    """A peer connection, and the pipe read without holding up its loop."""

    def __init__(self, pipe: Connection) -> None:
        from aiortc import RTCConfiguration, RTCPeerConnection

        self.pipe = pipe
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(pipe.fileno(), self._read)

    def _read(self) -> None:
        self._inbox.put_nowait(self.pipe.recv())

    async def get(self) -> Any:
        return await self._inbox.get()

    def tell(self) -> None:
        description = self.connection.localDescription
        data = {"type": description.type, "sdp": description.sdp}
        self.pipe.send(("signal", {"signal": {"type": "sdp", "data": data}}))

    async def hear(self) -> None:
        from aiortc import RTCSessionDescription

        _, message = await self.get()
        data = message["signal"]["data"]
        await self.connection.setRemoteDescription(RTCSessionDescription(data["sdp"], data["type"]))


async def bare_caller(pipe: Connection) -> None:
    end = BareEnd(pipe)
    channel = end.connection.createDataChannel("data")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    await end.connection.setLocalDescription(await end.connection.createOffer())
    end.tell()
    await end.hear()
    await opened.wait()
    pipe.send(("open", None))
    while True:
        kind, body = await end.get()
        if kind == "end":
            break
        if kind == "round trips":
            pipe.send(("result", await bare_round_trips(channel, *body)))
        else:
            pipe.send(("result", await bare_throughput(channel, *body)))
    await end.connection.close()


async def bare_round_trips(channel: Any, size: int, count: int) -> dict[str, float]:
    message = ECHO * size
    back = asyncio.Event()
    listener = channel.on("message", lambda answer: back.set())
    samples = []
    for _ in range(count + WARM_UP):
        begun = time.perf_counter()
        channel.send(message)
        await back.wait()
        back.clear()
        samples.append(time.perf_counter() - begun)
    channel.remove_listener("message", listener)
    return round_trips(samples)


async def bare_throughput(channel: Any, size: int, seconds: float) -> dict[str, float]:
    message = DATA * size
    room = asyncio.Event()
    ahead = min(AHEAD_BYTES, AHEAD_MESSAGES * size)
    channel.bufferedAmountLowThreshold = ahead // 2
    channel.on("bufferedamountlow", room.set)
    processor = time.process_time()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        while channel.bufferedAmount < ahead:
            channel.send(message)
        room.clear()
        try:
            await asyncio.wait_for(room.wait(), max(end - time.perf_counter(), 0.0))
        except TimeoutError:
            break
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    channel.once("message", answer.set_result)
    channel.send(FINISH)
    report = await answer
    return throughput(size, report, time.process_time() - processor)


async def bare_callee(pipe: Connection) -> None:
    end = BareEnd(pipe)
    count = Count()

    def on_channel(channel: Any) -> None:
        def on_message(message: bytes) -> None:
            if message[:1] == DATA:
                count.take()
            elif message[:1] == ECHO:
                channel.send(message)
            else:
                channel.send(count.report())

        channel.on("message", on_message)

    end.connection.on("datachannel", on_channel)
    await end.hear()
    await end.connection.setLocalDescription(await end.connection.createAnswer())
    end.tell()
    await end.get()
    await end.connection.close()


def run_end(kind: str, role: str, pipe: Connection) -> None:
    """What a child process does."""
    if kind == "bare":
        asyncio.run(bare_caller(pipe) if role == "caller" else bare_callee(pipe))
    elif role == "caller":
        sync_caller(pipe)
    else:
        sync_callee(pipe)
