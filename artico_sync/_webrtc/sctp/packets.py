"""SCTP packets and chunks, encoded and decoded (RFC 9260, 3758, 4820, 6525).

Malformed input raises ValueError, and no loop runs longer than its input is long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct, error
from typing import NamedTuple

from google_crc32c import extend as extend_crc32c
from google_crc32c import value as crc32c

COMMON_HEADER_LENGTH = 12
CHUNK_HEADER_LENGTH = 4
DATA_HEADER_LENGTH = 16

DATA = 0
INIT = 1
INIT_ACK = 2
SACK = 3
HEARTBEAT = 4
HEARTBEAT_ACK = 5
ABORT = 6
SHUTDOWN = 7
SHUTDOWN_ACK = 8
ERROR = 9
COOKIE_ECHO = 10
COOKIE_ACK = 11
SHUTDOWN_COMPLETE = 14
RECONFIG = 130
PAD = 132
FORWARD_TSN = 192

FLAG_END = 0x01
FLAG_BEGIN = 0x02
FLAG_UNORDERED = 0x04
FLAG_IMMEDIATE = 0x08
#: The T bit of ABORT and SHUTDOWN COMPLETE: the packet carries the sender's own verification tag.
FLAG_REFLECTED_TAG = 0x01

PARAMETER_COOKIE = 0x0007
PARAMETER_RESET_OUTGOING = 0x000D
PARAMETER_RESET_RESPONSE = 0x0010
PARAMETER_ADD_OUTGOING = 0x0011
PARAMETER_SUPPORTED_CHUNKS = 0x8008
PARAMETER_FORWARD_TSN = 0xC000
#: Announces artico_sync. Its two high bits make other stacks skip it without an error report.
PARAMETER_ARTICO_SYNC = 0xBFA5

CAUSE_STALE_COOKIE = 3
CAUSE_USER_INITIATED_ABORT = 12

TSN_MODULO = 1 << 32
#: Gap blocks have 16-bit offsets from the cumulative TSN: nothing beyond can be acknowledged.
GAP_REACH = 65535

_COMMON = Struct("!HHLL")
_CHECKSUM = Struct("<L")
_CHUNK = Struct("!BBH")
_DATA = Struct("!LHHL")
#: Type, flags, length, TSN, stream, stream sequence number, payload protocol: 16 bytes.
DATA_CHUNK = Struct("!BBHLHHL")
_INIT = Struct("!LLHHL")
_SACK = Struct("!LLHH")
_PLAIN_SACK = Struct("!BBHLLHH")
_TWO_SHORTS = Struct("!HH")
_LONG = Struct("!L")
_PADDING = (b"", b"\x00\x00\x00", b"\x00\x00", b"\x00")


class Data(NamedTuple):
    """A received DATA chunk."""

    tsn: int
    flags: int
    stream: int
    sequence: int
    protocol: int
    payload: bytes


@dataclass(frozen=True)
class Init:
    """The body of an INIT or INIT ACK chunk."""

    tag: int
    a_rwnd: int
    outbound_streams: int
    inbound_streams: int
    initial_tsn: int
    parameters: tuple[tuple[int, bytes], ...] = ()

    def encode(self) -> bytes:
        return _INIT.pack(
            self.tag, self.a_rwnd, self.outbound_streams, self.inbound_streams, self.initial_tsn
        ) + encode_parameters(self.parameters)

    @classmethod
    def decode(cls, body: bytes) -> Init:
        """Decode a chunk body.

        Raises:
            ValueError: Malformed, or forbidden by RFC 9260 5.1.
        """
        try:
            fields = _INIT.unpack_from(body)
        except error as exc:
            raise ValueError("INIT is too short") from exc
        tag, a_rwnd, outbound, inbound, initial_tsn = fields
        parameters = tuple(decode_parameters(body[_INIT.size :]))
        init = cls(tag, a_rwnd, outbound, inbound, initial_tsn, parameters)
        if not init.tag or not init.outbound_streams or not init.inbound_streams:
            raise ValueError("INIT with a zero tag or without streams")
        return init

    def parameter(self, kind: int) -> bytes | None:
        """Return the value of the first parameter of a type."""
        for found, value in self.parameters:
            if found == kind:
                return value
        return None


def encode_plain_sack(cumulative_tsn_ack: int, a_rwnd: int) -> bytes:
    """Encode a SACK chunk without gap blocks."""
    return _PLAIN_SACK.pack(SACK, 0, _PLAIN_SACK.size, cumulative_tsn_ack, a_rwnd, 0, 0)


class Sack(NamedTuple):
    """A selective acknowledgement. Gap blocks are offsets from `cumulative_tsn_ack`."""

    cumulative_tsn_ack: int
    a_rwnd: int
    gaps: tuple[tuple[int, int], ...] = ()
    duplicates: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Encode the chunk, header included."""
        if not (self.gaps or self.duplicates):
            return encode_plain_sack(self.cumulative_tsn_ack, self.a_rwnd)
        body = b"".join(
            [
                _SACK.pack(
                    self.cumulative_tsn_ack, self.a_rwnd, len(self.gaps), len(self.duplicates)
                ),
                *[_TWO_SHORTS.pack(*gap) for gap in self.gaps],
                *[_LONG.pack(tsn) for tsn in self.duplicates],
            ]
        )
        return chunk(SACK, body)

    @classmethod
    def decode(cls, body: bytes) -> Sack:
        """Decode a chunk body; raise ValueError if it is truncated or its gap blocks overlap."""
        try:
            cumulative_tsn_ack, a_rwnd, gap_count, duplicate_count = _SACK.unpack_from(body)
            if len(body) < _SACK.size + 4 * (gap_count + duplicate_count):
                raise ValueError("SACK is shorter than it says")
            if not (gap_count or duplicate_count):
                return cls(cumulative_tsn_ack, a_rwnd)
            gaps = tuple(
                _TWO_SHORTS.unpack_from(body, _SACK.size + 4 * index) for index in range(gap_count)
            )
            duplicates = tuple(
                _LONG.unpack_from(body, _SACK.size + 4 * (gap_count + index))[0]
                for index in range(duplicate_count)
            )
        except error as exc:
            raise ValueError("SACK is too short") from exc
        last = 0
        for start, end in gaps:
            if start <= last or end < start:
                raise ValueError("SACK with gap blocks that overlap or run backwards")
            last = end
        return cls(cumulative_tsn_ack, a_rwnd, gaps, duplicates)


@dataclass(frozen=True)
class ForwardTsn:
    """A FORWARD TSN chunk. Its stream list is ignored: reassembly goes by TSN."""

    new_cumulative_tsn: int

    @classmethod
    def decode(cls, body: bytes) -> ForwardTsn:
        if len(body) < 4:
            raise ValueError("FORWARD TSN is too short")
        return cls(_LONG.unpack_from(body)[0])


@dataclass(frozen=True)
class ResetRequest:
    """Outgoing SSN Reset Request (RFC 6525 4.1). No streams means all of them."""

    request: int
    response: int
    last_tsn: int
    streams: tuple[int, ...]

    def encode(self) -> bytes:
        return Struct(f"!LLL{len(self.streams)}H").pack(
            self.request, self.response, self.last_tsn, *self.streams
        )

    @classmethod
    def decode(cls, body: bytes) -> ResetRequest:
        if len(body) < 12 or len(body) % 2:
            raise ValueError("stream reset request of an odd length")
        request, response, last_tsn, *streams = Struct(f"!LLL{(len(body) - 12) // 2}H").unpack(body)
        return cls(request, response, last_tsn, tuple(streams))


@dataclass(frozen=True)
class ResetResponse:
    """Re-configuration Response (RFC 6525 4.4)."""

    response: int
    result: int

    def encode(self) -> bytes:
        return Struct("!LL").pack(self.response, self.result)

    @classmethod
    def decode(cls, body: bytes) -> ResetResponse:
        if len(body) < 8:
            raise ValueError("re-configuration response is too short")
        return cls(*Struct("!LL").unpack_from(body))


def decode_parameters(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and value of each parameter; raise ValueError if a length is impossible."""
    position = 0
    while position <= len(body) - 4:
        kind, length = _TWO_SHORTS.unpack_from(body, position)
        if length < 4 or position + length > len(body):
            raise ValueError(f"parameter with an impossible length of {length}")
        yield kind, body[position + 4 : position + length]
        position += length + (-length % 4)


def encode_parameters(parameters: tuple[tuple[int, bytes], ...]) -> bytes:
    """Encode parameters, padded but for the last one, which is padded with its chunk."""
    encoded = b""
    for kind, value in parameters:
        encoded += _PADDING[len(encoded) % 4]
        encoded += _TWO_SHORTS.pack(kind, len(value) + 4) + value
    return encoded


def chunk(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    """Encode a chunk with its header and padding."""
    length = CHUNK_HEADER_LENGTH + len(body)
    return _CHUNK.pack(kind, flags, length) + body + _PADDING[length % 4]


def padding(length: int) -> bytes:
    """Return the bytes that pad a chunk of `length` bytes to a multiple of four."""
    return _PADDING[length % 4]


def decode_data(packet: bytes, flags: int, start: int, end: int) -> Data:
    """Decode the DATA chunk whose body is packet[start:end]; raise ValueError if it is empty."""
    if end - start <= _DATA.size:
        raise ValueError("DATA without user data")
    tsn, stream, sequence, protocol = _DATA.unpack_from(packet, start)
    return Data(tsn, flags, stream, sequence, protocol, packet[start + _DATA.size : end])


def build_packet(source: int, destination: int, tag: int, parts: list[bytes | memoryview]) -> bytes:
    """Encode a packet of padded chunks, given whole or in consecutive pieces."""
    header = _COMMON.pack(source, destination, tag, 0)
    body = b"".join(parts)
    return header[:8] + _CHECKSUM.pack(extend_crc32c(crc32c(header), body)) + body


def read_tag(packet: bytes) -> int:
    """Return the verification tag of a packet; raise ValueError if the checksum is wrong."""
    if len(packet) < COMMON_HEADER_LENGTH + CHUNK_HEADER_LENGTH:
        raise ValueError("packet is too short")
    # The checksum is computed with its own field set to zero (RFC 9260 6.8).
    header = crc32c(packet[:8] + b"\x00\x00\x00\x00")
    if _CHECKSUM.unpack_from(packet, 8)[0] != extend_crc32c(header, packet[12:]):
        raise ValueError("wrong checksum")
    return int(_LONG.unpack_from(packet, 4)[0])


def split_chunks(
    packet: bytes, position: int = COMMON_HEADER_LENGTH
) -> list[tuple[int, int, int, int]]:
    """Return (type, flags, start of body, end) of each chunk up to the first malformed one."""
    chunks = []
    limit = len(packet) - CHUNK_HEADER_LENGTH
    while position <= limit:
        kind, flags, length = _CHUNK.unpack_from(packet, position)
        end = position + length
        if length < CHUNK_HEADER_LENGTH or end > len(packet):
            break
        chunks.append((kind, flags, position + CHUNK_HEADER_LENGTH, end))
        position = end + (-length % 4)
    return chunks


def unwrap(tsn: int, reference: int) -> int:
    """Return the unbounded TSN nearest to `reference` whose lower 32 bits are `tsn`."""
    delta = (tsn - reference) & 0xFFFFFFFF
    return reference + delta if delta < 0x80000000 else reference + delta - TSN_MODULO
