"""The DTLS transport: aiortc's handshake, and a faster, more robust way for all that follows it.

aiortc awaits four times per datagram, asks OpenSSL for output that is not there (an exception each
time), and ends the connection at the first exception of a receiver.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pylibsrtp
from aiortc import RTCIceTransport, clock
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsFingerprint
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters
from aiortc.rtp import RtcpPacket, RtpPacket, is_rtcp
from OpenSSL import SSL

from artico_sync._speedups.gil_held_dtls import (
    RECORD_MAX_BYTES,
    RECORD_OVERHEAD_BYTES,
    Records,
    make_records,
)
from artico_sync._speedups.gso import BATCH_MAX_BYTES, BATCH_MAX_DATAGRAMS
from artico_sync._webrtc._aiortc.dtls import (
    AiortcCertificate,
    AiortcDtlsTransport,
    handles_of,
)
from artico_sync._webrtc.rtp.receiver import BoundedRouter, TolerantExtensionsMap

if TYPE_CHECKING:
    from aiortc.rtcdtlstransport import SRTPProtectionProfile

logger = logging.getLogger(__name__)

#: Bytes of the header of a record (RFC 6347 4.1).
HEADER_BYTES = 13
#: A certificate lives for 30 days; with no more than this left it is used for no new call.
REMAINING_LIFE = datetime.timedelta(days=29)
#: Datagrams processed before control returns to the event loop.
BATCH = 64

_APPLICATION_DATA = 23


def gso_batches(packets: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield the packets in batches for UDP_SEGMENT: of equal size, the last may be smaller."""
    begin = size = 0
    for index, packet in enumerate(packets):
        needed = len(packet) + RECORD_OVERHEAD_BYTES
        if index > begin and (
            index - begin == BATCH_MAX_DATAGRAMS
            or size + needed > BATCH_MAX_BYTES
            or not len(packets[index - 1]) == len(packets[begin]) >= len(packet)
        ):
            yield packets[begin:index]
            begin, size = index, 0
        size += needed
    yield packets[begin:]


class Certificate(AiortcCertificate):
    """A certificate for many calls: what is computed from it is computed once."""

    _context: SSL.Context | None = None
    _fingerprints: list[RTCDtlsFingerprint] | None = None

    @property
    def is_stale(self) -> bool:
        """True if new connections need another certificate."""
        return self.expires - datetime.datetime.now(datetime.UTC) < REMAINING_LIFE

    def getFingerprints(self) -> list[RTCDtlsFingerprint]:
        if self._fingerprints is None:
            self._fingerprints = super().getFingerprints()
        return list(self._fingerprints)

    def make_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        """Return one context for all connections; aiortc always asks for the same profiles."""
        if self._context is None:
            self._context = super().make_context(srtp_profiles)
            # Nothing resumes a session; a context that lives long would only collect them.
            self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        return self._context


class DtlsTransport(AiortcDtlsTransport):
    """Encrypts SCTP packets and media; the peer connection starts and stops it."""

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
        """True if the ICE transport sends without awaiting, as `send_packets` needs."""
        return hasattr(self.transport, "send_batch")

    def send_packets(self, packets: Sequence[bytes]) -> None:
        """Encrypt packets and send each as a datagram, without awaiting. Raises ConnectionError."""
        if self.state != "connected" or self.openssl is None:
            raise ConnectionError("Cannot send encrypted data, not connected")
        records = self._records or self._make_records(self.openssl)
        send_batch: Callable[[bytes | memoryview, int], None] = getattr(
            self.transport, "send_batch"
        )
        for batch in (packets,) if len(packets) == 1 else gso_batches(packets):
            try:
                data = records.encrypt(batch)
            except SSL.Error as exc:
                raise ConnectionError(f"Cannot encrypt: {exc!r}") from exc
            single = len(batch) == 1
            send_batch(
                data, len(data) if single else HEADER_BYTES + int.from_bytes(data[11:13], "big")
            )

    def _make_records(self, connection: SSL.Connection) -> Records:
        self._records = records = make_records(connection, handles_of, accelerate=self._accelerate)
        return records

    @property
    def is_client(self) -> bool:
        """True if this end has the DTLS role of the client."""
        return self.role == "client"

    @property
    def packet_maximum(self) -> int:
        """The largest packet that fits into a record, in bytes."""
        return RECORD_MAX_BYTES

    async def send_packet(self, packet: bytes) -> None:
        """Encrypt a packet and send it. Raises ConnectionError."""
        if self.state != "connected" or self.openssl is None:
            raise ConnectionError("Cannot send encrypted data, not connected")
        self.openssl.send(packet)
        await self.flush_openssl()

    def set_packet_receiver(self, receive: Callable[[bytes], None] | None) -> None:
        """Hand each packet to this function once it is decrypted."""
        self._take_data = receive

    async def process_handshake_datagram(self) -> None:
        """Process one datagram of the handshake, or its timeout.

        The last flight may have to be retransmitted after the handshake has completed, so this
        goes on until OpenSSL needs no timeout any more.
        """
        assert self.openssl is not None
        timeout = self.openssl.DTLSv1_get_timeout()
        if timeout is None and self.encrypted:
            self._handshake_done = True
        try:
            async with asyncio.timeout(timeout):
                datagram = await self.receive_datagram()
        except TimeoutError:
            self.openssl.DTLSv1_handle_timeout()
            await self.flush_openssl()
            return
        await self._take(datagram)

    async def run(self) -> None:
        """Process datagrams until the connection ends."""
        try:
            while not self._handshake_done:
                await self.process_handshake_datagram()
            take_waiting: Any = getattr(self.transport, "receive_now", None)
            self._consume(self._take_at_once)
            while True:
                await self._take(await self.receive_datagram())
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
            self.set_closed()

    def _consume(self, consumer: Callable[[bytes], bool] | None) -> None:
        consume = getattr(self.transport, "consume", None)
        if consume is not None:
            consume(consumer)

    def _take_at_once(self, datagram: bytes) -> bool:
        """Take in a datagram where it is read, if it is a single record of data."""
        if (
            len(datagram) <= HEADER_BYTES
            or datagram[0] != _APPLICATION_DATA
            or self._take_data is None
            or self.openssl is None
            or len(datagram) != HEADER_BYTES + int.from_bytes(datagram[11:13], "big")
        ):
            return False
        records = self._records or self._make_records(self.openssl)
        try:
            data = records.decrypt(datagram)
            self._take_data(data)
        except (SSL.Error, ConnectionError) as exc:
            # Not authentic, or the path has just ended, which `receive_datagram` reports.
            logger.debug("dropped a datagram: %r", exc)
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
        openssl = self.openssl
        assert openssl is not None
        openssl.bio_write(datagram)
        plain = datagram[0] == _APPLICATION_DATA
        single = plain and len(datagram) <= HEADER_BYTES + int.from_bytes(datagram[11:13], "big")
        while True:
            try:
                data = openssl.recv(RECORD_MAX_BYTES)
            except SSL.ZeroReturnError:
                await self.flush_openssl()
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
            await self.flush_openssl()

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
        if self.state != "connected":
            raise ConnectionError("Cannot send encrypted RTP, not connected")
        protect = self.srtp_out.protect_rtcp if is_rtcp(data) else self.srtp_out.protect
        await self.send_datagram(protect(data))

    async def _take_media(self, datagram: bytes) -> None:
        """Decrypt an SRTP or SRTCP packet and route it."""
        arrival_time_ms = clock.current_ms()
        try:
            if is_rtcp(datagram):
                for report in RtcpPacket.parse(self.srtp_in.unprotect_rtcp(datagram)):
                    recipient: Any
                    for recipient in self.router.route_rtcp(report):
                        await recipient.handle_rtcp_packet(report)
                return
            packet = RtpPacket.parse(self.srtp_in.unprotect(datagram), self._header_extensions)
        except (pylibsrtp.Error, ValueError) as exc:
            logger.debug("dropped an SRTP packet: %s", exc)
            return
        receiver: Any = self.router.route_rtp(packet)
        if receiver is not None:
            await receiver.handle_rtp_packet(packet, arrival_time_ms)
