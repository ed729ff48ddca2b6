"""aiortc's RTP receiver that decodes only what is read; loop thread.

Taken over from aiortc: reports, statistics, bandwidth estimation, routing. Replaced: the jitter
buffer, the requests for lost packets, and the decoder thread that ran whether somebody read or not.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from datetime import timedelta
from time import monotonic
from typing import Any

from aiortc import clock
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import RTCDtlsTransport
from aiortc.rtcrtpparameters import (
    RTCRtpCodecParameters,
    RTCRtpParameters,
    RTCRtpReceiveParameters,
)
from aiortc.rtcrtpreceiver import RTCRtpReceiver, StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtpPacket,
    pack_remb_fci,
    unwrap_rtx,
)

from artico_sync._webrtc.media.depacketizer import parse_payload
from artico_sync._webrtc.media.remote_track import ReceivedTrack
from artico_sync._webrtc.rtp.decoder import DecoderWorker
from artico_sync._webrtc.rtp.jitter_buffer import JitterBuffer, Packet

logger = logging.getLogger("artico_sync._webrtc.rtp.receiver")

# Seconds between two requests for a key frame.
KEY_FRAME_INTERVAL = 0.4
# Seconds between two looks at what is missing.
REPAIR_INTERVAL = 0.02
# A stream silent for so many seconds may be followed by one with another SSRC.
SILENCE = 0.2
# Sources kept count of at a time, and how long a silent one is.
MAXIMUM_SOURCES = 16
SOURCE_LIFE = timedelta(seconds=10)


class TolerantExtensionsMap(HeaderExtensionsMap):
    """aiortc's map of header extensions, for which a malformed extension is a malformed packet.

    aiortc lets the exception through, and it ends the transport.
    """

    def get(self, extension_profile: int, extension_value: bytes) -> HeaderExtensions:
        try:
            return super().get(extension_profile, extension_value)
        except (IndexError, struct.error) as error:
            raise ValueError(f"malformed header extension: {error}") from error


class RtpReceiver(RTCRtpReceiver):
    """An RTP receiver whose `track` is a `ReceivedTrack`."""

    # aiortc's private attributes, under their mangled names.
    _RTCRtpReceiver__active_ssrc: dict[int, Any]
    _RTCRtpReceiver__codecs: dict[int, RTCRtpCodecParameters]
    _RTCRtpReceiver__remote_streams: dict[int, StreamStatistics]
    _RTCRtpReceiver__rtx_ssrc: dict[int, int]
    _RTCRtpReceiver__started: bool
    _RTCRtpReceiver__rtcp_ssrc: int | None
    _RTCRtpReceiver__rtcp_task: asyncio.Future[None] | None
    _RTCRtpReceiver__rtcp_exited: asyncio.Event
    _RTCRtpReceiver__remote_bitrate_estimator: Any

    def __init__(self, kind: str, transport: RTCDtlsTransport) -> None:
        self._kind = kind
        self._received: ReceivedTrack | None = None
        self._assembler = JitterBuffer(video=kind == "video")
        self._decoding: DecoderWorker | None = None
        self._ssrc: int | None = None
        self._announced: list[int] = []
        self._last_packet = 0.0
        self._last_key_request = 0.0
        self._repair: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._extensions: TolerantExtensionsMap | None = None
        #: Encoded frames put together so far; the name of the codec received last.
        self.frames_received = 0
        self.codec_name: str | None = None
        super().__init__(kind, transport)

    # tracks

    # An attribute in aiortc; here setting it makes a track of ours.
    @property  # type: ignore[override]
    def _track(self) -> ReceivedTrack | None:
        return self._received

    @_track.setter
    def _track(self, track: Any) -> None:
        # aiortc puts a track of its own here when the remote description first names one.
        self._received = None if track is None else self._new_track(track.id)

    @property
    def frames_decoded(self) -> int:
        """Frames of the track decoded for readers so far."""
        return self._received.frames_decoded if self._received is not None else 0

    def _new_track(self, track_id: str) -> ReceivedTrack:
        def demand(wanted: bool) -> None:
            if self._received is not track:
                return
            if wanted:
                self._start_reading()
            else:
                self._stop_reading()

        track = ReceivedTrack(self._kind, track_id, demand)
        return track

    def renew_track(self, track_id: str) -> ReceivedTrack:
        """End the track and begin another, because the m-line now carries another one.

        Args:
            track_id: The id the remote description gives the new track.

        Returns:
            The new track, from now on the receiver's `track`.
        """
        old, self._received = self._received, self._new_track(track_id)
        self._stop_reading()
        if old is not None:
            old.stop()
        return self._received

    def _start_reading(self) -> None:
        track = self._received
        if track is None or self._decoding is not None:
            return
        self._assembler.restart()
        self._decoding = DecoderWorker(track.deliver, self._decoder_failed)
        self._last_key_request = 0.0
        if self._last_packet:
            # Something was sent already, so the key frame it began with has gone by.
            self._request_key_frame()

    def _stop_reading(self) -> None:
        if self._decoding is not None:
            self._decoding.close()
            self._decoding = None
        if self._repair is not None:
            self._repair.cancel()
            self._repair = None
        self._assembler.restart()

    def _decoder_failed(self) -> None:
        if self._kind == "video":
            self._assembler.hunt()
            self._request_key_frame()

    # life

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start receiving; called again, take over the codecs and sources negotiated anew."""
        for codec in parameters.codecs:
            self._RTCRtpReceiver__codecs[int(codec.payloadType or 0)] = codec
        for encoding in parameters.encodings:
            if encoding.rtx:
                self._RTCRtpReceiver__rtx_ssrc[encoding.rtx.ssrc] = encoding.ssrc
        self._announced = [encoding.ssrc for encoding in parameters.encodings]
        self._tolerate_malformed_extensions(parameters)
        self.transport._register_rtp_receiver(self, parameters)
        if not self._RTCRtpReceiver__started:
            self._RTCRtpReceiver__rtcp_task = asyncio.ensure_future(self._run_rtcp())
            self._RTCRtpReceiver__started = True

    def _tolerate_malformed_extensions(self, parameters: RTCRtpParameters) -> None:
        present = self.transport._rtp_header_extensions_map
        if not isinstance(present, TolerantExtensionsMap):
            tolerant = TolerantExtensionsMap()
            # The ids other media lines have configured already.
            tolerant.__dict__.update(present.__dict__)
            self.transport._rtp_header_extensions_map = tolerant

    async def stop(self) -> None:
        """End for good, and the track with it."""
        self._end()
        await super().stop()
        for task in tuple(self._tasks):
            task.cancel()

    def _handle_disconnect(self) -> None:
        self._end()

    def _end(self) -> None:
        self._stop_reading()
        if self._received is not None:
            self._received.stop()

    async def _run_rtcp(self) -> None:
        try:
            await super()._run_rtcp()
        except (struct.error, ValueError):
            # Absurd numbers from the peer fit in no report; unset, the event would hold up the end.
            logger.warning("no more receiver reports for a %s track", self._kind, exc_info=True)
            self._RTCRtpReceiver__rtcp_exited.set()

    # packets

    async def _handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        codec = self._RTCRtpReceiver__codecs.get(packet.payload_type)
        if not self._enabled or codec is None or not self._has_room_for(packet.ssrc):
            return
        await self._estimate_bandwidth(packet, arrival_time_ms)
        self._RTCRtpReceiver__active_ssrc[packet.ssrc] = clock.current_datetime()
        streams = self._RTCRtpReceiver__remote_streams
        if packet.ssrc not in streams:
            streams[packet.ssrc] = StreamStatistics(codec.clockRate)
        streams[packet.ssrc].add(packet)
        if is_rtx(codec):
            original = self._unwrap_retransmission(packet, codec)
            if original is None:
                return
            packet = original
            codec = self._RTCRtpReceiver__codecs[packet.payload_type]
        now = monotonic()
        if not self._is_current(packet.ssrc, now):
            return
        self._last_packet = now
        self.codec_name = codec.name
        if self._decoding is not None:
            self._assemble(packet, codec, now)
        elif packet.marker or self._kind == "audio":
            self.frames_received += 1

    def _has_room_for(self, ssrc: int) -> bool:
        """Whether to keep count of a source; a report has room for few, and a call has few."""
        active = self._RTCRtpReceiver__active_ssrc
        if ssrc in active or len(active) < MAXIMUM_SOURCES:
            return True
        horizon = clock.current_datetime() - SOURCE_LIFE
        for source in [source for source, seen in active.items() if seen < horizon]:
            del active[source]
            self._RTCRtpReceiver__remote_streams.pop(source, None)
            if self._RTCRtpReceiver__remote_bitrate_estimator is not None:
                # It names its sources in its reports, and forgets none.
                self._RTCRtpReceiver__remote_bitrate_estimator.ssrcs.pop(source, None)
        return len(active) < MAXIMUM_SOURCES

    async def _estimate_bandwidth(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        estimator = self._RTCRtpReceiver__remote_bitrate_estimator
        if estimator is None or packet.extensions.abs_send_time is None:
            return
        estimate = estimator.add(
            abs_send_time=packet.extensions.abs_send_time,
            arrival_time_ms=arrival_time_ms,
            payload_size=len(packet.payload) + packet.padding_size,
            ssrc=packet.ssrc,
        )
        own = self._RTCRtpReceiver__rtcp_ssrc
        if own is not None and estimate is not None:
            await self._send_rtcp(
                RtcpPsfbPacket(
                    fmt=RTCP_PSFB_APP, ssrc=own, media_ssrc=0, fci=pack_remb_fci(*estimate)
                )
            )

    def _unwrap_retransmission(
        self, packet: RtpPacket, codec: RTCRtpCodecParameters
    ) -> RtpPacket | None:
        ssrc = self._RTCRtpReceiver__rtx_ssrc.get(packet.ssrc)
        original = codec.parameters.get("apt")
        if (
            ssrc is None
            or len(packet.payload) < 2
            or not isinstance(original, int)
            or original not in self._RTCRtpReceiver__codecs
            or is_rtx(self._RTCRtpReceiver__codecs[original])
        ):
            return None
        return unwrap_rtx(packet, payload_type=original, ssrc=ssrc)

    def _is_current(self, ssrc: int, now: float) -> bool:
        """Whether packets of this source belong to the track; a new source may follow a silent
        one."""
        if ssrc == self._ssrc:
            return True
        if self._ssrc is not None:
            if now - self._last_packet < SILENCE and ssrc not in self._announced:
                return False
            self._assembler.begin_stream(now - self._last_packet)
        self._ssrc = ssrc
        return True

    def _assemble(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now: float) -> None:
        try:
            payload = parse_payload(codec, packet.payload)
        except ValueError as error:
            logger.debug("dropping a packet: %s", error)
            return
        frames = self._assembler.add(
            packet.sequence_number,
            Packet(packet.timestamp, bool(packet.marker), payload, codec, now),
        )
        decoding = self._decoding
        for frame in frames:
            self.frames_received += 1
            if decoding is not None:
                decoding.feed(frame)
        if self._assembler.hunting:
            self._request_key_frame()
        if self._assembler.waiting and self._repair is None:
            self._repair_missing()

    # feedback

    def _repair_missing(self) -> None:
        """Ask for what is missing, give up what is hopeless, and look again until nothing is
        missing."""
        self._repair = None
        if self._decoding is None:
            return
        now = monotonic()
        for frame in self._assembler.expire(now):
            self.frames_received += 1
            self._decoding.feed(frame)
        if self._assembler.hunting:
            self._request_key_frame()
        if not self._assembler.waiting:
            return
        if self._kind == "video" and self._ssrc is not None:
            lost = self._assembler.nacks(now)
            if lost:
                self._spawn(self._send_rtcp_nack(self._ssrc, lost))
        self._repair = asyncio.get_running_loop().call_later(REPAIR_INTERVAL, self._repair_missing)

    def _request_key_frame(self) -> None:
        now = monotonic()
        if self._kind != "video" or now - self._last_key_request < KEY_FRAME_INTERVAL:
            return
        if self._ssrc is None and not self._announced:
            return
        self._last_key_request = now
        self._spawn(self._send_rtcp_pli(self._announced[0] if self._ssrc is None else self._ssrc))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
