"""Video: from camera to decoded picture, what sharing costs, how soon the first picture comes.

Every picture carries its number, so that the time it was made is known where it is seen: the
processes of one machine have one clock.
"""

from __future__ import annotations

import asyncio
import fractions
import threading
from statistics import median
from time import monotonic, process_time, sleep
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from tests.benchmarks.ends import BareCall, BareEnd, SyncEnd
from tests.benchmarks.processes import BARE, OURS, pair
from tests.benchmarks.rows import Row, Scale, compare

PART = "Video, 640x480, 30 pictures a second"
WIDTH, HEIGHT, FPS = 640, 480, 30
#: The number stands in blocks of black or white.
BLOCK, BITS = 40, 16
#: Seconds the encoder and the network get before it counts.
WARM_UP = 1.5
NETWORK = {"delay": 0.01, "loss": 0.01}
CALLS = 5
Seen = list[tuple[int, float]]


def measure(scale: Scale) -> list[Row]:
    seconds = 2 * scale.seconds
    rounds = (scale.rounds + 1) // 2
    near = [tuple(latency(kind, None, seconds) for kind in (BARE, OURS)) for _ in range(rounds)]
    lossy = []
    for seed in range(1, rounds + 1):
        network = {**NETWORK, "seed": seed}
        lossy.append(tuple(latency(kind, network, 2 * seconds) for kind in (BARE, OURS)))
    many = [(sending_cost(1, seconds), sending_cost(CALLS, seconds)) for _ in range(rounds)]

    def column(found: list[Any], index: int) -> list[tuple[float, float]]:
        return [(reference[index], measured[index]) for reference, measured in found]

    return [
        compare(PART, "camera to decoded, p50", "ms", column(near, 0), 0.3),
        compare(PART, "camera to decoded, p99", "ms", column(near, 1)),
        compare(PART, "the same, 20 ms and 1 % loss, p50", "ms", column(lossy, 0), 1.0),
        compare(PART, "the same, 20 ms and 1 % loss, p99", "ms", column(lossy, 1)),
        compare(PART, "first picture after add_stream", "ms", column(near, 2), 1.0),
        compare(PART, f"sending to {CALLS} calls", "% core", many, 1.5, against="one call"),
    ]


def latency(kind: str, network: dict[str, float] | None, seconds: float) -> tuple[float, ...]:
    """p50 and p99 of the way of a picture, and the time to the first one; milliseconds."""
    with pair(kind, network) as ends:
        if kind == BARE:
            ends.callee.run(bare_watch)
            ends.caller.run(bare_open)
            begun = ends.caller.run(bare_share)
        else:
            ends.callee.run(sync_watch)
            ends.caller.run(sync_open, 1)
            begun = ends.caller.run(sync_share)
        sleep(WARM_UP + seconds)
        made: dict[int, float] = dict(ends.caller.run(made_so_far if kind != BARE else bare_made))
        seen: Seen = ends.callee.run(sync_seen if kind != BARE else bare_seen)
    if not seen:
        raise RuntimeError(f"no picture came in {seconds:g} s ({kind})")
    start = seen[0][1] + WARM_UP
    ways = sorted(at - made[number] for number, at in seen if at > start and number in made)
    if not ways:
        raise RuntimeError(f"no picture was recognised ({kind})")
    p99 = ways[int(len(ways) * 0.99)]
    return 1000 * median(ways), 1000 * p99, 1000 * (seen[0][1] - begun)


def sending_cost(calls: int, seconds: float) -> float:
    """Processor time of the sending process, in percent of a core."""
    with pair(OURS) as ends:
        ends.callee.run(sync_watch)
        ends.caller.run(sync_open, calls)
        ends.caller.run(sync_share)
        sleep(WARM_UP)
        begun: float = ends.caller.run(sync_processor)
        sleep(seconds)
        ended: float = ends.caller.run(sync_processor)
        return 100 * (ended - begun) / seconds


# Pictures


class Camera:
    """Makes numbered pictures of something that moves, and knows when it made each."""

    def __init__(self) -> None:
        self.made: list[tuple[int, float]] = []
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
        self._scene = ((rows + columns) % 256).astype(np.uint8)

    def picture(self) -> NDArray[np.uint8]:
        number = len(self.made)
        grey = np.roll(self._scene, 4 * number, axis=1)
        for bit in range(BITS):
            left = bit * BLOCK
            grey[:BLOCK, left : left + BLOCK] = 235 if number >> bit & 1 else 20
        self.made.append((number, monotonic()))
        return np.repeat(grey[:, :, None], 3, axis=2)


def number_in(frame: av.VideoFrame) -> int:
    """The number a picture carries."""
    plane = frame.planes[0]
    grey = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
    middle = BLOCK // 2
    return sum(
        (int(grey[middle - 4 : middle + 4, bit * BLOCK + middle].mean()) > 128) << bit
        for bit in range(BITS)
    )


# artico_sync


def sync_open(end: SyncEnd, count: int) -> None:
    end.kept["calls"] = [end.call() for _ in range(count)]


def sync_share(end: SyncEnd) -> float:
    """Share one track on every call; when that began."""
    from artico_sync import MediaStream
    from artico_sync.media import VideoTrack

    camera = end.kept["camera"] = Camera()
    track = VideoTrack.from_frames(camera.picture, FPS)
    begun = monotonic()
    for call in end.kept["calls"]:
        call.add_stream(MediaStream([track]))
    return begun


def made_so_far(end: SyncEnd) -> list[tuple[int, float]]:
    made: list[tuple[int, float]] = end.kept["camera"].made
    return made


def sync_processor(end: SyncEnd) -> float:
    return process_time()


def sync_watch(end: SyncEnd) -> None:
    seen: Seen = []
    end.kept["seen"] = seen

    def watch(track: Any) -> None:
        for frame in track:
            seen.append((number_in(frame), monotonic()))

    def on_call(call: Any) -> None:
        call.on("track", lambda track: threading.Thread(target=watch, args=(track,)).start())

    end.answer(on_call)


def sync_seen(end: SyncEnd) -> Seen:
    seen: Seen = end.kept["seen"]
    return seen


# aiortc bare


class CameraTrack(MediaStreamTrack):
    """A camera for aiortc, paced as its own `VideoStreamTrack` is."""

    kind = "video"

    def __init__(self, camera: Camera) -> None:
        super().__init__()
        self._camera = camera
        self._begun: float | None = None
        self._count = 0

    async def recv(self) -> av.VideoFrame:
        if self._begun is None:
            self._begun = monotonic()
        await asyncio.sleep(max(self._begun + self._count / FPS - monotonic(), 0.0))
        frame = av.VideoFrame.from_ndarray(self._camera.picture(), "rgb24")
        frame.pts, frame.time_base = self._count * 90000 // FPS, fractions.Fraction(1, 90000)
        self._count += 1
        return frame


async def bare_open(end: BareEnd) -> None:
    end.kept["call"] = await end.call()


async def bare_share(end: BareEnd) -> float:
    camera = end.kept["camera"] = Camera()
    call: BareCall = end.kept["call"]
    begun = monotonic()
    call.connection.addTrack(CameraTrack(camera))
    await call.offer()
    return begun


async def bare_made(end: BareEnd) -> list[tuple[int, float]]:
    made: list[tuple[int, float]] = end.kept["camera"].made
    return made


async def bare_watch(end: BareEnd) -> None:
    seen: Seen = []
    end.kept["seen"] = seen

    async def watch(track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.VideoFrame)
            seen.append((number_in(frame), monotonic()))

    def on_call(call: BareCall) -> None:
        call.connection.on("track", lambda track: end.spawn(watch(track)))

    end.on_call = on_call


async def bare_seen(end: BareEnd) -> Seen:
    seen: Seen = end.kept["seen"]
    return seen
