"""Decodes the frames of one receiver off the loop, one batch at a time; called on the loop
thread."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import av
from aiortc.codecs import get_decoder
from aiortc.codecs.base import Decoder
from aiortc.jitterbuffer import JitterFrame
from av.frame import Frame

from artico_sync._webrtc.rtp.jitter_buffer import EncodedFrame

logger = logging.getLogger("artico_sync._webrtc.rtp.decoder")

# Encoded frames that may wait for the decoder; beyond that it is too slow for the stream.
BACKLOG = 60


class DecoderWorker:
    """A decoder while somebody reads; `close()` forgets it.

    Args:
        deliver: Called on the loop with each decoded frame and the time its last packet came.
        fault: Called on the loop when a frame could not be decoded or had to be dropped.
    """

    def __init__(self, deliver: Callable[[Frame, float], None], fault: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._fault = fault
        self._waiting: deque[EncodedFrame] = deque()
        self._busy = False
        self._closed = False
        # Touched by one executor job at a time only.
        self._decoder: Decoder | None = None
        self._mime_type = ""

    def feed(self, frame: EncodedFrame) -> None:
        """Have a frame decoded, in order."""
        if len(self._waiting) >= BACKLOG:
            logger.debug("the decoder is too slow, dropping %d frames", len(self._waiting))
            self._waiting.clear()
            self._fault()
            return
        self._waiting.append(frame)
        self._next()

    def _next(self) -> None:
        if self._busy or self._closed or not self._waiting:
            return
        batch = list(self._waiting)
        self._waiting.clear()
        try:
            future = self._loop.run_in_executor(None, self._decode, batch)
        except RuntimeError:
            # The interpreter or the loop is going down.
            self._closed = True
            return
        self._busy = True
        future.add_done_callback(self._decoded)

    def _decode(self, batch: list[EncodedFrame]) -> tuple[list[tuple[Frame, float]], bool]:
        decoded: list[tuple[Frame, float]] = []
        failed = False
        for encoded in batch:
            if self._closed:
                break
            try:
                if self._decoder is None or encoded.codec.mimeType != self._mime_type:
                    self._decoder = get_decoder(encoded.codec)
                    self._mime_type = encoded.codec.mimeType
                frames = self._decoder.decode(JitterFrame(encoded.data, encoded.timestamp))
            except (av.FFmpegError, ValueError) as error:
                logger.debug("cannot decode a %s frame: %s", encoded.codec.name, error)
                failed = True
                continue
            decoded.extend((frame, encoded.arrival) for frame in frames)
        return decoded, failed

    def _decoded(self, future: asyncio.Future[tuple[list[tuple[Frame, float]], bool]]) -> None:
        self._busy = False
        if self._closed or future.cancelled():
            return
        error = future.exception()
        if error is not None:
            logger.error("unexpected error in a decoder", exc_info=error)
            self._fault()
        else:
            frames, failed = future.result()
            for frame, arrival in frames:
                self._deliver(frame, arrival)
            if failed:
                self._fault()
        self._next()

    def close(self) -> None:
        """Decode and deliver nothing more."""
        self._closed = True
        self._waiting.clear()
