"""Two ends of a DTLS connection in memory, for tests and benchmarks of records."""

from __future__ import annotations

from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES
from OpenSSL import SSL

CIPHERTEXT_MTU = 1200


def handshake() -> tuple[SSL.Connection, SSL.Connection]:
    """Return a client and a server whose handshake is complete."""
    certificate = RTCCertificate.generateCertificate()
    ends = []
    for is_server in (False, True):
        connection = SSL.Connection(certificate._create_ssl_context(SRTP_PROFILES))
        connection.set_accept_state() if is_server else connection.set_connect_state()
        connection.set_ciphertext_mtu(CIPHERTEXT_MTU)
        ends.append(connection)
    client, server = ends
    done: set[SSL.Connection] = set()
    while len(done) < 2:
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
                done.add(end)
            except SSL.WantReadError:
                pass
            try:
                while True:
                    other.bio_write(end.bio_read(1500))
            except SSL.WantReadError:
                pass
    return client, server
