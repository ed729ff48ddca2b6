"""Fits pictures of any size into a frame of one size, without distorting them; any one thread."""

from __future__ import annotations

import av
from av import VideoFrame
from av.filter import Graph

from artico_sync.engine.media.timeline import VIDEO_TIME_BASE


class PictureFitter:
    """Makes pictures `width` by `height`, with black bars where their shape differs."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._size: tuple[int, int, str] | None = None
        self._graph: Graph | None = None

    def fit(self, frame: VideoFrame) -> VideoFrame:
        """The picture in the wanted size and format, as a frame of its own."""
        size = (frame.width, frame.height, frame.format.name)
        if self._graph is None or size != self._size:
            self._graph = self._make_graph(frame)
            self._size = size
        self._graph.push(frame)
        fitted = self._graph.pull()
        assert isinstance(fitted, VideoFrame)
        return fitted

    def _make_graph(self, frame: VideoFrame) -> Graph:
        graph = av.filter.Graph()
        size = f"{self._width}:{self._height}"
        steps = [
            graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=VIDEO_TIME_BASE,
            ),
            graph.add("scale", f"{size}:force_original_aspect_ratio=decrease:flags=bilinear"),
            graph.add("pad", f"{size}:(ow-iw)/2:(oh-ih)/2"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        for step, following in zip(steps, steps[1:], strict=False):
            step.link_to(following)
        graph.configure()
        return graph
