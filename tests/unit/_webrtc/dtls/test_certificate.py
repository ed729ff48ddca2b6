"""One certificate for all calls of a client, computed once, and another when it grows old."""

from __future__ import annotations

import asyncio

import pytest
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate

from artico_sync._protocol.settings import Settings
from artico_sync._webrtc.dtls import transport as dtls
from artico_sync._webrtc.dtls.transport import Certificate
from artico_sync._webrtc.peer_connection import PeerConnection


def test_computes_what_aiortc_does_once() -> None:
    certificate = Certificate.generateCertificate()
    assert not certificate.is_stale
    assert certificate.getFingerprints() == RTCCertificate.getFingerprints(certificate)
    assert certificate.getFingerprints() is not certificate.getFingerprints()
    context = certificate._create_ssl_context(SRTP_PROFILES)
    assert certificate._create_ssl_context(SRTP_PROFILES) is context


def test_is_stale_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = Certificate.generateCertificate()
    monkeypatch.setattr(dtls, "REMAINING_LIFE", dtls.REMAINING_LIFE * 2)
    assert certificate.is_stale


def test_a_connection_makes_none_where_it_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = Certificate.generateCertificate()

    def refuse(*_: object) -> None:
        raise AssertionError("a certificate nobody wants")

    monkeypatch.setattr(RTCCertificate, "generateCertificate", refuse)

    async def main() -> None:
        connection = PeerConnection(None, Settings(accelerate=True), certificate)
        fingerprints = connection._transports.dtls.getLocalParameters().fingerprints
        assert fingerprints == certificate.getFingerprints()
        await connection.close()

    asyncio.run(main())
