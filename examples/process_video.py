"""Send each caller its own picture back as a drawing of its edges: process_video.py [ID]."""

import contextlib
import sys
from typing import Any

import numpy as np

from artico_sync import Artico, Call, MediaStream


def edges(picture: Any) -> Any:
    """White where neighbours differ, of a picture (height, width, 3) of uint8 RGB."""
    grey = picture.astype(np.int16).mean(axis=2)
    drawing = np.zeros_like(picture)
    drawing[1:, 1:] = np.minimum(
        8 * (abs(np.diff(grey, axis=0)[:, 1:]) + abs(np.diff(grey, axis=1)[1:])), 255
    )[..., None]
    return drawing


rtco = Artico(id=sys.argv[1] if len(sys.argv) > 1 else None)


@rtco.on("call")
def answer(call: Call) -> None:
    back = MediaStream()

    @call.on("track")
    def process(track: Any) -> None:
        # The function runs on a thread of its own; a picture it is too slow for is left out.
        call.add_track(track.map(edges) if track.kind == "video" else track, back)

    call.answer()


with rtco, contextlib.suppress(KeyboardInterrupt):
    print("answering as", rtco.id, flush=True)
    rtco.wait_closed()
