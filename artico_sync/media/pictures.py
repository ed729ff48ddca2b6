"""Pictures of tracks for people to look at: PNG, JPEG, and a cell of a notebook; user threads."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from artico_sync._bridge.waiting.deadline import Deadline
from artico_sync.errors import MediaError

if TYPE_CHECKING:
    from av.frame import Frame


def png_of(frame: Frame) -> bytes:
    """A video frame as a PNG file."""
    return _encode(frame, "png", "rgb24")


def jpeg_of(frame: Frame) -> bytes:
    """A video frame as a JPEG file."""
    return _encode(frame, "mjpeg", "yuvj420p")


def _encode(frame: Frame, codec: str, pixels: str) -> bytes:
    import av

    from artico_sync._webrtc.media.conversion import converted

    assert isinstance(frame, av.VideoFrame)
    # The frame may be read by others too: what is encoded must be one of its own.
    picture = converted(frame, pixels)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt = pixels
    encoder.time_base = Fraction(1, 25)
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])


def display_live(next_frame: Callable[[Deadline], Frame], timeout: float | None) -> None:
    """Show frames in a notebook's cell until the track ends, the time is over or an interrupt.

    Args:
        next_frame: Waits for the newest frame.
        timeout: Seconds to show, None for ever.

    Raises:
        ImportError: There is no IPython.
    """
    display, image = _notebook()
    deadline = Deadline(timeout)
    handle = None
    try:
        while not deadline.expired:
            picture = image(data=jpeg_of(next_frame(deadline)), format="jpeg")
            if handle is None:
                handle = display(picture, display_id=True)
            else:
                handle.update(picture)
    except (KeyboardInterrupt, MediaError, TimeoutError):
        # All three are the ends one expects: stop of the cell, of the track, of the time.
        return


def _notebook() -> tuple[Any, Any]:
    try:
        notebook: Any = importlib.import_module("IPython.display")
    except ImportError as error:
        raise ImportError(
            "display() needs IPython, which every notebook has: pip install ipython."
            " Elsewhere `snapshot()` and `png()` give pictures."
        ) from error
    return notebook.display, notebook.Image
