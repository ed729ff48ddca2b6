"""NumPy arrays to `av` frames and back; user threads.

Neither package is imported before it is needed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import av
    import numpy as np
    from av.frame import Frame
    from numpy.typing import NDArray

# Largest width and height the codecs take, in pixels.
MAXIMUM_SIZE = 16383


def numpy() -> Any:
    """The numpy module.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import numpy as module
    except ImportError as error:
        raise ImportError(
            "NumPy is not installed: pip install numpy, or use `av` frames"
            " (`recv()` and `write()` take and give them without it)."
        ) from error
    return module


def is_array(value: object) -> bool:
    """Whether `value` is a NumPy array."""
    module = sys.modules.get("numpy")
    return module is not None and isinstance(value, module.ndarray)


def picture_of(value: object) -> av.VideoFrame:
    """A picture as the encoders take it, of its own memory.

    Args:
        value: A NumPy array (height, width, 3) of uint8 RGB, or an `av.VideoFrame`.

    Raises:
        TypeError: Something else, or another element type.
        ValueError: Another shape.
    """
    import av

    from artico_sync._webrtc.media.conversion import converted
    from artico_sync._webrtc.media.timeline import copy_video

    if isinstance(value, av.VideoFrame):
        if not 2 <= value.width <= MAXIMUM_SIZE or not 2 <= value.height <= MAXIMUM_SIZE:
            raise ValueError(f"a picture of {value.width}x{value.height} pixels cannot be sent")
        if value.format.name == "yuv420p":
            return copy_video(value)
        return converted(value, "yuv420p")
    if not is_array(value):
        raise TypeError(
            "a picture is a NumPy array (height, width, 3) of uint8 RGB or an av.VideoFrame,"
            f" not {type(value).__name__}"
        )
    array = cast("NDArray[Any]", value)
    if array.dtype != "uint8":
        raise TypeError(f"a picture's values are uint8, not {array.dtype}")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(f"a picture's shape is (height, width, 3), not {array.shape}")
    if not all(2 <= size <= MAXIMUM_SIZE for size in array.shape[:2]):
        raise ValueError(f"a picture of {array.shape[1]}x{array.shape[0]} pixels cannot be sent")
    frame = av.VideoFrame.from_ndarray(numpy().ascontiguousarray(array), format="rgb24")
    return frame.reformat(format="yuv420p")


def sound_of(value: object, rate: int, channels: int) -> av.AudioFrame:
    """Sound as an `av` frame.

    Args:
        value: A NumPy array (samples, channels) of int16 or float32 (one channel may also be
            (samples,)), or an `av.AudioFrame`.
        rate: Samples a second of an array.
        channels: Channels an array must have.

    Raises:
        TypeError: Something else, or another element type.
        ValueError: Another shape.
    """
    import av

    if isinstance(value, av.AudioFrame):
        if not value.sample_rate:
            raise ValueError("an av.AudioFrame needs its sample_rate")
        return value
    if not is_array(value):
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
        numpy().ascontiguousarray(array).reshape(1, -1),
        format=formats[str(array.dtype)],
        layout="mono" if channels == 1 else "stereo",
    )
    frame.sample_rate = rate
    return frame


def array_of(frame: Frame) -> NDArray[np.uint8] | NDArray[np.int16]:
    """A received frame as an array: (height, width, 3) uint8 RGB, or (samples, channels) int16.

    Raises:
        ImportError: NumPy is not installed.
    """
    numpy()
    import av

    from artico_sync._webrtc.media.conversion import converted

    if isinstance(frame, av.VideoFrame):
        return cast("NDArray[np.uint8]", converted(frame, "rgb24").to_ndarray())
    assert isinstance(frame, av.AudioFrame)
    channels = frame.layout.nb_channels
    array = cast("NDArray[np.int16]", frame.to_ndarray())
    if frame.format.is_planar:
        return array.T
    return array.reshape(-1, channels)
