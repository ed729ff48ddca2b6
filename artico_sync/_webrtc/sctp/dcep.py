"""The Data Channel Establishment Protocol and message encoding (RFC 8832, RFC 8831 6.6)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

# Payload protocol identifiers (RFC 8831 8).
DCEP = 50
STRING = 51
BINARY = 53
STRING_EMPTY = 56
BINARY_EMPTY = 57

#: The content of an empty message, because a DATA chunk must not be empty.
EMPTY = b"\x00"

ACKNOWLEDGE = b"\x02"
_OPEN = 3
_OPEN_HEADER = Struct("!BBHLHH")
_UNORDERED = 0x80
_BY_RETRANSMISSIONS = 1
_BY_LIFETIME = 2


@dataclass(frozen=True)
class ChannelParameters:
    """The properties of a data channel that both peers agree on (W3C RTCDataChannelInit).

    Attributes:
        label: A name, not necessarily unique.
        protocol: The name of a subprotocol.
        ordered: Whether messages are delivered in order.
        max_retransmits: Retransmissions of a message, None for any number.
        max_packet_lifetime: Milliseconds for which a message is retransmitted, None for any time.
    """

    label: str = ""
    protocol: str = ""
    ordered: bool = True
    max_retransmits: int | None = None
    max_packet_lifetime: int | None = None


def encode_open(parameters: ChannelParameters) -> bytes:
    """Encode a DATA_CHANNEL_OPEN message."""
    kind = 0 if parameters.ordered else _UNORDERED
    reliability = 0
    if parameters.max_retransmits is not None:
        kind |= _BY_RETRANSMISSIONS
        reliability = parameters.max_retransmits
    elif parameters.max_packet_lifetime is not None:
        kind |= _BY_LIFETIME
        reliability = parameters.max_packet_lifetime
    label, protocol = parameters.label.encode(), parameters.protocol.encode()
    header = _OPEN_HEADER.pack(_OPEN, kind, 0, reliability, len(label), len(protocol))
    return header + label + protocol


def decode_control(data: bytes) -> ChannelParameters | None:
    """Decode a DCEP message.

    Returns:
        The parameters of a DATA_CHANNEL_OPEN, or None for a DATA_CHANNEL_ACK.

    Raises:
        ValueError: Neither of them, or truncated.
    """
    if data == ACKNOWLEDGE:
        return None
    if len(data) < _OPEN_HEADER.size or data[0] != _OPEN:
        raise ValueError("neither DATA_CHANNEL_OPEN nor DATA_CHANNEL_ACK")
    _, kind, _, reliability, label_size, protocol_size = _OPEN_HEADER.unpack_from(data)
    label_end = _OPEN_HEADER.size + label_size
    if len(data) < label_end + protocol_size:
        raise ValueError("DATA_CHANNEL_OPEN is shorter than its length fields")
    limited_by = kind & 0x03
    return ChannelParameters(
        # aiortc counts characters instead of bytes, which can cut its labels within a character.
        label=data[_OPEN_HEADER.size : label_end].decode(errors="replace"),
        protocol=data[label_end : label_end + protocol_size].decode(errors="replace"),
        ordered=not kind & _UNORDERED,
        max_retransmits=reliability if limited_by == _BY_RETRANSMISSIONS else None,
        max_packet_lifetime=reliability if limited_by == _BY_LIFETIME else None,
    )


def encode_message(data: str | bytes) -> tuple[int, bytes]:
    """Return the payload protocol identifier and the content of a message."""
    if isinstance(data, str):
        return (STRING, data.encode()) if data else (STRING_EMPTY, EMPTY)
    return (BINARY, bytes(data)) if data else (BINARY_EMPTY, EMPTY)


def decode_message(protocol: int, data: bytes) -> str | bytes | None:
    """Return a received message, None for a deprecated or unknown payload protocol identifier.

    Raises:
        ValueError: Text that is not UTF-8.
    """
    if protocol == STRING:
        return data.decode()
    if protocol == BINARY:
        return data
    if protocol == STRING_EMPTY:
        return ""
    if protocol == BINARY_EMPTY:
        return b""
    return None
