"""aiortc's DTLS transport and certificate, and pyOpenSSL's connection, with public names for their
private parts.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pylibsrtp
from aiortc import RTCDtlsTransport
from aiortc.rtcdtlstransport import RTCCertificate, SRTPProtectionProfile, State
from OpenSSL import SSL

from artico_sync._speedups.gil_held_dtls import OpenSslHandles
from artico_sync._webrtc._aiortc import Alias


class AiortcDtlsTransport(RTCDtlsTransport):
    """The handshake of DTLS-SRTP (RFC 5763, RFC 5764); what follows it is the derived class's."""

    #: The connection of pyOpenSSL, None before the start.
    openssl = Alias[SSL.Connection | None]("_ssl")
    #: "auto", "client" or "server"; may be set until the start.
    role = Alias[str]("_role")
    #: The SRTP sessions of received and sent packets, None before the handshake is complete.
    srtp_in = Alias[pylibsrtp.Session]("_rx_srtp")
    srtp_out = Alias[pylibsrtp.Session]("_tx_srtp")
    #: Sends what OpenSSL has written.
    flush_openssl = Alias[Callable[[], Coroutine[Any, Any, None]]]("_write_ssl")

    def set_closed(self) -> None:
        """Enter the state "closed"."""
        self._set_state(State.CLOSED)

    async def receive_datagram(self) -> bytes:
        """Return the next datagram from ICE; raise ConnectionError at its end."""
        data: bytes = await self.transport._recv()
        return data

    async def send_datagram(self, data: bytes) -> None:
        """Send a datagram over ICE; raise ConnectionError if it has no path."""
        await self.transport._send(data)

    async def _recv_next(self) -> None:
        # Called by the handshake while OpenSSL waits for the peer.
        await self.process_handshake_datagram()

    async def process_handshake_datagram(self) -> None:
        """Process one datagram of the handshake."""
        raise AssertionError("the derived class processes datagrams")

    async def _RTCDtlsTransport__run(self) -> None:
        # Called by `start` once the handshake is complete.
        await self.run()

    async def run(self) -> None:
        """Process datagrams until the connection ends."""
        raise AssertionError("the derived class processes datagrams")


class AiortcCertificate(RTCCertificate):
    """A DTLS certificate with its private key."""

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        # Called by the start of each DTLS transport.
        return self.make_context(srtp_profiles)

    def make_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        """Make the context of pyOpenSSL for connections with this certificate."""
        return super()._create_ssl_context(srtp_profiles)


def handles_of(connection: SSL.Connection) -> OpenSslHandles:
    """Return the C objects of a connection whose handshake is complete.

    Raises:
        ImportError, AttributeError: pyOpenSSL has other internals than expected.
    """
    # cffi's access to the library, which ctypes cannot find by itself: wheels link it statically.
    from OpenSSL._util import ffi, lib

    raise_error: Callable[[Any, int], None] = connection._raise_ssl_error
    return OpenSslHandles(
        ffi=ffi,
        library=lib,
        ssl=connection._ssl,
        into_ssl=connection._into_ssl,
        from_ssl=connection._from_ssl,
        raise_error=lambda result: raise_error(connection._ssl, result),
    )
