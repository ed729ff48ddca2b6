"""DTLS of a call: aiortc's, with a data pump that is fast and hard to stop; loop thread.

aiortc awaits four times a datagram, asks OpenSSL for output that is not there (an exception each
time), and ends the call at the first exception of whoever takes the data.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import pylibsrtp
from aiortc import RTCDtlsTransport, RTCIceTransport, clock
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint, State
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtp import RtcpPacket, RtpPacket, is_rtcp
from OpenSSL import SSL

from artico_sync._webrtc.dtls.records import HEADER, RECORD_MAXIMUM, Records, records_of, runs
from artico_sync._webrtc.rtp.router import BoundedRouter, TolerantExtensionsMap

if TYPE_CHECKING:
    from aiortc.rtcdtlstransport import SRTPProtectionProfile

logger = logging.getLogger(__name__)

#: A certificate lives for 30 days; with no more than this left it is used for no new call.
REMAINING_LIFE = datetime.timedelta(days=29)
#: Datagrams taken in before the loop gets its turn.
BATCH = 64

_APPLICATION_DATA = 23


class Certificate(RTCCertificate):
    """A certificate for many calls: what is computed from it is computed once."""

    _context: SSL.Context | None = None
    _fingerprints: list[RTCDtlsFingerprint] | None = None

    @property
    def is_stale(self) -> bool:
        """Is it time for another one?"""
        return self.expires - datetime.datetime.now(datetime.UTC) < REMAINING_LIFE

    def getFingerprints(self) -> list[RTCDtlsFingerprint]:
        if self._fingerprints is None:
            self._fingerprints = super().getFingerprints()
        return list(self._fingerprints)

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        # aiortc always asks for the same profiles.
        if self._context is None:
            self._context = super()._create_ssl_context(srtp_profiles)
            # Nothing resumes a session; a context that lives long would only collect them.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


class DtlsTransport(RTCDtlsTransport):
    """Made by the peer connection, which starts and stops it."""

    _take_data: Callable[[bytes], None] | None = None

    def __init__(
        self,
        transport: RTCIceTransport,
        certificates: list[RTCCertificate],
        *,
        accelerate: bool = True,
    ) -> None:
        super().__init__(transport, certificates)
        self._accelerate = accelerate
        self._records: Records | None = None
        self._handshake_done = False
        #: Finds the receiver of an RTP packet, and the recipients of an RTCP packet.
        self.router = BoundedRouter()
        self._header_extensions = TolerantExtensionsMap()

    @property
    def can_send_at_once(self) -> bool:
        """Whether `send_packets` works: the ICE transport below must not need awaiting either."""
        return hasattr(self.transport, "send_run")

    def send_packets(self, packets: Sequence[bytes]) -> None:
        """Encrypt packets and send each as a datagram, without awaiting. Raises ConnectionError."""
        if self._state != State.CONNECTED or self._ssl is None:
            raise ConnectionError("Cannot send encrypted data, not connected")
        records = self._records or self._make_records(self._ssl)
        send_run: Callable[[bytes | memoryview, int], None] = getattr(self.transport, "send_run")
        for run in (packets,) if len(packets) == 1 else runs(packets):
            try:
                data = records.encrypt(run)
            except SSL.Error as exc:
                raise ConnectionError(f"Cannot encrypt: {exc!r}") from exc
            single = len(run) == 1
            send_run(data, len(data) if single else HEADER + int.from_bytes(data[11:13], "big"))

    def _make_records(self, connection: SSL.Connection) -> Records:
        self._records = records = records_of(connection, accelerate=self._accelerate)
        return records

    @property
    def role(self) -> str:
        """ "auto", "client" or "server" (RFC 5763)."""
        return self._role

    def set_role(self, role: str) -> None:
        """Take a role; possible until the handshake begins."""
        self._set_role(role)

    @property
    def is_client(self) -> bool:
        """True if this end has the DTLS role of the client."""
        return self._role == "client"

    @property
    def packet_maximum(self) -> int:
        """The largest packet that fits into a record, in bytes."""
        return RECORD_MAXIMUM

    async def send_packet(self, packet: bytes) -> None:
        """Encrypt a packet and send it. Raises ConnectionError."""
        await self._send_data(packet)

    def set_packet_receiver(self, receive: Callable[[bytes], None] | None) -> None:
        """Hand each packet to this function once it is decrypted."""
        self._take_data = receive

    async def _recv_next(self) -> None:
        """Process one datagram during the handshake, which aiortc runs, or its timeout.

        The last flight may have to be retransmitted after the handshake has completed, so this
        goes on until OpenSSL needs no timeout any more.
        """
        assert self._ssl is not None
        timeout = self._ssl.DTLSv1_get_timeout()
        if timeout is None and self.encrypted:
            self._handshake_done = True
        try:
            async with asyncio.timeout(timeout):
                datagram = await self.transport._recv()
        except TimeoutError:
            self._ssl.DTLSv1_handle_timeout()
            await self._write_ssl()
            return
        await self._take(datagram)

    async def _RTCDtlsTransport__run(self) -> None:
        """Take in datagrams until the connection ends; started by `start`."""
        try:
            while not self._handshake_done:
                await self._recv_next()
            receive: Callable[[], Awaitable[bytes]] = self.transport._recv
            take_waiting: Any = getattr(self.transport, "receive_now", None)
            self._consume(self._take_at_once)
            while True:
                await self._take(await receive())
                if take_waiting is not None:
                    for _ in range(BATCH):
                        datagram = take_waiting()
                        if datagram is None:
                            break
                        await self._take(datagram)
        except ConnectionError:
            receiver: Any
            for receiver in self.router.receivers:
                receiver.handle_disconnect()
        finally:
            self._consume(None)
            self._set_state(State.CLOSED)

    def _consume(self, consumer: Callable[[bytes], bool] | None) -> None:
        consume = getattr(self.transport, "consume", None)
        if consume is not None:
            consume(consumer)

    def _take_at_once(self, datagram: bytes) -> bool:
        """Take in a datagram where it is read, if it is a single record of data."""
        if (
            len(datagram) <= HEADER
            or datagram[0] != _APPLICATION_DATA
            or self._take_data is None
            or self._ssl is None
            or len(datagram) != HEADER + int.from_bytes(datagram[11:13], "big")
        ):
            return False
        records = self._records or self._make_records(self._ssl)
        try:
            data = records.decrypt(datagram)
            self._take_data(data)
        except (SSL.Error, ConnectionError) as exc:
            # Not authentic, or the path has just ended, which `_recv` tells.
            logger.debug("a datagram led to nothing: %r", exc)
        except Exception:
            logger.warning("a datagram was dropped", exc_info=True)
        return True

    async def _take(self, datagram: bytes) -> None:
        """Take in one datagram, whatever it is. Raises ConnectionError at the peer's goodbye."""
        first = datagram[0] if datagram else 0
        try:
            if 20 <= first <= 63:
                await self._take_records(datagram)
            elif 128 <= first <= 191 and self.state == "connected":
                await self._take_media(datagram)
        except ConnectionError:
            raise
        except Exception:
            logger.warning("a datagram was dropped", exc_info=True)

    async def _take_records(self, datagram: bytes) -> None:
        """DTLS: usually one record with one SCTP packet."""
        assert self._ssl is not None
        self._ssl.bio_write(datagram)
        plain = datagram[0] == _APPLICATION_DATA
        single = plain and len(datagram) <= HEADER + int.from_bytes(datagram[11:13], "big")
        while True:
            try:
                data = self._ssl.recv(RECORD_MAXIMUM)
            except SSL.ZeroReturnError:
                await self._write_ssl()
                logger.debug("DTLS was shut down by the peer")
                raise ConnectionError from None
            except SSL.Error:
                break  # nothing more in there, or nothing authentic
            if self._take_data is not None:
                self._take_data(data)
            if single:
                return
        # Only what is not data makes OpenSSL answer.
        if not plain:
            await self._write_ssl()

    # RTP

    def add_rtp_sender(self, sender: Any, parameters: RTCRtpSendParameters) -> None:
        """Route RTCP packets about a source to its sender."""
        self._header_extensions.configure(parameters)
        self.router.register_sender(sender, ssrc=sender.ssrc)

    def remove_rtp_sender(self, sender: Any) -> None:
        """Route nothing more to a sender."""
        self.router.unregister_sender(sender)

    def add_rtp_receiver(self, receiver: Any, parameters: RTCRtpReceiveParameters) -> None:
        """Route the sources described by the parameters to a receiver."""
        self._header_extensions.configure(parameters)
        self.router.register_receiver(
            receiver,
            ssrcs=list({encoding.ssrc for encoding in parameters.encodings}),
            payload_types=[int(codec.payloadType or 0) for codec in parameters.codecs],
            mid=parameters.muxId,
        )

    def remove_rtp_receiver(self, receiver: Any) -> None:
        """Route nothing more to a receiver."""
        self.router.unregister_receiver(receiver)

    async def send_rtp(self, data: bytes) -> None:
        """Encrypt and send an RTP or RTCP packet. Raises ConnectionError."""
        if self._state != State.CONNECTED:
            raise ConnectionError("Cannot send encrypted RTP, not connected")
        protect = self._tx_srtp.protect_rtcp if is_rtcp(data) else self._tx_srtp.protect
        await self.transport._send(protect(data))

    # aiortc's `_recv_next` decrypts the first datagram after the handshake and calls these two.

    async def _handle_rtp_data(self, data: bytes, arrival_time_ms: int) -> None:
        try:
            packet = RtpPacket.parse(data, self._header_extensions)
        except ValueError as exc:
            logger.debug("dropped an RTP packet: %s", exc)
            return
        receiver: Any = self.router.route_rtp(packet)
        if receiver is not None:
            await receiver.handle_rtp_packet(packet, arrival_time_ms)

    async def _handle_rtcp_data(self, data: bytes) -> None:
        try:
            reports = RtcpPacket.parse(data)
        except ValueError as exc:
            logger.debug("dropped an RTCP packet: %s", exc)
            return
        for report in reports:
            recipient: Any
            for recipient in self.router.route_rtcp(report):
                await recipient.handle_rtcp_packet(report)

    async def _take_media(self, datagram: bytes) -> None:
        """Decrypt an SRTP or SRTCP packet and route it."""
        arrival_time_ms = clock.current_ms()
        try:
            if is_rtcp(datagram):
                for report in RtcpPacket.parse(self._rx_srtp.unprotect_rtcp(datagram)):
                    recipient: Any
                    for recipient in self.router.route_rtcp(report):
                        await recipient.handle_rtcp_packet(report)
                return
            packet = RtpPacket.parse(self._rx_srtp.unprotect(datagram), self._header_extensions)
        except (pylibsrtp.Error, ValueError) as exc:
            logger.debug("dropped an SRTP packet: %s", exc)
            return
        receiver: Any = self.router.route_rtp(packet)
        if receiver is not None:
            await receiver.handle_rtp_packet(packet, arrival_time_ms)
