"""The RTP receiver of one m-section, which decodes only while its track is read (RFC 3550).

`BoundedRouter` finds the receiver of a packet: aiortc's router and header parsing, which raise
nothing and hold a bounded number of sources.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from time import monotonic
from typing import Any

from aiortc.codecs import is_rtx
from aiortc.exceptions import InvalidStateError
from aiortc.rtcdtlstransport import RtpReceiver as RoutedReceiver
from aiortc.rtcdtlstransport import RtpRouter
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpReceiveParameters
from aiortc.rtp import (
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    AnyRtcpPacket,
    HeaderExtensions,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    unwrap_rtx,
)

from artico_sync._protocol.bounds import LruDict
from artico_sync._webrtc.media.depacketizer import parse_payload
from artico_sync._webrtc.media.remote_track import ReceivedTrack
from artico_sync._webrtc.rtp.decoder import DecoderWorker
from artico_sync._webrtc.rtp.jitter_buffer import JitterBuffer, Packet
from artico_sync._webrtc.rtp.reports import ReceiverReports, ReportTask, RtpTransport

logger = logging.getLogger(__name__)

KEYFRAME_REQUEST_INTERVAL_SECONDS = 0.4
#: Interval of looks at missing packets.
REPAIR_INTERVAL_SECONDS = 0.02
#: After this silence a source may be followed by one with another SSRC.
SOURCE_SILENCE_SECONDS = 0.2
#: Sources known only from their packets. A forgotten one is learned again from its next packet.
LEARNED_MAX = 64


class RtpReceiver:
    """Receives the sources of one m-section; its `track` is a `ReceivedTrack`.

    Args:
        kind: "audio" or "video".
        transport: The DTLS transport.

    Raises:
        InvalidStateError: The transport is closed.
    """

    def __init__(self, kind: str, transport: RtpTransport) -> None:
        if transport.state == "closed":
            raise InvalidStateError
        self.kind = kind
        self.transport = transport
        #: False while the negotiated direction does not include receiving.
        self.enabled = True
        self.track: ReceivedTrack | None = None
        #: Encoded frames reassembled so far; the name of the codec received last.
        self.frames_received = 0
        self.codec_name: str | None = None
        self.reports = ReceiverReports(kind)
        self._report_task = ReportTask(self._send_report, kind)
        self._is_started = False
        self._codecs: dict[int, RTCRtpCodecParameters] = {}
        self._rtx_sources: dict[int, int] = {}
        self._jitter_buffer = JitterBuffer(video=kind == "video")
        self._decoder: DecoderWorker | None = None
        self._ssrc: int | None = None
        self._announced: list[int] = []
        self._last_packet_at = 0.0
        self._keyframe_requested_at = 0.0
        self._repair_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # The track

    @property
    def frames_decoded(self) -> int:
        """Frames of the track decoded for readers so far."""
        return self.track.frames_decoded if self.track is not None else 0

    def _new_track(self, track_id: str) -> ReceivedTrack:
        def demand(wanted: bool) -> None:
            if self.track is not track:
                return
            if wanted:
                self._start_reading()
            else:
                self._stop_reading()

        track = ReceivedTrack(self.kind, track_id, demand)
        return track

    def renew_track(self, track_id: str) -> ReceivedTrack:
        """End the track and begin another, because the m-section now carries another one.

        Args:
            track_id: The id the remote description gives the new track.

        Returns:
            The new track, from now on the receiver's `track`.
        """
        old, self.track = self.track, self._new_track(track_id)
        self._stop_reading()
        if old is not None:
            old.stop()
        return self.track

    def _start_reading(self) -> None:
        track = self.track
        if track is None or self._decoder is not None:
            return
        self._jitter_buffer.restart()
        self._decoder = DecoderWorker(track.deliver_frame, self._decoder_failed)
        self._keyframe_requested_at = 0.0
        if self._last_packet_at:
            # The keyframe at the beginning of the stream has been missed.
            self._request_keyframe()

    def _stop_reading(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        if self._repair_timer is not None:
            self._repair_timer.cancel()
            self._repair_timer = None
        self._jitter_buffer.restart()

    def _decoder_failed(self) -> None:
        if self.kind == "video":
            self._jitter_buffer.request_keyframe()
            self._request_keyframe()

    # Life

    async def receive(self, parameters: RTCRtpReceiveParameters) -> None:
        """Start receiving; called again, add the codecs and sources negotiated since."""
        for codec in parameters.codecs:
            self._codecs[int(codec.payloadType or 0)] = codec
        for encoding in parameters.encodings:
            if encoding.rtx:
                self._rtx_sources[encoding.rtx.ssrc] = encoding.ssrc
        self._announced = [encoding.ssrc for encoding in parameters.encodings]
        self.transport.add_rtp_receiver(self, parameters)
        self._report_task.start()
        self._is_started = True

    async def stop(self) -> None:
        """End for good, and the track with it."""
        self.handle_disconnect()
        if self._is_started:
            self.transport.remove_rtp_receiver(self)
            await self._report_task.stop()
        for task in tuple(self._tasks):
            task.cancel()

    def handle_disconnect(self) -> None:
        """End the track, because the connection has ended."""
        self._stop_reading()
        if self.track is not None:
            self.track.stop()

    # Packets

    async def handle_rtp_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        """Process a packet of one of the sources."""
        codec = self._codecs.get(packet.payload_type)
        if not self.enabled or codec is None or not self.reports.has_room_for(packet.ssrc):
            return
        estimate = self.reports.estimate_bitrate(packet, arrival_time_ms)
        if estimate is not None:
            await self._send_rtcp(estimate)
        self.reports.on_packet(packet, codec.clockRate)
        if is_rtx(codec):
            original = self._unwrap_retransmission(packet, codec)
            if original is None:
                return
            packet = original
            codec = self._codecs[packet.payload_type]
        now = monotonic()
        if not self._is_current(packet.ssrc, now):
            return
        self._last_packet_at = now
        self.codec_name = codec.name
        if self._decoder is not None:
            self._reassemble(packet, codec, now)
        elif packet.marker or self.kind == "audio":
            self.frames_received += 1

    async def handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        """Process an RTCP packet of one of the sources."""
        if isinstance(packet, RtcpSrPacket):
            self.reports.on_sender_report(packet)

    def _unwrap_retransmission(
        self, packet: RtpPacket, codec: RTCRtpCodecParameters
    ) -> RtpPacket | None:
        ssrc = self._rtx_sources.get(packet.ssrc)
        original = codec.parameters.get("apt")
        if (
            ssrc is None
            or len(packet.payload) < 2
            or not isinstance(original, int)
            or original not in self._codecs
            or is_rtx(self._codecs[original])
        ):
            return None
        return unwrap_rtx(packet, payload_type=original, ssrc=ssrc)

    def _is_current(self, ssrc: int, now: float) -> bool:
        """Return True if packets of a source belong to the track.

        A new source may follow one that has gone silent.
        """
        if ssrc == self._ssrc:
            return True
        if self._ssrc is not None:
            if now - self._last_packet_at < SOURCE_SILENCE_SECONDS and ssrc not in self._announced:
                return False
            self._jitter_buffer.begin_stream(now - self._last_packet_at)
        self._ssrc = ssrc
        return True

    def _reassemble(self, packet: RtpPacket, codec: RTCRtpCodecParameters, now: float) -> None:
        try:
            payload = parse_payload(codec, packet.payload)
        except ValueError as error:
            logger.debug("dropped a packet: %s", error)
            return
        frames = self._jitter_buffer.add_packet(
            packet.sequence_number,
            Packet(packet.timestamp, bool(packet.marker), payload, codec, now),
        )
        decoder = self._decoder
        for frame in frames:
            self.frames_received += 1
            if decoder is not None:
                decoder.enqueue_frame(frame)
        if self._jitter_buffer.waiting_for_keyframe:
            self._request_keyframe()
        if self._jitter_buffer.has_missing and self._repair_timer is None:
            self._repair_missing()

    # Feedback

    def _repair_missing(self) -> None:
        """Request missing packets, skip overdue ones, and repeat until none is missing."""
        self._repair_timer = None
        if self._decoder is None:
            return
        now = monotonic()
        for frame in self._jitter_buffer.skip_overdue(now):
            self.frames_received += 1
            self._decoder.enqueue_frame(frame)
        if self._jitter_buffer.waiting_for_keyframe:
            self._request_keyframe()
        if not self._jitter_buffer.has_missing:
            return
        if self.kind == "video" and self._ssrc is not None:
            lost = self._jitter_buffer.sequences_to_nack(now)
            if lost:
                self._spawn(self._send_nack(self._ssrc, lost))
        self._repair_timer = asyncio.get_running_loop().call_later(
            REPAIR_INTERVAL_SECONDS, self._repair_missing
        )

    def _request_keyframe(self) -> None:
        now = monotonic()
        if (
            self.kind != "video"
            or now - self._keyframe_requested_at < KEYFRAME_REQUEST_INTERVAL_SECONDS
        ):
            return
        if self._ssrc is None and not self._announced:
            return
        self._keyframe_requested_at = now
        self._spawn(self._send_pli(self._announced[0] if self._ssrc is None else self._ssrc))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_nack(self, media_ssrc: int, lost: list[int]) -> None:
        if self.reports.ssrc is not None:
            packet = RtcpRtpfbPacket(
                fmt=RTCP_RTPFB_NACK, ssrc=self.reports.ssrc, media_ssrc=media_ssrc
            )
            packet.lost = lost
            await self._send_rtcp(bytes(packet))

    async def _send_pli(self, media_ssrc: int) -> None:
        if self.reports.ssrc is not None:
            packet = RtcpPsfbPacket(
                fmt=RTCP_PSFB_PLI, ssrc=self.reports.ssrc, media_ssrc=media_ssrc
            )
            await self._send_rtcp(bytes(packet))

    async def _send_report(self) -> None:
        report = self.reports.make_report()
        if report is not None:
            await self._send_rtcp(report)

    async def _send_rtcp(self, data: bytes) -> None:
        try:
            await self.transport.send_rtp(data)
        except ConnectionError:
            logger.debug("an RTCP packet of a %s receiver was not sent", self.kind)


class TolerantExtensionsMap(HeaderExtensionsMap):
    """A map of header extensions that raises ValueError for a malformed one.

    aiortc's raises what its parsing happens to raise, which would end the transport.
    """

    def get(self, extension_profile: int, extension_value: bytes) -> HeaderExtensions:
        """Parse the extensions of a packet."""
        try:
            return super().get(extension_profile, extension_value)
        except (IndexError, struct.error) as error:
            raise ValueError(f"malformed header extension: {error}") from error


class BoundedRouter(RtpRouter):
    """Forgets the oldest learned sources; aiortc's keeps each until its receiver is removed."""

    def __init__(self) -> None:
        super().__init__()
        # Sources that no description announced, oldest first.
        self._learned: LruDict[int, None] = LruDict(
            LEARNED_MAX, lambda ssrc, _: self.ssrc_table.pop(ssrc, None)
        )

    def register_receiver(
        self,
        receiver: RoutedReceiver,
        ssrcs: list[int],
        payload_types: list[int],
        mid: str | None = None,
    ) -> None:
        """Route these sources and payload types to a receiver."""
        super().register_receiver(receiver, ssrcs, payload_types, mid)
        for ssrc in ssrcs:
            self._learned.pop(ssrc, None)

    def route_rtp(self, packet: RtpPacket) -> RoutedReceiver | None:
        """Return the receiver of a packet, None to drop it."""
        is_new = packet.ssrc not in self.ssrc_table
        receiver = super().route_rtp(packet)
        if is_new and receiver is not None:
            self._learned[packet.ssrc] = None
        return receiver
