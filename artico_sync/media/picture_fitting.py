"""Turns pictures upright and fits them into a frame of one size; any one thread."""

from __future__ import annotations

from av import VideoFrame
from av.filter import Graph

from artico_sync._webrtc.media.timeline import VIDEO_TIME_BASE

# FFmpeg's filters for a picture to be turned so many degrees clockwise.
TURNS = {
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "cclock"),),
}


class _Filter:
    """A chain of FFmpeg's filters, made anew when the pictures change."""

    def __init__(self) -> None:
        self._made_for: tuple[object, ...] = ()
        self._graph: Graph | None = None

    def run(self, frame: VideoFrame, steps: tuple[tuple[str, str], ...]) -> VideoFrame:
        made_for = (frame.width, frame.height, frame.format.name, steps)
        if self._graph is None or made_for != self._made_for:
            self._graph = self._make(frame, steps)
            self._made_for = made_for
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _make(self, frame: VideoFrame, steps: tuple[tuple[str, str], ...]) -> Graph:
        graph = Graph()
        graph.link_nodes(
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=VIDEO_TIME_BASE,
            ),
            *(graph.add(name, options or None) for name, options in steps),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ).configure()
        return graph


class PictureFitter:
    """Makes pictures `width` by `height`, with black bars where their shape differs."""

    def __init__(self, width: int, height: int) -> None:
        size = f"{width}:{height}"
        self._steps = (
            ("scale", f"{size}:force_original_aspect_ratio=decrease:flags=bilinear"),
            ("pad", f"{size}:(ow-iw)/2:(oh-ih)/2"),
        )
        self._filter = _Filter()

    def fit(self, frame: VideoFrame) -> VideoFrame:
        """The picture in the wanted size, yuv420p, as a frame of its own."""
        return self._filter.run(frame, self._steps)


class PictureTurner:
    """Turns pictures as the file they come from says, as films taken with a phone do."""

    def __init__(self) -> None:
        self._filter = _Filter()

    def upright(self, frame: VideoFrame) -> VideoFrame:
        """The picture upright, yuv420p."""
        # What the file says is counted counterclockwise.
        steps = TURNS.get(-round(frame.rotation / 90) * 90 % 360, ())
        return self._filter.run(frame, steps) if steps else frame.reformat(format="yuv420p")
