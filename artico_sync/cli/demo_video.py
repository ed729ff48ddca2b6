"""The part of `artico-sync demo` that shows pictures: colour bars both ways; main thread.

Made and looked at without NumPy, which need not be installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, cast

import av

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.media import MediaStream, RemoteVideoTrack, VideoTrack

if TYPE_CHECKING:
    from artico_sync.call import Call

#: Luma and the two chroma values of white, yellow, cyan, green, magenta, red and blue.
BARS = (
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
)
BAR = 40
WIDTH, HEIGHT = BAR * len(BARS), 160
#: Below the bars a white box moves over black.
BOX_TOP, BOX, STEP = 120, 40, 4
WHITE, BLACK, GREY = 235, 16, 128
FPS = 30
#: How far the values of a bar may be off after two encoders.
TOLERANCE = 20

Bars = tuple[tuple[int, int, int], ...]


def pattern(bars: Bars, index: int) -> av.VideoFrame:
    """Picture number `index` of the test pattern."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    at = index * STEP % (WIDTH - BOX)
    box = bytes([BLACK]) * at + bytes([WHITE]) * BOX + bytes([BLACK]) * (WIDTH - BOX - at)
    for number, plane in enumerate(frame.planes):
        scale = 1 if number == 0 else 2
        above = b"".join(bytes([bar[number]]) * (BAR // scale) for bar in bars)
        below = box if number == 0 else bytes([GREY]) * (WIDTH // scale)
        rows = [above] * (BOX_TOP // scale) + [below] * ((HEIGHT - BOX_TOP) // scale)
        plane.update(b"".join(row.ljust(plane.line_size, b"\0") for row in rows))
    return frame


def patterns(bars: Bars) -> Iterator[av.VideoFrame]:
    """The test pattern, without end."""
    return (pattern(bars, index) for index in itertools.count())


def shows(frame: av.VideoFrame, bars: Bars) -> bool:
    """Whether a picture is the test pattern."""
    if (frame.width, frame.height) != (WIDTH, HEIGHT):
        return False
    for number, plane in enumerate(frame.reformat(format="yuv420p").planes):
        data, scale = bytes(plane), 1 if number == 0 else 2
        row = BOX_TOP // 2 // scale * plane.line_size
        for at, bar in enumerate(bars):
            middle = row + (at * BAR + BAR // 2) // scale
            if abs(data[middle] - bar[number]) > TOLERANCE:
                return False
    return True


class Exchange:
    """Each side shares its colour bars, the other way round at one of them."""

    def __init__(self, alice: Call, bob: Call) -> None:
        self._begun = monotonic()
        self._tracks: list[VideoTrack] = []
        self._share(alice, BARS)
        self._share(bob, BARS[::-1])

    def _share(self, call: Call, bars: Bars) -> None:
        track = VideoTrack.from_frames(patterns(bars), FPS)
        self._tracks.append(track)
        call.add_stream(MediaStream([track]), "the test pattern")

    def seen(self, call: Call, bars: Bars, deadline: Deadline) -> tuple[RemoteVideoTrack, float]:
        """Wait until a side sees the bars of the other; the track, and the seconds it took."""
        track = cast(RemoteVideoTrack, call.wait_for("track", deadline.remaining()))
        while not shows(cast(av.VideoFrame, track.recv(deadline.remaining())), bars):
            continue
        return track, monotonic() - self._begun

    def end(self) -> None:
        """Share nothing more."""
        for track in self._tracks:
            track.stop()


def save(track: RemoteVideoTrack, path: str, deadline: Deadline) -> None:
    """Write what a track shows now as a PNG."""
    data = track.png(deadline.remaining())
    with open(path, "wb") as file:
        file.write(data)
