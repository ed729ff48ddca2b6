"""Data channel messages on SCTP streams (RFC 8831, 8832) to objects and back; pure, any thread."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters

DCEP = 50
STRING = 51
BINARY = 53
STRING_EMPTY = 56
BINARY_EMPTY = 57

#: What an empty message carries, since a DATA chunk must carry something.
EMPTY = b"\x00"

ACKNOWLEDGE = b"\x02"
_OPEN = 3
_OPEN_HEADER = Struct("!BBHLHH")
_UNORDERED = 0x80
_BY_RETRANSMISSIONS = 1
_BY_LIFETIME = 2


@dataclass(frozen=True)
class OpenRequest:
    """DATA_CHANNEL_OPEN."""

    label: str
    protocol: str
    kind: int
    reliability: int

    def parameters(self, stream: int) -> RTCDataChannelParameters:
        limited_by = self.kind & 0x03
        return RTCDataChannelParameters(
            label=self.label,
            protocol=self.protocol,
            ordered=not self.kind & _UNORDERED,
            maxRetransmits=self.reliability if limited_by == _BY_RETRANSMISSIONS else None,
            maxPacketLifeTime=self.reliability if limited_by == _BY_LIFETIME else None,
            id=stream,
        )


def encode_open(channel: RTCDataChannel) -> bytes:
    kind = 0 if channel.ordered else _UNORDERED
    reliability = 0
    if channel.maxRetransmits is not None:
        kind |= _BY_RETRANSMISSIONS
        reliability = channel.maxRetransmits
    elif channel.maxPacketLifeTime is not None:
        kind |= _BY_LIFETIME
        reliability = channel.maxPacketLifeTime
    label, protocol = channel.label.encode(), channel.protocol.encode()
    header = _OPEN_HEADER.pack(_OPEN, kind, 0, reliability, len(label), len(protocol))
    return header + label + protocol


def decode_control(data: bytes) -> OpenRequest | None:
    """A request to open a channel, or None for an acknowledgement. Raises ValueError otherwise."""
    if data == ACKNOWLEDGE:
        return None
    if len(data) < _OPEN_HEADER.size or data[0] != _OPEN:
        raise ValueError("neither DATA_CHANNEL_OPEN nor DATA_CHANNEL_ACK")
    _, kind, _, reliability, label_size, protocol_size = _OPEN_HEADER.unpack_from(data)
    label_end = _OPEN_HEADER.size + label_size
    if len(data) < label_end + protocol_size:
        raise ValueError("DATA_CHANNEL_OPEN is shorter than it says")
    # aiortc counts characters where bytes are meant and cuts its own labels short.
    label = data[_OPEN_HEADER.size : label_end].decode(errors="replace")
    protocol = data[label_end : label_end + protocol_size].decode(errors="replace")
    return OpenRequest(label, protocol, kind, reliability)


def encode_message(data: str | bytes) -> tuple[int, bytes]:
    """The payload protocol identifier and the bytes to send for a message."""
    if isinstance(data, str):
        return (STRING, data.encode()) if data else (STRING_EMPTY, EMPTY)
    return (BINARY, bytes(data)) if data else (BINARY_EMPTY, EMPTY)


def decode_message(protocol: int, data: bytes) -> str | bytes | None:
    """The message received; None for a kind that nobody sends any more. Raises ValueError."""
    if protocol == STRING:
        return data.decode()
    if protocol == BINARY:
        return data
    if protocol == STRING_EMPTY:
        return ""
    if protocol == BINARY_EMPTY:
        return b""
    return None
