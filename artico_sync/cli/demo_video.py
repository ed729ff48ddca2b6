"""The video step of `artico-sync demo`: color bars in both directions.

Works without NumPy, which is an optional dependency.
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
BAR_WIDTH = 40
WIDTH, HEIGHT = BAR_WIDTH * len(BARS), 160
#: A white box moves over the black area below the bars, by STEP pixels a frame.
BOX_TOP, BOX_WIDTH, STEP = 120, 40, 4
WHITE, BLACK, GRAY = 235, 16, 128
FPS = 30
#: Largest error of a color value after two encoders.
TOLERANCE = 20

Bars = tuple[tuple[int, int, int], ...]


def pattern(bars: Bars, index: int) -> av.VideoFrame:
    """Return frame number `index` of the test pattern."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    at = index * STEP % (WIDTH - BOX_WIDTH)
    box = (
        bytes([BLACK]) * at + bytes([WHITE]) * BOX_WIDTH + bytes([BLACK]) * (WIDTH - BOX_WIDTH - at)
    )
    for number, plane in enumerate(frame.planes):
        scale = 1 if number == 0 else 2
        above = b"".join(bytes([bar[number]]) * (BAR_WIDTH // scale) for bar in bars)
        below = box if number == 0 else bytes([GRAY]) * (WIDTH // scale)
        rows = [above] * (BOX_TOP // scale) + [below] * ((HEIGHT - BOX_TOP) // scale)
        plane.update(b"".join(row.ljust(plane.line_size, b"\0") for row in rows))
    return frame


def patterns(bars: Bars) -> Iterator[av.VideoFrame]:
    """Yield the frames of the test pattern, without end."""
    return (pattern(bars, index) for index in itertools.count())


def shows(frame: av.VideoFrame, bars: Bars) -> bool:
    """Return True if a frame shows the test pattern."""
    if (frame.width, frame.height) != (WIDTH, HEIGHT):
        return False
    for number, plane in enumerate(frame.reformat(format="yuv420p").planes):
        data, scale = bytes(plane), 1 if number == 0 else 2
        row = BOX_TOP // 2 // scale * plane.line_size
        for at, bar in enumerate(bars):
            middle = row + (at * BAR_WIDTH + BAR_WIDTH // 2) // scale
            if abs(data[middle] - bar[number]) > TOLERANCE:
                return False
    return True


class PatternExchange:
    """The test pattern shared by both peers, with the bars of one in reverse order."""

    def __init__(self, alice: Call, bob: Call) -> None:
        self._begun = monotonic()
        self._tracks: list[VideoTrack] = []
        self._share(alice, BARS)
        self._share(bob, BARS[::-1])

    def _share(self, call: Call, bars: Bars) -> None:
        track = VideoTrack.from_frames(patterns(bars), FPS)
        self._tracks.append(track)
        call.add_stream(MediaStream([track]), "the test pattern")

    def wait_seen(
        self, call: Call, bars: Bars, deadline: Deadline
    ) -> tuple[RemoteVideoTrack, float]:
        """Wait until a peer receives the bars of the other; return the track and the seconds."""
        track = cast(RemoteVideoTrack, call.wait_for("track", deadline.remaining()))
        while not shows(cast(av.VideoFrame, track.recv(deadline.remaining())), bars):
            continue
        return track, monotonic() - self._begun

    def stop(self) -> None:
        """Stop sharing."""
        for track in self._tracks:
            track.stop()


def save(track: RemoteVideoTrack, path: str, deadline: Deadline) -> None:
    """Save the current frame of a track as a PNG."""
    data = track.png(deadline.remaining())
    with open(path, "wb") as file:
        file.write(data)
