"""One picture, converted by several threads at once; test threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

import av

from artico_sync.media.arrays import array_of, picture_of
from artico_sync.media.pictures import jpeg_of, png_of

LIMIT = 20.0


def test_threads_convert_the_same_picture_at_once() -> None:
    # The readers of a track get the same frames: one shows it, another makes a new track of it.
    conversions: list[Callable[[av.VideoFrame], object]] = [array_of, jpeg_of, png_of, picture_of]
    rounds = 100
    pictures = [av.VideoFrame(160, 120, "yuv422p") for _ in range(rounds)]
    together = threading.Barrier(len(conversions))
    done: list[Callable[[av.VideoFrame], object]] = []

    def convert_all(convert: Callable[[av.VideoFrame], object]) -> None:
        for picture in pictures:
            together.wait(LIMIT)
            convert(picture)
        done.append(convert)

    # Daemons: a thread that hangs in C must not keep the tests from ending.
    threads = [
        threading.Thread(target=convert_all, args=(convert,), daemon=True)
        for convert in conversions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(done) == len(conversions)
