"""DTLS records without releasing the GIL, and the plain twin."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator

import pytest
from OpenSSL import SSL

from artico_sync._speedups import gil_held_dtls
from artico_sync._speedups.gil_held_dtls import (
    RECORD_OVERHEAD_BYTES,
    GilHeldRecords,
    PlainRecords,
    Records,
    make_records,
)
from artico_sync._webrtc._aiortc.dtls import handles_of
from artico_sync._webrtc.dtls.transport import HEADER_BYTES
from tests.dtls_handshake import handshake

PACKETS = [b"a" * 16384, b"b" * 16384, b"c" * 700, b"d"]


def records_of(connection: SSL.Connection, *, accelerate: bool) -> Records:
    return make_records(connection, handles_of, accelerate=accelerate)


def split(records: bytes) -> list[bytes]:
    found = []
    while records:
        length = HEADER_BYTES + int.from_bytes(records[11:13], "big")
        found.append(records[:length])
        records = records[length:]
    return found


@pytest.mark.parametrize("accelerate", [True, False])
def test_what_one_end_encrypts_the_other_decrypts(accelerate: bool) -> None:
    client, server = handshake()
    sender = records_of(client, accelerate=accelerate)
    receiver = records_of(server, accelerate=not accelerate)
    assert isinstance(sender, GilHeldRecords if accelerate else PlainRecords)
    for packets in (PACKETS[-1:], PACKETS, PACKETS[1:]):
        records = split(bytes(sender.encrypt(packets)))
        assert [receiver.decrypt(record) for record in records] == packets
        assert all(len(r) - len(p) <= RECORD_OVERHEAD_BYTES for r, p in zip(records, packets))
    assert [sender.decrypt(r) for r in split(bytes(receiver.encrypt([b"back"])))] == [b"back"]


@pytest.mark.parametrize("accelerate", [True, False])
def test_a_forged_record_is_an_error_and_harms_nothing(accelerate: bool) -> None:
    client, server = handshake()
    sender, receiver = (records_of(end, accelerate=accelerate) for end in (client, server))
    forged = bytearray(sender.encrypt([b"mine"]))
    forged[-1] ^= 1
    with pytest.raises(SSL.Error):
        receiver.decrypt(bytes(forged))
    with pytest.raises(SSL.Error):
        receiver.decrypt(bytes(forged[:HEADER_BYTES]))
    assert receiver.decrypt(bytes(sender.encrypt([b"next"]))) == b"next"


@pytest.mark.parametrize("accelerate", [True, False])
def test_a_connection_that_was_shut_down_says_so(accelerate: bool) -> None:
    client, server = handshake()
    sender, receiver = (records_of(end, accelerate=accelerate) for end in (client, server))
    server.shutdown()
    with pytest.raises(SSL.Error):
        sender.decrypt(server.bio_read(1500))
    with pytest.raises(SSL.Error):
        receiver.encrypt([b"too late"])


@pytest.fixture
def forget_functions() -> Iterator[None]:
    gil_held_dtls._functions.cache_clear()
    yield
    gil_held_dtls._functions.cache_clear()


def test_without_the_functions_pyopenssl_is_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, forget_functions: None
) -> None:
    monkeypatch.delattr(ctypes, "PYFUNCTYPE")
    client, server = handshake()
    with caplog.at_level(logging.INFO, "artico_sync"):
        sender, receiver = (records_of(end, accelerate=True) for end in (client, server))
    assert isinstance(sender, PlainRecords)
    assert receiver.decrypt(bytes(sender.encrypt([b"plain"]))) == b"plain"
    assert caplog.text.count("pyOpenSSL's own interface") == 1
