"""Sender and receiver reports, and the statistics behind them (RFC 3550 6.4)."""

from __future__ import annotations

import asyncio
import logging
import random
import struct
import time
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Protocol

from aiortc import clock
from aiortc.rate import RemoteBitrateEstimator
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.rtp import (
    RTCP_PSFB_APP,
    AnyRtcpPacket,
    RtcpByePacket,
    RtcpPsfbPacket,
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
    RtpPacket,
    pack_remb_fci,
)

logger = logging.getLogger(__name__)

#: Sources with statistics at a time, because a report has room for few, and the time after which a
#: silent one gives way to a new one.
SOURCES_MAX = 16
SOURCE_LIFETIME = timedelta(seconds=10)
#: The weight of the last value in the smoothed round-trip time.
ROUND_TRIP_ALPHA = 0.85
_SDES_CNAME = 1


class RtpTransport(Protocol):
    """The DTLS transport as RTP senders and receivers see it."""

    @property
    def state(self) -> str:
        """ "new", "connecting", "connected", "closed" or "failed"."""

    @property
    def transport(self) -> Any:
        """The ICE transport below."""

    def add_rtp_sender(self, sender: Any, parameters: RTCRtpSendParameters) -> None:
        """Route RTCP packets about a source to its sender."""

    def remove_rtp_sender(self, sender: Any) -> None:
        """Route nothing more to a sender."""

    def add_rtp_receiver(self, receiver: Any, parameters: RTCRtpReceiveParameters) -> None:
        """Route the sources described by the parameters to a receiver."""

    def remove_rtp_receiver(self, receiver: Any) -> None:
        """Route nothing more to a receiver."""

    async def send_rtp(self, data: bytes) -> None:
        """Encrypt and send an RTP or RTCP packet; raise ConnectionError if it is closed."""


class ReportTask:
    """Sends reports at random intervals of 0.5 to 1.5 s (RFC 3550 6.2).

    Args:
        send_reports: Sends the reports of one interval.
        kind: The kind of the track, for the log.
    """

    def __init__(self, send_reports: Callable[[], Coroutine[Any, Any, None]], kind: str) -> None:
        self._send_reports = send_reports
        self._kind = kind
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; has no effect if it runs."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Send no more reports."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.5 + random.random())
            try:
                await self._send_reports()
            except ConnectionError:
                logger.debug("a report of a %s track was not sent", self._kind)
            except (struct.error, ValueError):
                # Absurd numbers from the peer do not fit into a report.
                logger.warning("no more reports for a %s track", self._kind, exc_info=True)
                return


class SenderReports:
    """Counts what a sender sends, and reads what the receiver reports about it."""

    def __init__(self, ssrc: int) -> None:
        self._ssrc = ssrc
        self.cname: str | None = None
        self.packets_sent = 0
        self.bytes_sent = 0
        #: From the receiver's last report: packets lost in all, and seconds of a round trip.
        self.packets_lost: int | None = None
        self.round_trip_time: float | None = None
        self._ntp_timestamp = 0
        self._rtp_timestamp = 0
        self._last_sr: int | None = None
        self._last_sr_at = 0.0

    def on_packet_sent(self, size: int, ntp_timestamp: int, rtp_timestamp: int) -> None:
        """Count a packet; the timestamps are of the same moment."""
        self.packets_sent += 1
        self.bytes_sent += size
        self._ntp_timestamp = ntp_timestamp
        self._rtp_timestamp = rtp_timestamp

    def make_report(self) -> bytes:
        """Return a sender report with a source description."""
        packets: list[AnyRtcpPacket] = [
            RtcpSrPacket(
                ssrc=self._ssrc,
                sender_info=RtcpSenderInfo(
                    ntp_timestamp=self._ntp_timestamp,
                    rtp_timestamp=self._rtp_timestamp,
                    packet_count=self.packets_sent & 0xFFFFFFFF,
                    octet_count=self.bytes_sent & 0xFFFFFFFF,
                ),
            )
        ]
        self._last_sr = (self._ntp_timestamp >> 16) & 0xFFFFFFFF
        self._last_sr_at = time.time()
        if self.cname is not None:
            items = [(_SDES_CNAME, self.cname.encode())]
            packets.append(RtcpSdesPacket(chunks=[RtcpSourceInfo(ssrc=self._ssrc, items=items)]))
        return b"".join(bytes(packet) for packet in packets)

    def make_bye(self) -> bytes:
        """Return the packet that ends the source."""
        return bytes(RtcpByePacket(sources=[self._ssrc]))

    def on_report(self, report: RtcpReceiverInfo) -> None:
        """Take a reception report about this source."""
        if report.ssrc != self._ssrc:
            return
        if self._last_sr == report.lsr and report.dlsr:
            rtt = time.time() - self._last_sr_at - report.dlsr / 65536
            if self.round_trip_time is None:
                self.round_trip_time = rtt
            else:
                self.round_trip_time = (
                    ROUND_TRIP_ALPHA * self.round_trip_time + (1 - ROUND_TRIP_ALPHA) * rtt
                )
        self.packets_lost = report.packets_lost


class ReceiverReports:
    """Statistics of the sources a receiver hears, and the reports and estimates about them."""

    def __init__(self, kind: str) -> None:
        #: The SSRC of the sender that shares the m-section; reports need one.
        self.ssrc: int | None = None
        self.streams: dict[int, StreamStatistics] = {}
        self.bitrate_estimator = RemoteBitrateEstimator() if kind == "video" else None
        self._last_heard: dict[int, datetime] = {}
        self._last_sr: dict[int, tuple[int, float]] = {}

    def has_room_for(self, ssrc: int) -> bool:
        """Return True if packets of a source may be counted; drop silent sources for it."""
        if ssrc in self._last_heard or len(self._last_heard) < SOURCES_MAX:
            return True
        horizon = clock.current_datetime() - SOURCE_LIFETIME
        for source in [source for source, seen in self._last_heard.items() if seen < horizon]:
            del self._last_heard[source]
            self.streams.pop(source, None)
            self._last_sr.pop(source, None)
            if self.bitrate_estimator is not None:
                # It names its sources in its reports, and forgets none.
                self.bitrate_estimator.ssrcs.pop(source, None)
        return len(self._last_heard) < SOURCES_MAX

    def on_packet(self, packet: RtpPacket, clock_rate: int) -> None:
        """Count a packet of a source there is room for."""
        self._last_heard[packet.ssrc] = clock.current_datetime()
        if packet.ssrc not in self.streams:
            self.streams[packet.ssrc] = StreamStatistics(clock_rate)
        self.streams[packet.ssrc].add(packet)

    def on_sender_report(self, packet: RtcpSrPacket) -> None:
        """Note the time of a sender report, which the next receiver report refers to."""
        if packet.ssrc in self.streams:
            middle = (packet.sender_info.ntp_timestamp >> 16) & 0xFFFFFFFF
            self._last_sr[packet.ssrc] = middle, time.time()

    def estimate_bitrate(self, packet: RtpPacket, arrival_time_ms: int) -> bytes | None:
        """Return a new estimate of what the path carries, encoded as REMB, if there is one."""
        if self.bitrate_estimator is None or packet.extensions.abs_send_time is None:
            return None
        estimate = self.bitrate_estimator.add(
            abs_send_time=packet.extensions.abs_send_time,
            arrival_time_ms=arrival_time_ms,
            payload_size=len(packet.payload) + packet.padding_size,
            ssrc=packet.ssrc,
        )
        if self.ssrc is None or estimate is None:
            return None
        fci = pack_remb_fci(*estimate)
        return bytes(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=self.ssrc, media_ssrc=0, fci=fci))

    def make_report(self) -> bytes | None:
        """Return a receiver report, None if there is nothing to report."""
        if self.ssrc is None or not self.streams:
            return None
        reports = []
        for ssrc, stream in self.streams.items():
            last_sr, dlsr = 0, 0
            if ssrc in self._last_sr:
                last_sr, received_at = self._last_sr[ssrc]
                delay = time.time() - received_at
                if 0 < delay < 65536:
                    dlsr = int(delay * 65536)
            reports.append(
                RtcpReceiverInfo(
                    ssrc=ssrc,
                    fraction_lost=stream.fraction_lost,
                    packets_lost=stream.packets_lost,
                    highest_sequence=stream.max_seq or 0,
                    jitter=stream.jitter,
                    lsr=last_sr,
                    dlsr=dlsr,
                )
            )
        return bytes(RtcpRrPacket(ssrc=self.ssrc, reports=reports))
