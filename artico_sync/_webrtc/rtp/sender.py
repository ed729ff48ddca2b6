"""The RTP sender of one track, fed by an encoder that several calls share (RFC 3550).

It follows `replace_track` at once, outlives the end of a track, uses the codec and bitrate chosen
for a track, and sends the reports that receivers need for lip sync.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from time import monotonic

from aiortc import clock
from aiortc.codecs import is_rtx
from aiortc.exceptions import InvalidStateError
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtcrtpsender import random_sequence_number
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTCP_PSFB_FIR,
    RTCP_PSFB_PLI,
    RTCP_RTPFB_NACK,
    RTP_HISTORY_SIZE,
    AnyRtcpPacket,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtcpRrPacket,
    RtcpRtpfbPacket,
    RtcpSrPacket,
    RtpPacket,
    unpack_remb_fci,
    wrap_rtx,
)
from aiortc.utils import random32, uint16_add

from artico_sync._webrtc.media.local_track import SharedTrack, fanout_of
from artico_sync._webrtc.media.shared_encoder import (
    EncodedMedia,
    SharedEncoder,
    shared_encoder_for,
)
from artico_sync._webrtc.rtp.reports import ReportTask, RtpTransport, SenderReports
from artico_sync.errors import MediaError

logger = logging.getLogger(__name__)

#: Encoded frames that may wait for the network.
BACKLOG_FRAMES = 50
#: Packets sent before other work on the loop gets a turn.
BURST_PACKETS = 16


class RtpSender:
    """Sends a track, or none.

    Large because sending, feedback and the encoder all concern the same packets.

    Args:
        track_or_kind: The track, or "audio" or "video" for none yet.
        transport: The DTLS transport.

    Raises:
        InvalidStateError: The transport is closed.
    """

    def __init__(self, track_or_kind: MediaStreamTrack | str, transport: RtpTransport) -> None:
        if transport.state == "closed":
            raise InvalidStateError
        self.transport = transport
        self.kind = track_or_kind if isinstance(track_or_kind, str) else track_or_kind.kind
        self.ssrc = random32()
        self.rtx_ssrc = random32()
        self.stream_id = str(uuid.uuid4())
        self.track_id = str(uuid.uuid4())
        self.track: MediaStreamTrack | None = None
        #: Encoded frames sent so far.
        self.frames_sent = 0
        self.reports = SenderReports(self.ssrc)
        self._report_task = ReportTask(self._send_report, self.kind)
        self._codecs: list[RTCRtpCodecParameters] = []
        self._codec: RTCRtpCodecParameters | None = None
        self._packets = _PacketHistory(self.ssrc, self.rtx_ssrc)
        self._encoder: SharedEncoder | None = None
        self._encoded_track: MediaStreamTrack | None = None
        self._queue: deque[EncodedMedia] = deque()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_running = False
        self._keyframe_needed = True
        self._is_enabled = True
        if not isinstance(track_or_kind, str):
            self.replace_track(track_or_kind)

    @property
    def codec_name(self) -> str | None:
        """The name of the codec in use."""
        return self._codec.name if self._codec is not None else None

    @property
    def enabled(self) -> bool:
        """False while the negotiated direction does not include sending."""
        return self._is_enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._is_enabled = enabled
        self._follow_track()

    def replace_track(self, track: MediaStreamTrack | None) -> None:
        """Send another track from now on, or none."""
        self.track = track
        self.track_id = str(uuid.uuid4()) if track is None else track.id
        self._follow_track()

    # Life

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start sending; called again, switch to the codecs negotiated since."""
        self._codecs = list(parameters.codecs)
        if self._task is None:
            self.reports.cname = parameters.rtcp.cname
            self._packets.start(parameters)
            self.transport.add_rtp_sender(self, parameters)
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._report_task.start()
        if self._codec is not None and self._codec not in self._codecs:
            self._leave_encoder()
        self._follow_track()

    async def stop(self) -> None:
        """End for good; the track is stopped as well."""
        if self._task is None:
            return
        self.transport.remove_rtp_sender(self)
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._report_task.stop()
        await self._send_rtcp(self.reports.make_bye())

    async def _run(self) -> None:
        self._is_running = True
        try:
            self._follow_track()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._send_frame(self._queue.popleft())
        except ConnectionError:
            logger.debug("the transport of a %s sender is closed", self.kind)
        except Exception:
            logger.exception("a %s sender failed", self.kind)
        finally:
            self._is_running = False
            self._leave_encoder()
            if self.track is not None:
                self.track.stop()
                self.track = None

    # The encoder

    def _follow_track(self) -> None:
        """Use the encoder of the track to send now, or none."""
        track = self.track if self._is_running and self._is_enabled else None
        if track is not None and track.readyState != "live":
            track = None
        if track is self._encoded_track:
            return
        self._leave_encoder()
        if track is None:
            return
        fanout = fanout_of(track)
        self._choose_codec(fanout.codec)
        if self._codec is None:
            return
        self._encoded_track = track
        self._keyframe_needed = fanout.kind == "video"
        self._encoder = shared_encoder_for(fanout, self._codec)
        self._encoder.add_sender(self)

    def _leave_encoder(self) -> None:
        encoder, self._encoder = self._encoder, None
        self._encoded_track = None
        self._queue.clear()
        if encoder is not None:
            encoder.remove_sender(self)

    def _choose_codec(self, wanted: str | None) -> None:
        usable = [codec for codec in self._codecs if not is_rtx(codec)]
        named = [codec for codec in usable if wanted and codec.name.upper() == wanted.upper()]
        if wanted and not named:
            logger.warning("the peer does not accept %s, sending %s", wanted, usable[0].name)
        self._codec = next(iter(named or usable), None)
        if self._codec is not None:
            self._packets.choose_rtx(self._codecs, self._codec)

    def on_encoded(self, media: EncodedMedia) -> None:
        """Queue a frame that the encoder has made."""
        if self._keyframe_needed and not media.is_keyframe:
            return
        if len(self._queue) >= BACKLOG_FRAMES:
            self._queue.clear()
            self._request_keyframe()
            self._keyframe_needed = self.kind == "video"
            return
        self._keyframe_needed = False
        self._queue.append(media)
        self._wake.set()

    def on_end(self, error: MediaError | None) -> None:
        """Stop the track, which has ended; another one may take its place."""
        track = self._encoded_track
        self._encoder = self._encoded_track = None
        if isinstance(track, SharedTrack):
            track.source_ended(error)
        elif track is not None:
            track.stop()

    def _request_keyframe(self) -> None:
        if self._encoder is not None:
            self._encoder.request_keyframe()

    # Feedback

    async def handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        """Process an RTCP packet about this source."""
        if isinstance(packet, (RtcpRrPacket, RtcpSrPacket)):
            for report in packet.reports:
                self.reports.on_report(report)
        elif isinstance(packet, RtcpRtpfbPacket) and packet.fmt == RTCP_RTPFB_NACK:
            for sequence in packet.lost:
                await self._retransmit(sequence)
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt in (RTCP_PSFB_FIR, RTCP_PSFB_PLI):
            self._request_keyframe()
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            self._on_remb(packet)

    def _on_remb(self, packet: RtcpPsfbPacket) -> None:
        try:
            bitrate, sources = unpack_remb_fci(packet.fci)
        except ValueError as error:
            logger.debug("dropped a bandwidth estimate: %s", error)
            return
        if self.ssrc in sources and self._encoder is not None:
            self._encoder.set_limit(self, bitrate)

    async def _retransmit(self, sequence: int) -> None:
        data = self._packets.retransmission(sequence)
        if data is not None:
            await self.transport.send_rtp(data)

    async def _send_report(self) -> None:
        await self._send_rtcp(self.reports.make_report())

    async def _send_rtcp(self, data: bytes) -> None:
        try:
            await self.transport.send_rtp(data)
        except ConnectionError:
            logger.debug("an RTCP packet of a %s sender was not sent", self.kind)

    # The network

    async def _send_frame(self, media: EncodedMedia) -> None:
        codec = self._codec
        if codec is None:
            return
        # A report relates RTP timestamps to local time: a frame's to the time it was due.
        age = round((monotonic() - media.due) * (1 << 32))
        last = len(media.payloads) - 1
        for index, payload in enumerate(media.payloads):
            now = clock.current_ntp_time()
            packet = self._packets.make(
                int(codec.payloadType or 0),
                media.timestamp,
                payload,
                marker=index == last and self.kind == "video",
                ntp_time=now,
                audio_level=media.audio_level,
            )
            await self.transport.send_rtp(self._packets.serialize(packet))
            self.reports.on_packet_sent(len(payload), now - age, packet.timestamp)
            if index % BURST_PACKETS == BURST_PACKETS - 1:
                await asyncio.sleep(0)
        self.frames_sent += 1


class _PacketHistory:
    """Makes the packets of a source, and keeps the newest for retransmission (RFC 4588)."""

    def __init__(self, ssrc: int, rtx_ssrc: int) -> None:
        self._ssrc = ssrc
        self._rtx_ssrc = rtx_ssrc
        self._mid: str | None = None
        self._extensions = HeaderExtensionsMap()
        self._sequence = random_sequence_number()
        self._rtx_sequence = random_sequence_number()
        self._rtx_payload_type: int | None = None
        self._timestamp_offset = random32()
        self._packets: dict[int, RtpPacket] = {}

    def start(self, parameters: RTCRtpSendParameters) -> None:
        """Use the negotiated header extensions."""
        self._mid = parameters.muxId
        self._extensions.configure(parameters)

    def choose_rtx(self, codecs: list[RTCRtpCodecParameters], codec: RTCRtpCodecParameters) -> None:
        """Retransmit in the format negotiated for a codec, if there is one."""
        self._rtx_payload_type = next(
            (
                other.payloadType
                for other in codecs
                if is_rtx(other) and other.parameters.get("apt") == codec.payloadType
            ),
            None,
        )

    def make(
        self,
        payload_type: int,
        timestamp: int,
        payload: bytes,
        *,
        marker: bool,
        ntp_time: int,
        audio_level: int | None,
    ) -> RtpPacket:
        """Make the next packet."""
        packet = RtpPacket(
            payload_type=payload_type,
            marker=int(marker),
            sequence_number=self._sequence,
            timestamp=(self._timestamp_offset + timestamp) & 0xFFFFFFFF,
            ssrc=self._ssrc,
            payload=payload,
        )
        packet.extensions.abs_send_time = (ntp_time >> 14) & 0x00FFFFFF
        packet.extensions.mid = self._mid
        if audio_level is not None:
            packet.extensions.audio_level = (False, -audio_level)
        self._packets[self._sequence % RTP_HISTORY_SIZE] = packet
        self._sequence = uint16_add(self._sequence, 1)
        return packet

    def serialize(self, packet: RtpPacket) -> bytes:
        """Encode a packet with the negotiated header extensions."""
        return packet.serialize(self._extensions)

    def retransmission(self, sequence: int) -> bytes | None:
        """Return a packet to send again, encoded, if it is still there."""
        packet = self._packets.get(sequence % RTP_HISTORY_SIZE)
        if packet is None or packet.sequence_number != sequence:
            return None
        if self._rtx_payload_type is not None:
            packet = wrap_rtx(
                packet,
                payload_type=self._rtx_payload_type,
                sequence_number=self._rtx_sequence,
                ssrc=self._rtx_ssrc,
            )
            self._rtx_sequence = uint16_add(self._rtx_sequence, 1)
        return self.serialize(packet)
