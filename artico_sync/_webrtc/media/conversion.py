"""Converts pictures that several threads may be looking at; any thread."""

from __future__ import annotations

from av import VideoFrame
from av.video.reformatter import VideoReformatter


def converted(
    frame: VideoFrame, format: str, width: int | None = None, height: int | None = None
) -> VideoFrame:
    """A picture in another format, and size; the same one where nothing is to be done.

    `frame.reformat` and `frame.to_ndarray(format=...)` keep one converter in the frame for whoever
    asks, and two threads in it at once wait for each other for ever (PyAV up to 18).
    """
    return VideoReformatter().reformat(frame, width, height, format)
