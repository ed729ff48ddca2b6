"""One certificate for all calls of a client, computed once, and another when it grows old."""

from __future__ import annotations

import pytest
from aiortc.rtcdtlstransport import SRTP_PROFILES, RTCCertificate

from artico_sync.engine.rtc import dtls
from artico_sync.engine.rtc.dtls import Certificate


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
