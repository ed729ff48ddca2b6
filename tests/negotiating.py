"""Two ends that exchange signals in memory and connect over loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import fractions
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiortc import RTCConfiguration
from aiortc.mediastreams import MediaStreamTrack
from av import AudioFrame, VideoFrame

from artico_sync._engine.negotiation import Negotiation
from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.peer_connection import PeerConnection
from artico_sync._webrtc.sctp.channels import Channel
from artico_sync._webrtc.sdp.media_sections import (
    RemoteChange,
    RemoteTrackAdded,
    RemoteTrackRemoved,
)

LIMIT = 15.0
Signal = dict[str, Any]


class Still(MediaStreamTrack):
    """A track that needs little CPU: a small gray picture, or silence, ten times a second."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self._count = 0

    async def recv(self) -> Any:
        await asyncio.sleep(0.1)
        self._count += 1
        frame: Any
        if self.kind == "video":
            frame = VideoFrame(width=64, height=48, format="yuv420p")
            frame.pts, frame.time_base = self._count * 9000, fractions.Fraction(1, 90000)
        else:
            frame = AudioFrame(format="s16", layout="mono", samples=4800)
            frame.sample_rate = 48000
            frame.pts, frame.time_base = self._count * 4800, fractions.Fraction(1, 48000)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        return frame


class End:
    """One end: its connection, its negotiation, and their reports."""

    def __init__(self, *, polite: bool, settings: Settings | None = None) -> None:
        # A busy machine must not make an end restart ICE.
        self.settings = dataclasses.replace(settings or Settings(), silence_timeout=60.0)
        self.connection = PeerConnection(RTCConfiguration(iceServers=[]), self.settings)
        self.changes: list[RemoteChange] = []
        self.errors: list[Exception] = []
        self.texts: list[str | bytes] = []
        self.sent: list[Signal] = []
        self.inbox: asyncio.Queue[Signal] = asyncio.Queue()
        self.channel: Channel | None = None
        #: Delivers signals to the peer; None drops them.
        self.deliver: Callable[[Signal], None] | None = None
        self.negotiation = Negotiation(
            self.connection,
            polite=polite,
            send=self._send,
            on_remote_change=self.changes.extend,
            on_error=self.errors.append,
            settings=self.settings,
        )
        self.connection.on_channel = self._take_channel
        self._consumer = asyncio.ensure_future(self._consume())

    def open_channel(self) -> None:
        self._take_channel(self.connection.open_channel("dc_test"))
        self.negotiation.request_offer()

    def _take_channel(self, channel: Channel) -> None:
        self.channel = channel
        channels = self.connection.sctp_transport.channels
        channels.on_messages = lambda _, texts: self.texts.extend(texts)

    def _send(self, signal: Signal) -> None:
        self.sent.append(signal)
        if self.deliver is not None:
            self.deliver(signal)

    async def _consume(self) -> None:
        while True:
            await self.negotiation.receive(await self.inbox.get())
            self.inbox.task_done()

    def say(self, text: str) -> None:
        assert self.channel is not None
        self.connection.sctp_transport.send_message(self.channel, text)

    @property
    def is_open(self) -> bool:
        return self.channel is not None and self.channel.ready_state == "open"

    @property
    def settled(self) -> bool:
        """True if no offer is wanted or pending, and no signal is queued."""
        negotiation = self.negotiation
        return (
            self.connection.signaling_state == "stable"
            and negotiation.idle
            and self.inbox.empty()
            and not getattr(self.inbox, "_unfinished_tasks")
        )

    @property
    def streams(self) -> dict[str, str]:
        """Return the tracks the peer shares now, each with its stream id."""
        shared: dict[str, str] = {}
        for change in self.changes:
            if isinstance(change, RemoteTrackAdded):
                assert change.track_id not in shared
                shared[change.track_id] = change.stream_id
            else:
                assert isinstance(change, RemoteTrackRemoved)
                assert shared.pop(change.track_id) == change.stream_id
        return shared

    def descriptions(self, kind: str) -> list[str]:
        """Return the offers or answers sent so far."""
        return [
            signal["data"]["sdp"]
            for signal in self.sent
            if signal["type"] == "sdp" and signal["data"]["type"] == kind
        ]

    async def close(self) -> None:
        self._consumer.cancel()
        await asyncio.wait([self._consumer])
        await self.negotiation.close()
        await self.connection.close()


async def until(condition: Callable[[], object], limit: float = LIMIT) -> None:
    """Wait until a condition is true, which is checked every 2 ms."""
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.002)


def as_javascript(signal: Signal) -> Signal:
    """Return the signal as a browser sends it, without the marks of an artico_sync peer."""
    data = {name: value for name, value in (signal["data"] or {}).items() if name != "offer"}
    if "sdp" in data:
        data["sdp"] = data["sdp"].replace("o=artico_sync ", "o=- ")
    return {**signal, "data": data}


def join(first: End, second: End, *, javascript: bool = False) -> None:
    """Deliver signals in both directions.

    Args:
        javascript: Each takes the other for a browser.
    """

    def carrier(receiver: End) -> Callable[[Signal], None]:
        put = receiver.inbox.put_nowait
        return (lambda signal: put(as_javascript(signal))) if javascript else put

    first.deliver, second.deliver = carrier(second), carrier(first)


async def settle(*ends: End) -> None:
    """Wait until no end has anything left to negotiate."""
    quiet = 0

    def still() -> bool:
        nonlocal quiet
        quiet = quiet + 1 if all(end.settled for end in ends) else 0
        return quiet >= 5

    await until(still)


async def call(settings: Settings | None = None, *, javascript: bool = False) -> tuple[End, End]:
    """Return a caller and a callee with an open data channel."""
    caller, callee = End(polite=False, settings=settings), End(polite=True, settings=settings)
    join(caller, callee, javascript=javascript)
    caller.open_channel()
    await until(lambda: caller.is_open and callee.is_open)
    await settle(caller, callee)
    return caller, callee


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an asynchronous test on a new event loop."""
    asyncio.run(asyncio.wait_for(test(), 100))


def with_call(
    test: Callable[[End, End], Awaitable[None]],
    settings: Settings | None = None,
    *,
    javascript: bool = False,
) -> None:
    """Run a test with an open call, and close it."""

    async def body() -> None:
        caller, callee = await call(settings, javascript=javascript)
        try:
            await test(caller, callee)
            caller.say("still there")
            await until(lambda: "still there" in callee.texts)
        finally:
            await caller.close()
            await callee.close()

    run(body)
