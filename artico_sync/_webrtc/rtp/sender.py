"""aiortc's RTP sender, fed by an encoder that several calls share; loop thread.

Taken over from aiortc: reports, retransmission, statistics. Replaced: the task that read the track,
encoded and sent. This one follows `replaceTrack` at once, outlives the end of a track, honours the
codec and bitrate wished for a track, and sends sender reports from which the receiver finds the lip
sync.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import Any

from aiortc import clock
from aiortc.codecs import is_rtx
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtcrtpsender import RTCRtpSender, random_sequence_number
from aiortc.rtp import (
    RTCP_PSFB_APP,
    RTP_HISTORY_SIZE,
    AnyRtcpPacket,
    HeaderExtensionsMap,
    RtcpPsfbPacket,
    RtpPacket,
    unpack_remb_fci,
)
from aiortc.utils import random32, uint16_add

from artico_sync._webrtc.media.local_track import SharedTrack, hub_of
from artico_sync._webrtc.media.shared_encoder import EncodedMedia, SharedEncoder, encoding_for
from artico_sync.errors import MediaError

logger = logging.getLogger("artico_sync._webrtc.rtp.sender")

# Encoded frames that may wait for the network.
BACKLOG = 50
# Packets sent before other work on the loop gets its turn.
BURST = 16


class RtpSender(RTCRtpSender):
    """An RTP sender."""

    # aiortc's private attributes, under their mangled names.
    _RTCRtpSender__mid: str | None
    _RTCRtpSender__ntp_timestamp: int
    _RTCRtpSender__octet_count: int
    _RTCRtpSender__packet_count: int
    _RTCRtpSender__rtp_exited: asyncio.Event
    _RTCRtpSender__rtp_header_extensions_map: HeaderExtensionsMap
    _RTCRtpSender__rtp_history: dict[int, RtpPacket]
    _RTCRtpSender__rtp_started: asyncio.Event
    _RTCRtpSender__rtp_timestamp: int
    _RTCRtpSender__rtx_payload_type: int | None
    _RTCRtpSender__track: MediaStreamTrack | None

    def __init__(self, trackOrKind: MediaStreamTrack | str, transport: Any) -> None:
        self._codecs: list[RTCRtpCodecParameters] = []
        self._codec: RTCRtpCodecParameters | None = None
        self._encoding: SharedEncoder | None = None
        self._consumed: MediaStreamTrack | None = None
        self._queue: deque[EncodedMedia] = deque()
        self._wake = asyncio.Event()
        self._running = False
        self._key_needed = True
        self._is_enabled = True
        self._sequence = random_sequence_number()
        self._origin = random32()
        #: Encoded frames sent so far.
        self.frames_sent = 0
        super().__init__(trackOrKind, transport)

    @property
    def codec_name(self) -> str | None:
        """Name of the codec in use."""
        return self._codec.name if self._codec is not None else None

    @property
    def _enabled(self) -> bool:
        return self._is_enabled

    @_enabled.setter
    def _enabled(self, enabled: bool) -> None:
        self._is_enabled = enabled
        self._follow()

    def replaceTrack(self, track: MediaStreamTrack | None) -> None:
        """Send another track from now on, or none."""
        super().replaceTrack(track)
        self._follow()

    async def send(self, parameters: RTCRtpSendParameters) -> None:
        """Start sending; called again, take over the codecs negotiated anew."""
        self._codecs = list(parameters.codecs)
        await super().send(parameters)
        if self._codec is not None and self._codec not in self._codecs:
            self._leave()
        self._follow()

    # the encoder

    def _follow(self) -> None:
        """Be served by the encoder of the track to send now, or by none."""
        track = self.track if self._running and self._is_enabled else None
        if track is not None and track.readyState != "live":
            track = None
        if track is self._consumed:
            return
        self._leave()
        if track is None:
            return
        hub = hub_of(track)
        self._choose_codec(hub.codec)
        if self._codec is None:
            return
        self._consumed = track
        self._key_needed = hub.kind == "video"
        self._encoding = encoding_for(hub, self._codec)
        self._encoding.add(self)

    def _leave(self) -> None:
        encoding, self._encoding = self._encoding, None
        self._consumed = None
        self._queue.clear()
        if encoding is not None:
            encoding.discard(self)

    def _choose_codec(self, wanted: str | None) -> None:
        usable = [codec for codec in self._codecs if not is_rtx(codec)]
        named = [codec for codec in usable if wanted and codec.name.upper() == wanted.upper()]
        if wanted and not named:
            logger.warning("the peer does not take %s, sending %s", wanted, usable[0].name)
        self._codec = next(iter(named or usable), None)
        if self._codec is not None:
            self._RTCRtpSender__rtx_payload_type = next(
                (
                    codec.payloadType
                    for codec in self._codecs
                    if is_rtx(codec) and codec.parameters.get("apt") == self._codec.payloadType
                ),
                None,
            )

    def on_encoded(self, media: EncodedMedia) -> None:
        """The encoder made a frame."""
        if self._key_needed and not media.key:
            return
        if len(self._queue) >= BACKLOG:
            self._queue.clear()
            self._send_keyframe()
            self._key_needed = self.kind == "video"
            return
        self._key_needed = False
        self._queue.append(media)
        self._wake.set()

    def on_end(self, error: MediaError | None) -> None:
        """The track has ended; another one may take its place."""
        track = self._consumed
        self._encoding = self._consumed = None
        if isinstance(track, SharedTrack):
            track.source_ended(error)
        elif track is not None:
            track.stop()

    def _send_keyframe(self) -> None:
        if self._encoding is not None:
            self._encoding.request_key_frame()

    async def _handle_rtcp_packet(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            try:
                bitrate, sources = unpack_remb_fci(packet.fci)
            except ValueError as error:
                logger.debug("dropping a bandwidth estimate: %s", error)
                return
            if self._ssrc in sources and self._encoding is not None:
                self._encoding.set_limit(self, bitrate)
            return
        await super()._handle_rtcp_packet(packet)

    # the network

    async def _run_rtp(self, codec: RTCRtpCodecParameters) -> None:
        self._RTCRtpSender__rtp_started.set()
        self._running = True
        try:
            self._follow()
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._queue:
                    await self._transmit(self._queue.popleft())
        except ConnectionError:
            logger.debug("the transport of a %s sender is closed", self.kind)
        except asyncio.CancelledError:
            # The end `stop()` asks for; it waits for the event below, not for this task.
            logger.debug("a %s sender stopped", self.kind)
        except Exception:
            # Without the event set below the end of the connection would wait for ever.
            logger.exception("a %s sender failed", self.kind)
        finally:
            self._running = False
            self._leave()
            if self._RTCRtpSender__track is not None:
                self._RTCRtpSender__track.stop()
                self._RTCRtpSender__track = None
            self._RTCRtpSender__rtp_exited.set()

    async def _transmit(self, media: EncodedMedia) -> None:
        codec = self._codec
        if codec is None:
            return
        timestamp = (self._origin + media.timestamp) & 0xFFFFFFFF
        # A report says which moment of ours a timestamp stands for: the one the frame was due.
        age = round((monotonic() - media.due) * (1 << 32))
        last = len(media.payload) - 1
        for index, payload in enumerate(media.payload):
            packet = RtpPacket(
                payload_type=int(codec.payloadType or 0),
                marker=int(index == last and self.kind == "video"),
                sequence_number=self._sequence,
                timestamp=timestamp,
                ssrc=self._ssrc,
                payload=payload,
            )
            now = clock.current_ntp_time()
            packet.extensions.abs_send_time = (now >> 14) & 0x00FFFFFF
            packet.extensions.mid = self._RTCRtpSender__mid
            if media.audio_level is not None:
                packet.extensions.audio_level = (False, -media.audio_level)
            self._RTCRtpSender__rtp_history[self._sequence % RTP_HISTORY_SIZE] = packet
            self._sequence = uint16_add(self._sequence, 1)
            await self.transport._send_rtp(
                packet.serialize(self._RTCRtpSender__rtp_header_extensions_map)
            )
            self._RTCRtpSender__ntp_timestamp = now - age
            self._RTCRtpSender__rtp_timestamp = timestamp
            self._RTCRtpSender__octet_count += len(payload)
            self._RTCRtpSender__packet_count += 1
            if index % BURST == BURST - 1:
                await asyncio.sleep(0)
        self.frames_sent += 1
