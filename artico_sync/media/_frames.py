"""Frames: NumPy arrays from and to `av` frames, PNG and JPEG files, sizes and rotations.

NumPy and PyAV are imported when they are first needed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.errors import MediaError

if TYPE_CHECKING:
    import av
    import numpy as np
    from av.filter import Graph
    from av.frame import Frame
    from numpy.typing import NDArray

#: Largest width and height that the codecs accept, in pixels.
MAX_DIMENSION_PIXELS = 16383
#: FFmpeg filters that rotate a picture clockwise, by degrees.
ROTATION_FILTERS = {
    0: (),
    90: (("transpose", "clock"),),
    180: (("hflip", ""), ("vflip", "")),
    270: (("transpose", "cclock"),),
}
#: Names and options of FFmpeg filters, in order.
_FilterSteps: TypeAlias = tuple[tuple[str, str], ...]


def import_numpy() -> Any:
    """Return the numpy module.

    Raises:
        ImportError: NumPy is not installed.
    """
    try:
        import numpy as module
    except ImportError as error:
        raise ImportError(
            "NumPy is not installed: pip install numpy, or use `av` frames"
            " (`recv()` and `write()` work with them without NumPy)."
        ) from error
    return module


def _is_array(value: object) -> bool:
    module = sys.modules.get("numpy")
    return module is not None and isinstance(value, module.ndarray)


def to_video_frame(value: object) -> av.VideoFrame:
    """Return a picture in the encoders' format, yuv420p, with memory of its own.

    Args:
        value: A NumPy array (height, width, 3) of uint8 RGB, or an `av.VideoFrame`.

    Raises:
        TypeError: Another type, or an array of other elements.
        ValueError: Another shape, or a size that cannot be encoded.
    """
    import av

    from artico_sync._bridge.media import converted, copy_video

    if isinstance(value, av.VideoFrame):
        _check_size(value.width, value.height)
        if value.format.name == "yuv420p":
            return copy_video(value)
        return converted(value, "yuv420p")
    if not _is_array(value):
        raise TypeError(
            "a picture is a NumPy array (height, width, 3) of uint8 RGB or an av.VideoFrame,"
            f" not {type(value).__name__}"
        )
    array = cast("NDArray[Any]", value)
    if array.dtype != "uint8":
        raise TypeError(f"a picture's values are uint8, not {array.dtype}")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"a picture's shape is (height, width, 3), not {array.shape}")
    _check_size(array.shape[1], array.shape[0])
    frame = av.VideoFrame.from_ndarray(import_numpy().ascontiguousarray(array), format="rgb24")
    return frame.reformat(format="yuv420p")


def _check_size(width: int, height: int) -> None:
    if not all(2 <= size <= MAX_DIMENSION_PIXELS for size in (width, height)):
        raise ValueError(f"a picture of {width}x{height} pixels cannot be sent")


def to_audio_frame(value: object, rate: int, channels: int) -> av.AudioFrame:
    """Return sound as an `av` frame.

    Args:
        value: A NumPy array (samples, channels) of int16 or float32 (for one channel also
            (samples,)), or an `av.AudioFrame`, which is returned as it is.
        rate: Samples per second of an array.
        channels: Number of channels an array must have, 1 or 2.

    Raises:
        TypeError: Another type, or an array of other elements.
        ValueError: Another shape, or a frame without a sample rate.
    """
    import av

    if isinstance(value, av.AudioFrame):
        if not value.sample_rate:
            raise ValueError("an av.AudioFrame needs its sample_rate")
        return value
    if not _is_array(value):
        raise TypeError(
            "sound is a NumPy array (samples, channels) of int16 or float32 or an av.AudioFrame,"
            f" not {type(value).__name__}"
        )
    array = cast("NDArray[Any]", value)
    formats = {"int16": "s16", "float32": "flt"}
    if str(array.dtype) not in formats:
        raise TypeError(f"a sound's values are int16 or float32, not {array.dtype}")
    if array.ndim == 1 and channels == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.shape[1] != channels:
        raise ValueError(f"this track's sound has shape (samples, {channels}), not {array.shape}")
    if array.shape[0] == 0:
        raise ValueError("the sound is empty")
    frame = av.AudioFrame.from_ndarray(
        import_numpy().ascontiguousarray(array).reshape(1, -1),
        format=formats[str(array.dtype)],
        layout="mono" if channels == 1 else "stereo",
    )
    frame.sample_rate = rate
    return frame


def to_array(frame: Frame) -> NDArray[np.uint8] | NDArray[np.int16]:
    """Return a received frame as an array: (height, width, 3) uint8, or (samples, channels) int16.

    Raises:
        ImportError: NumPy is not installed.
    """
    import_numpy()
    import av

    from artico_sync._bridge.media import converted

    if isinstance(frame, av.VideoFrame):
        return cast("NDArray[np.uint8]", converted(frame, "rgb24").to_ndarray())
    assert isinstance(frame, av.AudioFrame)
    channels = frame.layout.nb_channels
    array = cast("NDArray[np.int16]", frame.to_ndarray())
    if frame.format.is_planar:
        return array.T
    return array.reshape(-1, channels)


def encode_png(frame: Frame) -> bytes:
    """Return a video frame as a PNG file."""
    return _encode(frame, "png", "rgb24")


def encode_jpeg(frame: Frame) -> bytes:
    """Return a video frame as a JPEG file."""
    return _encode(frame, "mjpeg", "yuvj420p")


def _encode(frame: Frame, codec: str, pixel_format: str) -> bytes:
    import av

    from artico_sync._bridge.media import converted

    assert isinstance(frame, av.VideoFrame)
    # Other readers may use the frame at the same time, so a converted one is encoded.
    picture = converted(frame, pixel_format)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt = pixel_format
    encoder.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def display_live(next_frame: Callable[[Deadline], Frame], timeout: float | None) -> None:
    """Show frames in a notebook's cell until the track ends, the time runs out or an interrupt.

    Args:
        next_frame: Waits for the newest frame.
        timeout: Seconds to show them; None shows them until the track ends.

    Raises:
        ImportError: IPython is not installed.
    """
    display, image = _import_notebook_display()
    deadline = Deadline(timeout)
    handle = None
    try:
        while not deadline.expired:
            picture = image(data=encode_jpeg(next_frame(deadline)), format="jpeg")
            if handle is None:
                handle = display(picture, display_id=True)
            else:
                handle.update(picture)
    except (KeyboardInterrupt, MediaError, TimeoutError):
        # The three regular ends: the cell was interrupted, the track ended, the time ran out.
        return


def _import_notebook_display() -> tuple[Any, Any]:
    try:
        notebook: Any = importlib.import_module("IPython.display")
    except ImportError as error:
        raise ImportError(
            "display() needs IPython, which every notebook has: pip install ipython."
            " Elsewhere `snapshot()` and `png()` give pictures."
        ) from error
    return notebook.display, notebook.Image


class _FilterChain:
    """A chain of FFmpeg filters, built again when the input format changes."""

    def __init__(self) -> None:
        self._input: tuple[object, ...] = ()
        self._graph: Graph | None = None

    def apply(self, frame: av.VideoFrame, steps: _FilterSteps) -> av.VideoFrame:
        """Return the frame filtered, yuv420p."""
        described = (frame.width, frame.height, frame.format.name, steps)
        if self._graph is None or described != self._input:
            self._graph = self._build(frame, steps)
            self._input = described
        self._graph.vpush(frame)
        return self._graph.vpull()

    def _build(self, frame: av.VideoFrame, steps: _FilterSteps) -> Graph:
        from av.filter import Graph

        from artico_sync._bridge.media import VIDEO_TIME_BASE

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
    """Scales pictures to one size, with black bars if their shape differs; used by one thread.

    Args:
        width: Width of the result in pixels.
        height: Height of the result in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        size = f"{width}:{height}"
        self._steps = (
            ("scale", f"{size}:force_original_aspect_ratio=decrease:flags=bilinear"),
            ("pad", f"{size}:(ow-iw)/2:(oh-ih)/2"),
        )
        self._filters = _FilterChain()

    def fit(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the picture in the fitter's size, yuv420p, as a new frame."""
        return self._filters.apply(frame, self._steps)


class PictureRotator:
    """Rotates pictures as their file says, such as films taken with a phone; used by one thread."""

    def __init__(self) -> None:
        self._filters = _FilterChain()

    def rotate_upright(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return the picture upright, yuv420p."""
        # Files count the degrees counterclockwise.
        steps = ROTATION_FILTERS.get(-round(frame.rotation / 90) * 90 % 360, ())
        return self._filters.apply(frame, steps) if steps else frame.reformat(format="yuv420p")
