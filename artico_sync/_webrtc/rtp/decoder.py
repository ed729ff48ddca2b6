"""Decodes the frames of one receiver in an executor thread, one batch at a time."""

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

logger = logging.getLogger(__name__)

#: Encoded frames that may wait for the decoder; with more it is too slow for the stream.
BACKLOG_FRAMES = 60


class DecoderWorker:
    """A decoder for as long as the track is read.

    Args:
        deliver: Called on the loop with each decoded frame and the arrival time of its last packet.
        on_fault: Called on the loop when a frame could not be decoded or had to be dropped.
    """

    def __init__(
        self, deliver: Callable[[Frame, float], None], on_fault: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._on_fault = on_fault
        self._waiting: deque[EncodedFrame] = deque()
        self._busy = False
        self._closed = False
        # Used by one executor job at a time only.
        self._decoder: Decoder | None = None
        self._mime_type = ""

    def enqueue_frame(self, frame: EncodedFrame) -> None:
        """Queue a frame to be decoded, in order."""
        if len(self._waiting) >= BACKLOG_FRAMES:
            logger.debug("the decoder is too slow: dropped %d frames", len(self._waiting))
            self._waiting.clear()
            self._on_fault()
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
            # The interpreter or the loop is shutting down.
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
            self._on_fault()
        else:
            frames, failed = future.result()
            for frame, arrival in frames:
                self._deliver(frame, arrival)
            if failed:
                self._on_fault()
        self._next()

    def close(self) -> None:
        """Stop: decode and deliver nothing more."""
        self._closed = True
        self._waiting.clear()
