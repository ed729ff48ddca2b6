"""Credentials of ICE, and STUN Binding messages as bytes for consent checks (RFC 7675).

During a call, each side sends about one request per second. The requests differ only in their
transaction id and in the attributes computed from it, so they are built and verified here without
parsing. Messages of any other shape are processed by aioice.
"""

from __future__ import annotations

import base64
import hmac
import os
import struct
from binascii import crc32

from aioice import stun

REQUEST = b"\x00\x01"
RESPONSE = b"\x01\x01"
COOKIE = struct.pack("!I", stun.COOKIE)

#: MESSAGE-INTEGRITY and FINGERPRINT, the last attributes of every message of ICE.
INTEGRITY_HEADER = b"\x00\x08\x00\x14"
FINGERPRINT_HEADER = b"\x80\x28\x00\x04"
TAIL = 4 + 20 + 4 + 4
HEADER = 20
#: Random octets of the credentials (RFC 8839 5.4 requires at least 3 and 16).
USERNAME_OCTETS = 6
PASSWORD_OCTETS = 18


def random_credential(octets: int) -> str:
    """Return a random credential; `octets` must be a multiple of 3 (no base64 padding)."""
    return base64.b64encode(os.urandom(octets)).decode()


def _signed(kind: bytes, transaction_id: bytes, attributes: bytes, key: bytes) -> bytes:
    """Return the whole message, with MESSAGE-INTEGRITY and FINGERPRINT."""
    rest = COOKIE + transaction_id + attributes
    length = len(attributes)
    digest = hmac.digest(key, kind + struct.pack("!H", length + 24) + rest, "sha1")
    message = kind + struct.pack("!H", length + TAIL) + rest + INTEGRITY_HEADER + digest
    checksum = crc32(message) ^ stun.FINGERPRINT_XOR
    return message + FINGERPRINT_HEADER + struct.pack("!I", checksum)


class BindingRequest(stun.Message):
    """A request that is serialized once; aioice does that at every step of signing and sending.

    It must not be changed after it is signed.
    """

    _bytes: bytes | None = None

    def add_message_integrity(self, key: bytes) -> None:
        self._bytes = make_request(self.transaction_id, attributes_of(self), key)

    def __bytes__(self) -> bytes:
        return super().__bytes__() if self._bytes is None else self._bytes


def attributes_of(message: stun.Message) -> bytes:
    """Return the attributes of a message that is not signed yet, as bytes."""
    return bytes(message)[HEADER:]


def make_request(transaction_id: bytes, attributes: bytes, key: bytes) -> bytes:
    """Return a signed Binding request."""
    return _signed(REQUEST, transaction_id, attributes, key)


def make_response(transaction_id: bytes, address: tuple[str, int], key: bytes) -> bytes:
    """Return a signed Binding success response with XOR-MAPPED-ADDRESS."""
    value = stun.pack_xor_address(address, transaction_id)
    attribute = struct.pack("!HH", 0x0020, len(value)) + value
    return _signed(RESPONSE, transaction_id, attribute, key)


def split(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return kind, transaction id and attributes; None if the message has another shape."""
    if (
        len(data) < HEADER + TAIL
        or data[4:8] != COOKIE
        or data[-8:-4] != FINGERPRINT_HEADER
        or data[-TAIL : -TAIL + 4] != INTEGRITY_HEADER
        or struct.unpack_from("!H", data, 2)[0] != len(data) - HEADER
    ):
        return None
    return data[:2], data[8:20], data[HEADER:-TAIL]


def is_authentic(data: bytes, key: bytes) -> bool:
    """Return whether a message that `split` accepts is signed with `key`."""
    length = struct.pack("!H", len(data) - HEADER - 8)
    digest = hmac.digest(key, data[:2] + length + data[4:-TAIL], "sha1")
    return hmac.compare_digest(digest, data[-TAIL + 4 : -8])
